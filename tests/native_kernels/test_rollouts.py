"""Rollouts collected in C++ against the same steps taken in Python, bit for bit."""

from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest
from numpy.typing import NDArray

from native_kernels import _native
from native_kernels.advantages import generalized_advantages
from native_kernels.environments import ENVIRONMENTS, BatchEnvironment, EnvironmentFacts
from native_kernels.ppo import PolicyShape, Ppo, Rollout
from native_kernels.rollouts import Collector

GAMMA, GAE_LAMBDA = 0.97, 0.9
LEVELS = ["generic", "v2", "avx2", "avx512"]


def policy_for(facts: EnvironmentFacts, seed: int = 0) -> Ppo:
    if facts.n_actions:
        shape = PolicyShape(facts.observation_size, facts.n_actions, pi=(24,), vf=(32, 16))
    else:
        shape = PolicyShape(
            facts.observation_size, facts.action_size, "gaussian", pi=(24,), vf=(32, 16)
        )
    rng = np.random.default_rng(seed)
    return Ppo(shape, (0.4 * rng.standard_normal(shape.parameter_count)).astype(np.float32))


class InPython:
    """The same rollout, one call for each part."""

    def __init__(self, ppo: Ppo, environment: BatchEnvironment, seed: int) -> None:
        self.ppo, self.environment, self.seed = ppo, environment, seed
        self.steps = 0
        self.observations = environment.reset().copy()
        self.starts = np.full(environment.count, True)
        self.sums = np.zeros(environment.count)
        self.lengths = np.zeros(environment.count, np.int64)
        self.rewards: NDArray[np.float32]
        self.episodes: list[tuple[float, int]] = []
        self.n_bootstrapped = 0

    def collect(self, n_steps: int) -> Rollout:
        facts = self.environment.facts
        rows = []
        self.episodes = []
        for _ in range(n_steps):
            actions, values, log_probs = self.ppo.act(
                self.observations, seed=self.seed, step=self.steps
            )
            taken = (
                actions if facts.n_actions else actions.clip(-facts.action_high, facts.action_high)
            )
            seen, gained, terminated, truncated = self.environment.step(taken)
            rewards = gained.copy()
            self.sums += rewards
            self.lengths += 1
            done = terminated | truncated
            for b in np.flatnonzero(done):
                self.episodes.append((self.sums[b], int(self.lengths[b])))
                if truncated[b] and not terminated[b]:
                    last = self.environment.final_observations[b : b + 1]
                    rewards[b] += np.float32(GAMMA) * self.ppo.values(last)[0]
                    self.n_bootstrapped += 1
            self.sums[done] = 0
            self.lengths[done] = 0
            rows.append((self.observations, actions, log_probs, values, rewards, self.starts))
            self.observations, self.starts = seen.copy(), done
            self.steps += 1
        columns = [np.stack(column) for column in zip(*rows, strict=True)]
        observations, actions, log_probs, values, self.rewards, starts = columns
        advantages, returns = generalized_advantages(
            self.rewards, values, starts, self.ppo.values(self.observations), self.starts,
            GAMMA, GAE_LAMBDA,
        )  # fmt: skip
        return Rollout(observations, actions, log_probs, values, advantages, returns)


def assert_same(one: Rollout, other: Rollout) -> None:
    for field in fields(Rollout):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, err_msg=field.name)


@pytest.fixture
def any_level() -> Iterator[None]:
    before = _native.levels.in_force()
    yield
    _native.levels.force(before)


@pytest.mark.parametrize("precision", ["float32", "exact"])
@pytest.mark.parametrize("id", ENVIRONMENTS)
def test_gives_the_bits_of_the_parts_in_python(id: str, precision: str) -> None:
    facts = ENVIRONMENTS[id]
    ppo = policy_for(facts)
    count = 70  # a whole tile and a part of one
    fused = Collector(ppo, BatchEnvironment(id, count, seed=4, precision=precision), seed=9)  # type: ignore[arg-type]
    parts = InPython(ppo, BatchEnvironment(id, count, seed=4, precision=precision), 9)  # type: ignore[arg-type]
    n_episodes = 0
    for n_steps in (130, 1, 90):
        rollout = fused.collect(n_steps, gamma=GAMMA, gae_lambda=GAE_LAMBDA)
        assert_same(rollout, parts.collect(n_steps))
        np.testing.assert_array_equal(fused.rewards, parts.rewards)
        assert fused.episode_returns.tolist() == [r for r, _ in parts.episodes]
        assert fused.episode_lengths.tolist() == [n for _, n in parts.episodes]
        n_episodes += len(parts.episodes)
    assert fused.steps == 221
    if id not in ("Acrobot-v1", "MountainCarContinuous-v0"):  # whose episodes are longer
        assert n_episodes > 0
    if id in ("Pendulum-v1", "MountainCar-v0"):
        assert parts.n_bootstrapped > 0


def test_steps_in_python_go_on_where_the_collector_stopped() -> None:
    ppo = policy_for(ENVIRONMENTS["CartPole-v1"])
    environment = BatchEnvironment("CartPole-v1", 20, seed=4)
    collector = Collector(ppo, environment, seed=9)
    collector.collect(30, gamma=GAMMA, gae_lambda=GAE_LAMBDA)
    other = BatchEnvironment("CartPole-v1", 20, seed=4)
    twin = Collector(ppo, other, seed=9)
    rollout = twin.collect(31, gamma=GAMMA, gae_lambda=GAE_LAMBDA)
    np.testing.assert_array_equal(environment.observations, rollout.observations[30])
    assert isinstance(rollout.actions, np.ndarray)
    environment.step(rollout.actions[30])
    np.testing.assert_array_equal(environment.states, other.states)


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1"])
def test_threads_change_nothing(id: str) -> None:
    ppo = policy_for(ENVIRONMENTS[id])
    runs = []
    for threads in (1, 2, 5):
        collector = Collector(ppo, BatchEnvironment(id, 300, threads=threads), seed=1)
        rollout = collector.collect(210, gamma=GAMMA, gae_lambda=GAE_LAMBDA)
        runs.append((rollout, collector.episode_returns, collector.episode_lengths))
    assert len(runs[0][1]) >= 300
    for rollout, returns, lengths in runs[1:]:
        assert_same(runs[0][0], rollout)
        np.testing.assert_array_equal(runs[0][1], returns)
        np.testing.assert_array_equal(runs[0][2], lengths)


@pytest.mark.parametrize("id", ENVIRONMENTS)
def test_every_level_gives_the_same_bits(id: str, any_level: None) -> None:
    best = LEVELS.index(_native.levels.of_this_machine())
    rollouts = []
    for level in LEVELS[min(best, 1) : best + 1]:
        _native.levels.force(level)
        collector = Collector(policy_for(ENVIRONMENTS[id]), BatchEnvironment(id, 17), seed=1)
        rollouts.append(collector.collect(60, gamma=GAMMA, gae_lambda=GAE_LAMBDA))
    for rollout in rollouts[1:]:
        assert_same(rollouts[0], rollout)


def test_goes_on_under_new_weights_and_from_given_steps() -> None:
    facts = ENVIRONMENTS["CartPole-v1"]
    whole = Collector(policy_for(facts), BatchEnvironment(facts.id, 8, seed=1), seed=2)
    first = whole.collect(10, gamma=GAMMA, gae_lambda=GAE_LAMBDA)
    second = whole.collect(10, gamma=GAMMA, gae_lambda=GAE_LAMBDA)
    # the same second part: another collector takes over the environment
    environment = BatchEnvironment(facts.id, 8, seed=1)
    assert_same(
        first, Collector(policy_for(facts), environment, seed=2).collect(
            10, gamma=GAMMA, gae_lambda=GAE_LAMBDA
        )
    )  # fmt: skip
    heir = Collector(policy_for(facts), environment, seed=2)
    heir.steps = 10
    again = heir.collect(10, gamma=GAMMA, gae_lambda=GAE_LAMBDA)
    np.testing.assert_array_equal(again.observations, second.observations)
    np.testing.assert_array_equal(again.actions, second.actions)


def test_what_does_not_fit_is_refused() -> None:
    cart_pole, pendulum = (BatchEnvironment(id, 2) for id in ("CartPole-v1", "Pendulum-v1"))
    ppo = policy_for(cart_pole.facts)
    with pytest.raises(ValueError, match="ppo: its policy takes 4 observations, Pendulum-v1"):
        Collector(ppo, pendulum, seed=0)
    shape = PolicyShape(4, 3)
    wider = Ppo(shape, np.zeros(shape.parameter_count, np.float32))
    with pytest.raises(ValueError, match="ppo: its policy has 3 actions, CartPole-v1 takes 2"):
        Collector(wider, cart_pole, seed=0)
    shape = PolicyShape(4, 2, "gaussian")
    gaussian = Ppo(shape, np.zeros(shape.parameter_count, np.float32))
    with pytest.raises(ValueError, match="ppo: its distribution must be categorical"):
        Collector(gaussian, cart_pole, seed=0)
    with pytest.raises(ValueError, match="seed: must be from 0"):
        Collector(ppo, cart_pole, seed=-1)
    collector = Collector(ppo, cart_pole, seed=0)
    for n_steps in (0, -1, 2**24 + 1):
        with pytest.raises(ValueError, match="n_steps: must be from 1 to"):
            collector.collect(n_steps, gamma=GAMMA, gae_lambda=GAE_LAMBDA)
    with pytest.raises(TypeError, match="n_steps: must be an int"):
        collector.collect(2.0, gamma=GAMMA, gae_lambda=GAE_LAMBDA)  # type: ignore[arg-type]
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="gamma: must be from 0 to 1"):
            collector.collect(1, gamma=wrong, gae_lambda=GAE_LAMBDA)
        with pytest.raises(ValueError, match="gae_lambda: must be from 0 to 1"):
            collector.collect(1, gamma=GAMMA, gae_lambda=wrong)
    with pytest.raises(ValueError, match="steps: must be from 0"):
        collector.steps = -1


def test_weights_that_diverged_are_told() -> None:
    facts = ENVIRONMENTS["MountainCarContinuous-v0"]
    shape = PolicyShape(facts.observation_size, 1, "gaussian", pi=(), vf=(8,), activation="relu")
    ppo = Ppo(shape, np.full(shape.parameter_count, 3e38, np.float32))
    collector = Collector(ppo, BatchEnvironment(facts.id, 3), seed=0)
    with pytest.raises(FloatingPointError, match="values are not finite"):
        collector.collect(4, gamma=GAMMA, gae_lambda=GAE_LAMBDA)
