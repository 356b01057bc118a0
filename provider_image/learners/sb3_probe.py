"""Probes by SB3's policies: what they would do, before and after each update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    Distribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.noise import VectorizedActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize

from provider_image.environments import EnvironmentRefused
from provider_image.learners.base import LearnerRefused, Probe, TrainingFailed
from provider_image.learners.divergence import (
    Bernoulli,
    Categorical,
    Certain,
    Decisions,
    Gaussian,
    Greedy,
)
from provider_image.learners.probing import ActTogether, met_observations, probe
from provider_image.learners.sb3_environments import training_environment
from provider_image.learners.sb3_models import ModelPlan, build_model
from provider_image.learners.sb3_state import load_model, load_policy
from provider_image.wire import ProbeOrder, Tensors, WireError

_ERROR_LETTERS = 300
_ROWS_AT_ONCE = 512


def probe_sb3(order: ProbeOrder, received: Tensors, updates: Tensors) -> Probe:
    """See `base.Learner.probe`."""
    built_on = training_environment(order.environment, order.rules, n_envs=1)
    try:
        model = build_model(ModelPlan(order.environment, order.learner, seed=0), built_on.outermost)
        load_model(model, received, order.rules, built_on.normalizer)
        model.policy.set_training_mode(False)
        return _probe_with(model, built_on.normalizer, order, received, updates)
    except (ArithmeticError, AssertionError, RuntimeError, ValueError) as error:
        if isinstance(error, TrainingFailed | LearnerRefused | WireError | EnvironmentRefused):
            raise
        raise TrainingFailed(
            f"the probe broke off: {type(error).__name__}: {str(error)[:_ERROR_LETTERS]}"
        ) from error
    finally:
        built_on.close()


def _probe_with(
    model: BaseAlgorithm,
    normalizer: VecNormalize | None,
    order: ProbeOrder,
    received: Tensors,
    updates: Tensors,
) -> Probe:
    def seen(observations: list[Any]) -> Any:
        if isinstance(observations[0], dict):
            return {key: np.stack([o[key] for o in observations]) for key in observations[0]}
        stacked = np.stack(observations)
        return stacked if normalizer is None else normalizer.normalize_obs(stacked)

    model.set_random_seed(order.seeds[0])
    met = met_observations(order, _player(model, len(order.seeds), seen))
    pieces = [
        model.policy.obs_to_tensor(seen(met[start : start + _ROWS_AT_ONCE]))[0]
        for start in range(0, len(met), _ROWS_AT_ONCE)
    ]

    def decide(policy: Tensors) -> Decisions | None:
        load_policy(model, policy)
        try:
            with torch.no_grad():
                return _joined([_decisions(model, piece) for piece in pieces])
        except ValueError:  # torch makes no distribution of what is not finite
            return None

    return probe(received, updates, decide)


def _player(
    model: BaseAlgorithm, environments: int, seen: Callable[[list[Any]], Any]
) -> ActTogether:
    """Act with the noise of training; DQN explores as it does at the end of its schedule."""
    if not isinstance(model, OffPolicyAlgorithm):
        if model.use_sde:
            model.policy.reset_noise(environments)  # type: ignore[operator]
        return lambda observations: list(model.predict(seen(observations), deterministic=False)[0])
    if isinstance(model, DQN):
        model.exploration_rate = model.exploration_final_eps
    elif model.use_sde:
        model.actor.reset_noise(environments)  # type: ignore[operator]
    noise = model.action_noise
    if noise is not None:
        noise = VectorizedActionNoise(noise, environments)

    def act(observations: list[Any]) -> list[Any]:
        model._last_obs = seen(observations)
        return list(model._sample_action(0, noise, environments)[0])

    return act


def _decisions(model: BaseAlgorithm, observations: Any) -> Decisions:
    policy = model.policy
    if isinstance(model, DQN):
        return Greedy(model.q_net(observations).numpy())
    if isinstance(policy, ActorCriticPolicy):
        return _of_distribution(policy.get_distribution(observations))
    # actors of SAC, TD3 and DDPG end in tanh, whatever the bounds of the action space
    return Certain(policy._predict(observations, deterministic=True).numpy())


def _of_distribution(found: Distribution) -> Decisions:
    match found:
        case CategoricalDistribution():
            return Categorical((found.distribution.logits.numpy(),))
        case MultiCategoricalDistribution():
            return Categorical(tuple(part.logits.numpy() for part in found.distribution))
        case BernoulliDistribution():
            return Bernoulli(found.distribution.logits.numpy())
    # plain or state-dependent; squashing both policies alike changes no divergence
    normal: Any = found.distribution
    return Gaussian(normal.mean.numpy(), normal.stddev.log().numpy())


def _joined(parts: list[Decisions]) -> Decisions:
    first = parts[0]
    if isinstance(first, Categorical):
        tables = zip(*(part.logits for part in parts if isinstance(part, Categorical)), strict=True)
        return Categorical(tuple(np.concatenate(table) for table in tables))
    kind: Any = type(first)
    return kind(*(np.concatenate(column) for column in zip(*parts, strict=True)))  # type: ignore[no-any-return]
