"""Merges by how models play, on games whose returns are known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from requestor.federation.merging import searching
from requestor.federation.merging.judged import (
    UNPLAYABLE,
    Evolutionary,
    FixedShares,
    JudgedMerge,
    PerformanceWeighted,
    TransferBest,
    Trial,
    best_of,
)
from requestor.federation.merging.protocol import MergeContext
from requestor.federation.merging.searching import SearchMissing, next_points, require_search

Float64 = NDArray[np.float64]
SEARCHES: list[searching.Search] = ["cma", "differential_evolution"]


def play(
    merge: JudgedMerge, clients: int, game: Callable[[Float64], float], seed: int = 0
) -> list[Trial]:
    told: list[Trial] = []
    while len(wanted := merge.wanted(clients, seed, told)):
        told += [Trial(shares, game(shares)) for shares in wanted]
    return told


def scored(scores: list[float]) -> list[Trial]:
    return [Trial(row, score) for row, score in zip(np.eye(len(scores)), scores, strict=True)]


def near(target: Float64) -> Callable[[Float64], float]:
    """A game won by mixing updates as `target` says; its returns are below -500."""
    return lambda shares: -500.0 - float(((shares - target) ** 2).sum())


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_search_finds_the_best_mixture(search: searching.Search, seed: int) -> None:
    target = np.array([0.1, 0.6, 0.0, 0.3])
    told = play(Evolutionary(search, 80), 4, near(target), seed)
    assert len(told) == 4 + 1 + 80
    best = best_of(told)
    # the best parent is 0.46 off, squared, and the mean 0.21
    assert float(((best - target) ** 2).sum()) < 0.03
    for trial in told:
        assert trial.shares.min() >= 0
        assert trial.shares.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("search", SEARCHES)
@settings(max_examples=10)
@given(st.integers(2, 6), st.integers(0, 2**31), st.integers(1, 25))
def test_it_is_never_worse_than_its_best_parent(
    search: searching.Search, clients: int, seed: int, budget: int
) -> None:
    values = np.random.default_rng(seed).normal(size=clients) - 50
    merge = Evolutionary(search, budget)
    told = play(merge, clients, lambda shares: float(shares @ values) - 10 * shares.std(), seed)
    chosen = merge.shares(told)
    score = max(trial.score for trial in told if np.array_equal(trial.shares, chosen))
    assert score >= max(trial.score for trial in told[: clients + 1])
    assert len(told) <= clients + 1 + budget


@pytest.mark.parametrize("search", SEARCHES)
def test_one_seed_gives_one_search_and_leaves_other_random_numbers_alone(
    search: searching.Search,
) -> None:
    np.random.seed(5)
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    game = near(np.array([0.5, 0.2, 0.3]))
    runs = [[t.score for t in play(Evolutionary(search, 30), 3, game, seed)] for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    after = np.random.get_state()[1].tolist()  # type: ignore[index]
    assert before == after


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_goes_on_from_what_was_told(search: searching.Search) -> None:
    first = next_points(search, 3, 7, [])
    part = next_points(search, 3, 7, [1.0, 2.0])
    np.testing.assert_array_equal(part, first[2:])
    assert not np.array_equal(next_points(search, 3, 7, [1.0] * len(first)), first)


def test_an_unplayable_mixture_is_just_bad() -> None:
    told = play(Evolutionary("cma", 20), 3, lambda s: UNPLAYABLE if s[0] > 0.2 else s[1])
    assert best_of(told).tolist() == [0.0, 1.0, 0.0]


def test_a_missing_library_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(searching, "import_module", absent)
    with pytest.raises(SearchMissing, match=r"needs scipy; fix: pip install derl\[merging\]"):
        require_search("differential_evolution")


def test_the_best_is_copied() -> None:
    assert TransferBest().shares(scored([-30.0, -10.0, -20.0, -10.0])).tolist() == [0, 1, 0, 0]


def test_the_better_half_weighs_by_rank() -> None:
    # of five the better three: -1, -2, -3 weigh 3, 2 and 1 of 6
    merge = PerformanceWeighted("rank")
    shares = merge.shares(scored([-5.0, -1.0, -3.0, -900.0, -2.0]))
    np.testing.assert_allclose(shares, [0, 3 / 6, 1 / 6, 0, 2 / 6])


def test_the_better_half_weighs_by_score() -> None:
    # scores 0 and -2 are 2 apart, two standard deviations of 1: 1 to exp(-2)
    shares = PerformanceWeighted().shares(scored([0.0, -2.0, -50.0]))
    np.testing.assert_allclose(shares, np.array([1, np.exp(-2), 0]) / (1 + np.exp(-2)))


@given(
    st.lists(st.integers(-1000, 1000), min_size=1, max_size=9),
    st.sampled_from(["softmax", "rank"]),
    st.integers(-1000, 1000),
    st.sampled_from([0.25, 1.0, 8.0]),
)
def test_neither_sign_nor_scale_of_the_returns_matters(
    scores: list[int], weighting: str, shift: int, scale: float
) -> None:
    merge = PerformanceWeighted(weighting)  # type: ignore[arg-type]
    one = merge.shares(scored([float(score) for score in scores]))
    other = merge.shares(scored([scale * score + shift for score in scores]))
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    assert one.sum() == pytest.approx(1.0)
    assert one[int(np.argmax(scores))] == one.max()


def test_what_cannot_be_played_weighs_nothing() -> None:
    merge = PerformanceWeighted()
    assert merge.shares(scored([UNPLAYABLE, 1.0, UNPLAYABLE])).tolist() == [0.0, 1.0, 0.0]
    assert merge.shares(scored([UNPLAYABLE, UNPLAYABLE])).tolist() == [0.5, 0.5]


def test_a_mixture_is_mixed_as_it_was_decided() -> None:
    updates = np.array([[4, 0], [0, 8], [100, 100]], dtype=np.float32)
    merged = FixedShares((0.25, 0.75, 0.0))(updates, np.ones(3), MergeContext())
    assert merged.vector.tolist() == [1.0, 6.0]
