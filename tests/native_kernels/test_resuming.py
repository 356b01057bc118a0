"""Environments and collectors that go on where others of their kind stopped."""

from dataclasses import fields
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from native_kernels.environments import ENVIRONMENTS, BatchEnvironment
from native_kernels.ppo import PolicyShape, Ppo, Rollout
from native_kernels.rollouts import Collector

Precision = Literal["float32", "exact"]
COUNT = 19


def policy_for(id: str) -> Ppo:
    facts = ENVIRONMENTS[id]
    size, kind = facts.observation_size, "categorical" if facts.n_actions else "gaussian"
    shape = PolicyShape(size, facts.n_actions or facts.action_size, kind, pi=(8,), vf=(8,))  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    return Ppo(shape, (0.4 * rng.standard_normal(shape.parameter_count)).astype(np.float32))


def collect(collector: Collector, n_steps: int) -> Rollout:
    return collector.collect(n_steps, gamma=0.97, gae_lambda=0.9)


@pytest.mark.parametrize("precision", ["float32", "exact"])
@pytest.mark.parametrize("id", ENVIRONMENTS)
def test_another_collector_goes_on_to_the_same_bits(id: str, precision: Precision) -> None:
    ppo = policy_for(id)
    first = Collector(ppo, BatchEnvironment(id, COUNT, seed=4, precision=precision), seed=9)
    for n_steps in (130, 75, 1):  # the 206 end within the second episodes of 200
        collect(first, n_steps)
        old = first.environment
        environment = BatchEnvironment(id, COUNT, seed=4, precision=precision)
        seen = environment.resume(old.states, old.elapsed_steps, old.episodes)
        np.testing.assert_array_equal(seen, old.observations)
        second = Collector(ppo, environment, seed=9)
        second.resume(first.steps, first.running_returns)
        np.testing.assert_array_equal(second.running_returns, first.running_returns)
        there, here = collect(first, 90), collect(second, 90)
        for field in fields(Rollout):
            np.testing.assert_array_equal(getattr(there, field.name), getattr(here, field.name))
        np.testing.assert_array_equal(first.episode_starts, second.episode_starts)
        np.testing.assert_array_equal(first.episode_returns, second.episode_returns)
        np.testing.assert_array_equal(first.episode_lengths, second.episode_lengths)
        np.testing.assert_array_equal(old.episodes, environment.episodes)
        np.testing.assert_array_equal(old.elapsed_steps, environment.elapsed_steps)


def test_the_running_returns_are_sums_of_the_rewards_so_far() -> None:
    collector = Collector(policy_for("Pendulum-v1"), BatchEnvironment("Pendulum-v1", 3), seed=0)
    collect(collector, 120)
    wanted = collector.rewards.astype(np.float64).sum(axis=0)
    np.testing.assert_allclose(collector.running_returns, wanted, rtol=1e-12)
    collect(collector, 80)  # 200 in all: the episodes ended
    np.testing.assert_array_equal(collector.running_returns, 0)


def facts_of(batch: BatchEnvironment) -> dict[str, NDArray[np.generic]]:
    return {
        "states": batch.states,
        "elapsed_steps": batch.elapsed_steps,
        "episodes": batch.episodes,
    }


def test_what_no_batch_was_in_is_refused_and_changes_nothing() -> None:
    batch = BatchEnvironment("CartPole-v1", 2)
    batch.reset()
    batch.step(np.zeros(2, np.int64))
    good = facts_of(batch)
    wrong: list[tuple[str, NDArray[np.generic], type[Exception]]] = [
        ("states", np.full((2, 4), np.nan), ValueError),
        ("states", np.full((2, 4), 2e6), ValueError),
        ("states", np.zeros((3, 4)), ValueError),
        ("elapsed_steps", np.array([0, 500], np.int32), ValueError),
        ("elapsed_steps", np.array([0, -1], np.int32), ValueError),
        ("elapsed_steps", np.zeros(3, np.int32), ValueError),
        ("elapsed_steps", np.zeros(2, np.int64), TypeError),
        ("episodes", np.array([-1, 0]), ValueError),
        ("episodes", np.array([0, 2**32 - 1]), ValueError),
        ("episodes", np.zeros((2, 1), np.int64), ValueError),
        ("episodes", np.zeros(2), TypeError),
    ]
    for name, value, error in wrong:
        with pytest.raises(error, match=name):
            batch.resume(**(good | {name: value}))  # type: ignore[arg-type]
    for name, value in facts_of(batch).items():
        np.testing.assert_array_equal(value, good[name])
    batch.resume(**(good | {"elapsed_steps": np.full(2, 499, np.int32)}))  # type: ignore[arg-type]
    _, _, _, truncated = batch.step(np.zeros(2, np.int64))
    assert truncated.all()


def test_a_collector_refuses_what_it_cannot_go_on_from() -> None:
    ppo = policy_for("CartPole-v1")
    collector = Collector(ppo, BatchEnvironment("CartPole-v1", 2), seed=0)
    with pytest.raises(RuntimeError, match="resume the environment before"):
        collector.resume(3, np.zeros(2))
    collector.environment.reset()
    with pytest.raises(ValueError, match="running_returns"):
        collector.resume(3, np.zeros(3))
    with pytest.raises(ValueError, match="running_returns: every entry must be finite"):
        collector.resume(3, np.array([0, np.inf]))
    with pytest.raises(TypeError, match="running_returns"):
        collector.resume(3, np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="steps: must be from 0"):
        collector.resume(-1, np.zeros(2))
    with pytest.raises(TypeError, match="steps: must be an int"):
        collector.resume(1.5, np.zeros(2))  # type: ignore[arg-type]
