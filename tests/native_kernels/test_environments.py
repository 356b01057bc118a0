"""Batches of environments: starts, ends, what is refused, and the same bits however they run."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from native_kernels import _native
from native_kernels.environments import ENVIRONMENTS, BatchEnvironment

LEVELS = ["generic", "v2", "avx2", "avx512"]
# Gymnasium 1.4: lowest and highest start of each entry of a state
STARTS = {
    "CartPole-v1": [(-0.05, 0.05)] * 4,
    "Pendulum-v1": [(-np.pi, np.pi), (-1, 1)],
    "Acrobot-v1": [(-0.1, 0.1)] * 4,
    "MountainCar-v0": [(-0.6, -0.4), (0, 0)],
    "MountainCarContinuous-v0": [(-0.6, -0.4), (0, 0)],
}
Outcomes = list[tuple[NDArray[Any], ...]]


def actions_for(id: str, count: int, rng: np.random.Generator) -> NDArray[Any]:
    facts = ENVIRONMENTS[id]
    if facts.n_actions:
        return rng.integers(0, facts.n_actions, count)
    reach = facts.action_high
    return rng.uniform(-reach, reach, (count, facts.action_size)).astype(np.float32)


def played(batch: BatchEnvironment, n_steps: int, seed: int = 0) -> Outcomes:
    rng = np.random.default_rng(seed)
    outcomes: Outcomes = [(batch.reset().copy(),)]
    for _ in range(n_steps):
        outcome = batch.step(actions_for(batch.facts.id, batch.count, rng))
        done = outcome[2] | outcome[3]
        finals = np.where(done[:, None], batch.final_observations, 0)
        outcomes.append((*(array.copy() for array in outcome), finals, batch.states))
    return outcomes


def assert_same(some: Outcomes, others: Outcomes, rows: slice = slice(None)) -> None:
    for one, other in zip(some, others, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a[rows], b[rows])


@pytest.fixture
def any_level() -> Iterator[None]:
    before = _native.levels.in_force()
    yield
    _native.levels.force(before)


def levels_here() -> list[str]:
    best = LEVELS.index(_native.levels.of_this_machine())
    return LEVELS[min(best, 1) : best + 1]


@pytest.mark.parametrize("id", ENVIRONMENTS)
def test_every_level_gives_the_same_bits(id: str, any_level: None) -> None:
    runs = []
    for level in levels_here():
        _native.levels.force(level)
        runs.append(played(BatchEnvironment(id, 37, seed=11), 120))
    for run in runs[1:]:
        assert_same(runs[0], run)


@pytest.mark.parametrize("precision", ["float32", "exact"])
@pytest.mark.parametrize("id", ENVIRONMENTS)
def test_an_environment_is_the_same_in_any_batch(id: str, precision: Any) -> None:
    small = BatchEnvironment(id, 5, seed=3, precision=precision)
    large = BatchEnvironment(id, 50, seed=3, precision=precision)
    small.reset()
    large.reset()
    rng = np.random.default_rng(0)
    for _ in range(300):
        actions = actions_for(id, 50, rng)
        outcome = small.step(actions[:5].copy())
        for a, b in zip(outcome, large.step(actions), strict=True):
            np.testing.assert_array_equal(a, b[:5])


def test_threads_change_nothing() -> None:
    count = 3 * 2**15 + 5
    runs = [
        played(BatchEnvironment("CartPole-v1", count, seed=2, threads=threads), 12)
        for threads in (1, 3)
    ]
    assert sum(int(outcome[2].sum()) for outcome in runs[0][1:]) > 1000
    assert_same(runs[0], runs[1])


@pytest.mark.parametrize("precision", ["float32", "exact"])
@pytest.mark.parametrize("id", ENVIRONMENTS)
def test_starts_fill_gymnasiums_range_evenly(id: str, precision: Any) -> None:
    batch = BatchEnvironment(id, 20_000, seed=1, precision=precision)
    batch.reset()
    states = batch.states
    for entry, (low, high) in zip(states.T, STARTS[id], strict=True):
        assert np.float32(low) <= entry.min()
        assert entry.max() <= np.float32(high)
        if low < high:
            share = (entry - low) / (high - low)
            # twenty bins of 1000: 5 standard deviations are 154
            counts, _ = np.histogram(share, 20, (0, 1))
            assert np.abs(counts - 1000).max() < 160
    if len(STARTS[id]) == 4:
        correlation = np.corrcoef(states.T) - np.eye(4)
        assert np.abs(correlation).max() < 0.04


def test_episodes_and_environments_start_differently() -> None:
    batch = BatchEnvironment("CartPole-v1", 100, seed=1)
    starts = [batch.reset().copy() for _ in range(20)]
    assert len(np.unique(np.concatenate(starts), axis=0)) == 2000
    np.testing.assert_array_equal(batch.episodes, np.full(100, 19))
    np.testing.assert_array_equal(batch.reset(seed=1), starts[0])
    np.testing.assert_array_equal(batch.episodes, np.zeros(100))
    assert (batch.reset(seed=2) != starts[0]).all()


@pytest.mark.parametrize("precision", ["float32", "exact"])
def test_a_pole_that_falls_starts_anew_in_the_same_step(precision: Any) -> None:
    batch = BatchEnvironment("CartPole-v1", 3, seed=9, precision=precision)
    batch.reset()
    first_of_next = [batch.states]
    batch.reset()
    first_of_next.append(batch.states)
    batch.reset(seed=9)
    states = np.array([[0, 0, 0.2094, 0.5], [2.399, 3, 0, 0], [0, 0, 0, 0]])
    batch.set_states(states)
    np.testing.assert_array_equal(batch.episodes, [1, 1, 1])
    observations, rewards, terminated, truncated = batch.step(np.zeros(3, np.int64))
    np.testing.assert_array_equal(terminated, [True, True, False])
    np.testing.assert_array_equal(truncated, [False] * 3)
    np.testing.assert_array_equal(rewards, [1, 1, 1])
    # by hand: position and angle move by 0.02 of their speed
    np.testing.assert_allclose(batch.final_observations[0, 2], 0.2194, rtol=1e-6)
    np.testing.assert_allclose(batch.final_observations[1, 0], 2.459, rtol=1e-6)
    assert (np.abs(observations[:2]) <= 0.05).all()
    np.testing.assert_array_equal(batch.elapsed_steps, [0, 0, 1])
    np.testing.assert_array_equal(batch.episodes, [2, 2, 1])
    assert observations is batch.observations or np.shares_memory(observations, batch.observations)


@pytest.mark.parametrize("precision", ["float32", "exact"])
@pytest.mark.parametrize("id", ["Pendulum-v1", "MountainCar-v0", "MountainCarContinuous-v0"])
def test_the_time_limit_truncates(id: str, precision: Any) -> None:
    limit = ENVIRONMENTS[id].max_episode_steps
    batch = BatchEnvironment(id, 4, precision=precision)
    batch.reset()
    action = np.ones(4, np.int64) if ENVIRONMENTS[id].n_actions else np.zeros((4, 1), np.float32)
    for t in range(1, 2 * limit + 1):
        _, _, terminated, truncated = batch.step(action)
        assert not terminated.any()
        assert truncated.all() == (t % limit == 0)
        assert (batch.elapsed_steps == t % limit).all()


def test_the_last_allowed_step_may_also_terminate() -> None:
    # cars that wait longer arrive later; some just in time
    waits = np.arange(100)
    batch = BatchEnvironment("MountainCar-v0", len(waits))
    batch.reset()
    for t in range(200):
        swing = np.where(batch.observations[:, 1] < 0, 0, 2)
        _, _, terminated, truncated = batch.step(np.where(t < waits, 1, swing))
    assert (terminated & truncated).any()
    assert (truncated & ~terminated).any()


def test_arrays_belong_to_the_batch_and_outlive_it() -> None:
    batch = BatchEnvironment("Pendulum-v1", 3)
    first = batch.reset()
    second, *_ = batch.step(np.zeros((3, 1), np.float32))
    assert np.shares_memory(first, second)
    kept = second.copy()
    step = batch.step
    del batch
    np.testing.assert_array_equal(second, kept)
    step(np.zeros((3, 1), np.float32))
    assert (second != kept).any()


@pytest.mark.parametrize("id", ENVIRONMENTS)
def test_actions_that_are_none_are_refused_before_anything_moves(id: str) -> None:
    facts = ENVIRONMENTS[id]
    batch = BatchEnvironment(id, 40)
    batch.reset()
    before = batch.states
    actions = actions_for(id, 40, np.random.default_rng(0))
    wrong: list[Any]
    if facts.n_actions:
        wrong = [-1, facts.n_actions, 2**32, -(2**63)]
    else:
        wrong = [np.nan, np.inf, -np.inf]
    for value in wrong:
        bad = actions.copy()
        bad[33] = value
        bad[35] = value
        with pytest.raises(ValueError, match="actions: entry 33 "):
            batch.step(bad)
        np.testing.assert_array_equal(batch.states, before)
    with pytest.raises(TypeError, match=r"actions: must be a NumPy array .*, is list"):
        batch.step(actions.tolist())
    with pytest.raises(TypeError, match="actions: must be"):
        batch.step(actions.astype(np.int32 if facts.n_actions else np.float64))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="actions: must be"):
        batch.step(actions.astype(actions.dtype.newbyteorder(">")))
    with pytest.raises(ValueError, match=r"actions: must be .*\[40.* shape \[39"):
        batch.step(actions[:39])
    with pytest.raises(ValueError, match="actions: must be"):
        batch.step(actions.reshape(40, 1, 1))
    with pytest.raises(ValueError, match="C order"):
        batch.step(np.repeat(actions, 2, axis=0)[::2])
    np.testing.assert_array_equal(batch.states, before)
    batch.step(actions)


def test_an_equal_dtype_under_another_name_is_taken() -> None:
    batch = BatchEnvironment("CartPole-v1", 2)
    batch.reset()
    batch.step(np.zeros(2, np.longlong))


def test_what_is_no_batch_is_refused() -> None:
    for count in (0, -1, 2**24 + 1, 10**30):
        with pytest.raises(ValueError, match="count: must be from 1 to 16777216"):
            BatchEnvironment("CartPole-v1", count)
    for wrong in (2.0, True, "2"):
        with pytest.raises(TypeError, match="count: must be an int"):
            BatchEnvironment("CartPole-v1", wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="id: must be one of CartPole-v1"):
        BatchEnvironment("CartPole-v0", 1)
    with pytest.raises(ValueError, match="seed: must be from 0"):
        BatchEnvironment("CartPole-v1", 1, seed=-1)
    with pytest.raises(ValueError, match="precision: must be 'float32' or 'exact'"):
        BatchEnvironment("CartPole-v1", 1, precision="double")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threads: must be from 1"):
        BatchEnvironment("CartPole-v1", 1, threads=0)
    batch = BatchEnvironment("CartPole-v1", 2, seed=2**64 - 1)
    with pytest.raises(RuntimeError, match="call reset before step"):
        batch.step(np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="seed: must be from 0"):
        batch.reset(seed=2**64)


def test_states_that_are_none_are_refused() -> None:
    batch = BatchEnvironment("CartPole-v1", 2)
    states = np.zeros((2, 4))
    for value in (np.nan, np.inf, 1e7):
        bad = states.copy()
        bad[1, 3] = value
        with pytest.raises(ValueError, match="states: row 1 must be finite"):
            batch.set_states(bad)
    with pytest.raises(ValueError, match="states"):
        batch.set_states(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="states"):
        batch.set_states(np.zeros((3, 4)))
    with pytest.raises(TypeError, match="states"):
        batch.set_states(np.zeros((2, 4), np.float32))


@pytest.mark.parametrize("precision", ["float32", "exact"])
@pytest.mark.parametrize("id", ENVIRONMENTS)
def test_the_farthest_states_can_be_stepped_from(id: str, precision: Any) -> None:
    batch = BatchEnvironment(id, 2, precision=precision)
    batch.set_states(np.array([[1e6], [-1e6]]) * np.ones((1, batch.facts.state_size)))
    rng = np.random.default_rng(0)
    for _ in range(3):
        batch.step(actions_for(id, 2, rng))
    assert batch.reset(seed=1).shape == (2, batch.facts.observation_size)
