"""The gate's decision, against hand calculation and a normal quantile of our own."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from requestor.federation.gate import NotWorseGate, OpenGate

RETURNS = st.integers(-500, 500).map(float)
PAIRS = st.lists(st.tuples(RETURNS, RETURNS), min_size=1, max_size=30)


def quantile(confidence: float) -> float:
    """z with P(Z <= z) = confidence, by bisection of the error function."""
    low, high = -10.0, 10.0
    for _ in range(200):
        middle = (low + high) / 2
        if 0.5 * (1 + math.erf(middle / math.sqrt(2))) < confidence:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def upper_bound(differences: list[int], confidence: float) -> float:
    """Upper end of the one-sided interval of the mean, its variance in exact fractions."""
    count = len(differences)
    mean = Fraction(sum(differences), count)
    if count == 1:
        return float(mean)
    variance = sum((d - mean) ** 2 for d in differences) / (count - 1)
    return float(mean) + quantile(confidence) * math.sqrt(variance / count)


def test_a_loss_on_every_episode_is_rolled_back() -> None:
    verdict = NotWorseGate()([10.0] * 4, [9.0] * 4)
    assert not verdict.is_published
    assert verdict.mean_difference == verdict.upper_bound == -1
    assert verdict.reason == "worse than its parent: at best -1.0 at 95 %"


@pytest.mark.parametrize(
    ("confidence", "tolerance", "is_published"),
    # d = -4, 0, -4, 0: mean -2, stdev sqrt(16 / 3), standard error 1.154701
    [
        (0.95, 0.0, False),  # z 1.644854: upper bound -0.1007
        (0.95, 0.2, True),
        (0.975, 0.0, True),  # z 1.959964: upper bound +0.2632
        (0.5, 1.9, False),  # z 0: upper bound -2
        (0.5, 2.1, True),
    ],
)
def test_by_hand(confidence: float, tolerance: float, is_published: bool) -> None:
    verdict = NotWorseGate(confidence, tolerance)([5.0, 5.0, 7.0, 9.0], [1.0, 5.0, 3.0, 9.0])
    assert verdict.is_published is is_published
    assert verdict.mean_difference == pytest.approx(-2)


@given(PAIRS, st.floats(0.5, 0.999), st.floats(0, 100))
def test_against_an_independent_bound(
    pairs: list[tuple[float, float]], confidence: float, tolerance: float
) -> None:
    parent, candidate = [p for p, _ in pairs], [c for _, c in pairs]
    verdict = NotWorseGate(confidence, tolerance)(parent, candidate)
    expected = upper_bound([int(c - p) for p, c in pairs], confidence)
    assert verdict.upper_bound == pytest.approx(expected, rel=1e-7, abs=1e-7)
    assume(abs(expected + tolerance) > 1e-6)
    assert verdict.is_published is (expected >= -tolerance)


@given(st.lists(RETURNS, min_size=1), st.floats(0.5, 0.999))
def test_a_model_is_not_worse_than_itself(returns: list[float], confidence: float) -> None:
    assert NotWorseGate(confidence)(returns, returns).is_published


@given(PAIRS, st.integers(0, 100))
def test_a_better_candidate_is_never_refused_where_a_worse_one_passes(
    pairs: list[tuple[float, float]], gain: int
) -> None:
    parent, candidate = [p for p, _ in pairs], [c for _, c in pairs]
    if NotWorseGate()(parent, candidate).is_published:
        assert NotWorseGate()(parent, [c + gain for c in candidate]).is_published


def test_one_episode_is_taken_at_its_word() -> None:
    assert NotWorseGate()([1.0], [1.0]).is_published
    assert not NotWorseGate()([1.0], [0.5]).is_published


@pytest.mark.parametrize(("parent", "candidate"), [([], []), ([1.0], [1.0, 2.0])])
def test_unpaired_episodes_are_refused(parent: list[float], candidate: list[float]) -> None:
    with pytest.raises(ValueError, match=f"{len(parent)} parent and {len(candidate)} candidate"):
        NotWorseGate()(parent, candidate)


def test_an_open_gate_publishes_anything_and_says_by_how_much_it_differs() -> None:
    verdict = OpenGate()([10.0, 20.0], [0.0, 5.0])
    assert verdict.is_published
    assert verdict.mean_difference == -12.5
