"""Evaluation: one episode per seed, each as if it had been run alone.

Episodes are stepped side by side to share the policy's forward passes, and the result is that of
a plain loop that gives SB3's `predict` one observation at a time:

- discrete actions, deterministic: one forward pass over all running episodes. Batching changes
  scores in the last bits only, so a row whose best two scores are nearer than a wide margin is
  predicted again alone.
- continuous and other actions, deterministic: each observation is predicted alone, for a changed
  last bit of an action would fork the episode.
- stochastic: one episode after another, the generators seeded with the episode's own seed.

Every episode has an environment of its own. What remains dependent on company is only an
environment that shares state between its instances.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecNormalize

from provider_image.environments import EnvironmentRefused
from provider_image.learners.base import Evaluation, LearnerRefused, TrainingFailed
from provider_image.learners.episodes import Act, run_episodes
from provider_image.learners.sb3_environments import training_environment
from provider_image.learners.sb3_models import ModelPlan, build_model
from provider_image.learners.sb3_state import load_model
from provider_image.wire import EvaluateOrder, Tensors, WireError

_ERROR_LETTERS = 300
_SCORE_MARGIN = 1e-3


def evaluate(order: EvaluateOrder, received: Tensors) -> Evaluation:
    """See `base.Learner.evaluate`."""
    built_on = training_environment(order.environment, order.rules)
    try:
        model = build_model(ModelPlan(order.environment, order.learner, seed=0), built_on.outermost)
        load_model(model, received, order.rules, built_on.normalizer)
        model.policy.set_training_mode(False)
        act = choose_action_rule(model, built_on.normalizer, order.deterministic)
        return run_episodes(order, act, set_random_seed)
    except (ArithmeticError, AssertionError, RuntimeError, ValueError) as error:
        if isinstance(error, TrainingFailed | LearnerRefused | WireError | EnvironmentRefused):
            raise
        raise TrainingFailed(
            f"evaluation broke off: {type(error).__name__}: {str(error)[:_ERROR_LETTERS]}"
        ) from error
    finally:
        built_on.close()


def choose_action_rule(
    model: BaseAlgorithm, normalizer: VecNormalize | None, deterministic: bool
) -> Act:
    """How observations of side-by-side episodes become actions; see the module's docstring."""

    def normalized(observation: Any) -> Any:
        return observation if normalizer is None else normalizer.normalize_obs(observation)

    # The [()] makes a scalar of a discrete action, as vectorised environments hand it out: some
    # environments look it up in a dictionary, and an array of no axes cannot be hashed.
    def alone(observations: list[Any]) -> list[Any]:
        return [
            model.predict(normalized(observation), deterministic=deterministic)[0][()]
            for observation in observations
        ]

    scores = _score_function(model) if deterministic else None
    if scores is None:
        return alone

    def together(observations: list[Any]) -> Sequence[Any]:
        if len(observations) == 1:
            return alone(observations)
        values = scores(normalized(np.stack(observations)))
        actions: npt.NDArray[np.int64] = values.argmax(axis=1)
        best_two = np.partition(values, -2, axis=1)[:, -2:]
        margin = _SCORE_MARGIN * (1 + np.abs(best_two[:, 1]))
        for row in np.flatnonzero(~(best_two[:, 1] - best_two[:, 0] > margin)):
            actions[row] = alone([observations[row]])[0]
        return list(actions)

    return together


def _score_function(
    model: BaseAlgorithm,
) -> Callable[[Any], npt.NDArray[np.float32]] | None:
    """Observations [B, ...] to action scores float32[B, A], where actions are an arg max."""
    space = model.action_space
    if not isinstance(space, spaces.Discrete) or space.n < 2:
        return None
    if isinstance(model.observation_space, spaces.Dict):
        return None
    policy = model.policy

    def scores(observations: Any) -> npt.NDArray[np.float32]:
        tensor, _ = policy.obs_to_tensor(observations)
        with torch.no_grad():
            if isinstance(model, DQN):
                values = model.q_net(tensor)
            else:
                assert isinstance(policy, ActorCriticPolicy)
                assert isinstance(tensor, torch.Tensor)
                distribution = policy.get_distribution(tensor)
                assert isinstance(distribution, CategoricalDistribution)
                values = distribution.distribution.logits
        result: npt.NDArray[np.float32] = values.numpy()
        return result

    return scores
