"""Rollouts of the native policy against SB3's own loop, made to take the same actions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from native_kernels.ppo import Rollout
from provider_image.environments import read_spaces
from provider_image.learners.native_collecting import Collector, SteppedCollector, flat
from provider_image.learners.native_model import NativeModel, fresh_model
from provider_image.learners.native_stepping import GymnasiumStepper, for_environment
from provider_image.learners.sb3_environments import training_environment
from provider_image.learners.sb3_models import ModelPlan, build_model
from provider_image.learners.sb3_state import load_model
from provider_image.wire import (
    EnvironmentSpec,
    InitialiseOrder,
    LearnerSpec,
    NormalizeSpec,
    StateRules,
    WrapperSpec,
)

N_STEPS, ROLLOUTS, SEED = 60, 3, 11
LEARNER = LearnerSpec(
    "ppo",
    hyperparameters={"n_steps": N_STEPS, "batch_size": N_STEPS, "gamma": 0.9, "gae_lambda": 0.8},
    policy_kwargs={"net_arch": [16]},
    learner="native",
)
SHORT = WrapperSpec("TimeLimit", {"max_episode_steps": 17})
CASES = {
    "cartpole": EnvironmentSpec("CartPole-v1", n_envs=3),
    "cut by time": EnvironmentSpec("CartPole-v1", n_envs=2, wrappers=(SHORT,)),
    "continuous": EnvironmentSpec("Pendulum-v1", n_envs=2, wrappers=(SHORT,)),
    "normalised": EnvironmentSpec(
        "Pendulum-v1", n_envs=2, wrappers=(SHORT,), normalize=NormalizeSpec(gamma=0.9)
    ),
    "stacked": EnvironmentSpec(
        "MountainCarContinuous-v0", n_envs=2, wrappers=(SHORT,), frame_stack=3
    ),
}


def fresh(environment: EnvironmentSpec) -> NativeModel:
    """A model drawn from a seed of its own."""
    order = InitialiseOrder(
        run_id="r", seed=5, environment=environment, learner=LEARNER, output="o"
    )
    return fresh_model(order, read_spaces(environment))


def native(environment: EnvironmentSpec) -> tuple[NativeModel, SteppedCollector]:
    """A fresh model, and its collector in the environment."""
    spaces, model = read_spaces(environment), fresh(environment)
    stepper = GymnasiumStepper(environment, spaces.action, spaces.observation, SEED)
    return model, SteppedCollector(model.ppo, stepper, model.normalizer, seed=3)


def replayed(
    environment: EnvironmentSpec, model: NativeModel, rollouts: list[Rollout]
) -> list[dict[str, Any]]:
    """SB3's rollout buffers after `collect_rollouts` with the actions of `rollouts`."""
    vector = training_environment(environment, StateRules())
    sb3 = build_model(ModelPlan(environment, LEARNER, SEED), vector.outermost)
    assert isinstance(sb3, PPO)
    load_model(sb3, model.tensors(StateRules()), StateRules(), vector.normalizer)
    actions = iter(torch.from_numpy(np.concatenate([rollout.actions for rollout in rollouts])))

    def forward(observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        taken = next(actions)
        values, log_probs, _ = sb3.policy.evaluate_actions(observations, taken)
        return taken, values, log_probs

    sb3.policy.forward = forward  # type: ignore[method-assign, assignment]
    sb3.set_random_seed(SEED)
    _, callback = sb3._setup_learn(10**6)
    found = []
    for _ in rollouts:
        assert sb3.collect_rollouts(vector.outermost, callback, sb3.rollout_buffer, N_STEPS)
        buffer = sb3.rollout_buffer
        names = ("observations", "log_probs", "values", "advantages", "returns")
        found.append({name: getattr(buffer, name).copy() for name in names})
    episodes = [info["r"] for info in sb3.ep_info_buffer or []]
    found[-1]["episodes"] = episodes
    vector.close()
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_rollout_is_what_sb3_collects(name: str) -> None:
    environment = CASES[name]
    _, collector = native(environment)
    rollouts, episodes = [], []
    for _ in range(ROLLOUTS):
        rollouts.append(collector.collect(N_STEPS, gamma=0.9, gae_lambda=0.8))
        episodes += collector.episode_returns.tolist()
        assert len(collector.episode_lengths) == len(collector.episode_returns)
    theirs = replayed(environment, fresh(environment), rollouts)
    for ours, buffer in zip(rollouts, theirs, strict=True):
        shown = buffer["observations"].reshape(ours.observations.shape)
        np.testing.assert_array_equal(ours.observations, shown)
        for field in ("log_probs", "values", "advantages", "returns"):
            np.testing.assert_allclose(
                getattr(ours, field), buffer[field], rtol=1e-5, atol=2e-5, err_msg=field
            )
    assert episodes == pytest.approx(theirs[-1]["episodes"], abs=1e-6)
    assert len(episodes) > 5
    assert collector.steps == ROLLOUTS * N_STEPS


def test_it_is_a_collector_of_the_training_loop() -> None:
    _, collector = native(CASES["cartpole"])
    seen: Collector = collector
    assert seen.collect(2, gamma=1.0, gae_lambda=1.0).observations.shape == (2, 3, 4)


def test_actions_are_shaped_and_clipped_for_the_environment() -> None:
    space = read_spaces(EnvironmentSpec("Pendulum-v1")).action
    given = np.array([[-3.0], [0.5], [9.0]], np.float32)
    assert for_environment(given, space).tolist() == [[-2.0], [0.5], [2.0]]
    discrete = read_spaces(EnvironmentSpec("CartPole-v1")).action
    numbers = np.array([0, 1], np.int64)
    assert for_environment(numbers, discrete) is numbers


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint8", "int32"])
def test_observations_of_any_dtype_become_flat_floats(dtype: str) -> None:
    shown = flat(np.arange(12, dtype=dtype).reshape(2, 2, 3))
    assert (shown.dtype.name, shown.shape) == ("float32", (2, 6))
    assert shown.flags.c_contiguous
    assert shown[1, 0] == 6
