"""Rollouts on a CUDA device: the bits of those on the CPU."""

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from native_kernels import cuda, rollouts
from native_kernels.environments import ENVIRONMENTS, BatchEnvironment
from native_kernels.ppo import PolicyShape, Ppo

COUNT = 37


def a_policy(id: str, **changes: Any) -> Ppo:
    facts = ENVIRONMENTS[id]
    shape = PolicyShape(
        facts.observation_size,
        facts.n_actions or facts.action_size,
        "categorical" if facts.n_actions else "gaussian",
        **changes,
    )
    random = np.random.default_rng(4)
    parameters = random.normal(scale=0.3, size=shape.parameter_count).astype(np.float32)
    return Ppo(shape, parameters)


CASES: list[tuple[str, dict[str, Any]]] = [
    ("CartPole-v1", {}),
    ("CartPole-v1", {"pi": (), "vf": (20, 7, 33, 16)}),
    ("CartPole-v1", {"pi": (5,), "vf": (), "activation": "relu"}),
    ("Pendulum-v1", {}),
    ("Acrobot-v1", {"pi": (100,), "activation": "relu"}),
    ("MountainCar-v0", {}),
    ("MountainCarContinuous-v0", {"pi": (17, 40, 3)}),
]


@pytest.mark.parametrize(("id", "changes"), CASES, ids=str)
def test_rollouts_have_the_bits_of_the_cpu(device: str, id: str, changes: dict[str, Any]) -> None:
    ppo = a_policy(id, **changes)
    ours = cuda.Collector(ppo, cuda.BatchEnvironment(id, COUNT, seed=9), seed=2**50)
    theirs = rollouts.Collector(ppo, BatchEnvironment(id, COUNT, seed=9), seed=2**50)
    ours.environment.reset()
    theirs.environment.reset()
    n_steps = 70 if id == "CartPole-v1" else 110  # two calls reach Pendulum's time limit
    for _ in range(2):
        found = ours.collect(n_steps, gamma=0.98, gae_lambda=0.9)
        wanted = theirs.collect(n_steps, gamma=0.98, gae_lambda=0.9)
        for field in fields(wanted):
            same = getattr(wanted, field.name)
            one = cuda.to_host(getattr(found, field.name))
            assert one.dtype == same.dtype
            np.testing.assert_array_equal(one, same, err_msg=field.name)
        assert cuda.to_host(found.rewards).tobytes() == theirs.rewards.tobytes()
        assert cuda.to_host(found.episode_starts).tobytes() == theirs.episode_starts.tobytes()
        np.testing.assert_array_equal(ours.episode_returns, theirs.episode_returns)
        np.testing.assert_array_equal(ours.episode_lengths, theirs.episode_lengths)
        np.testing.assert_array_equal(ours.environment.states, theirs.environment.states)
    assert ours.steps == theirs.steps == 2 * n_steps
    assert len(ours.episode_returns) > 0 or ENVIRONMENTS[id].max_episode_steps > 2 * n_steps


def test_new_weights_count_from_the_next_call_on(device: str) -> None:
    ppo = a_policy("CartPole-v1")
    environment = cuda.BatchEnvironment("CartPole-v1", 3)
    environment.reset()
    collector = cuda.Collector(ppo, environment, seed=1)
    collector.collect(4, gamma=1.0, gae_lambda=1.0)
    collector.ppo = Ppo(ppo.shape, ppo.parameters * np.float32(0.5))
    observations = cuda.to_host(environment.observations)
    values = cuda.to_host(collector.collect(4, gamma=1.0, gae_lambda=1.0).values)
    np.testing.assert_array_equal(values[0], collector.ppo.values(observations))


def test_work_is_done_on_the_stream_of_the_environments(emulation: Any) -> None:
    environment = cuda.BatchEnvironment("CartPole-v1", 3, device=1, stream=6)
    environment.reset()
    collector = cuda.Collector(a_policy("CartPole-v1"), environment, seed=1)
    emulation.log()
    collector.collect(2, gamma=1.0, gae_lambda=1.0)
    assert emulation.log() == [
        "copy device 1 stream 6",
        "rollout device 1 stream 6",
        "generalized_advantages device 1 stream 6",
    ]


def test_unfit_arguments_are_refused_by_name(emulation: object) -> None:
    environment = cuda.BatchEnvironment("CartPole-v1", 2)
    with pytest.raises(ValueError, match=r"ppo: its policy must be .*CartPole-v1, is"):
        cuda.Collector(a_policy("Pendulum-v1"), environment, seed=0)
    with pytest.raises(ValueError, match=r"ppo: its layers must have at most 192 units .*has 208"):
        cuda.Collector(a_policy("CartPole-v1", pi=(200,)), environment, seed=0)
    with pytest.raises(ValueError, match="seed: must be 0 to"):
        cuda.Collector(a_policy("CartPole-v1"), environment, seed=-1)
    collector = cuda.Collector(a_policy("CartPole-v1", pi=(192,)), environment, seed=0)
    with pytest.raises(RuntimeError, match="reset the environments"):
        collector.collect(1, gamma=1.0, gae_lambda=1.0)
    environment.reset()
    for n_steps, gamma, message in ((0, 1.0, "n_steps: must be 1 to"), (1, 1.5, "gamma: must be")):
        with pytest.raises(ValueError, match=message):
            collector.collect(n_steps, gamma=gamma, gae_lambda=1.0)
