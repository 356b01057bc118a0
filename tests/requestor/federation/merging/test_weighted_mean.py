"""The weighted mean, against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from requestor.federation.merging.coordinate_rules import WeightedMean
from requestor.federation.merging.protocol import MergeContext


def mean_of(updates: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    return WeightedMean()(updates, weights, MergeContext()).vector


FLOATS = st.floats(-1e6, 1e6, width=32)


@st.composite
def rounds(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Updates `float32[N, P]` and weights `float64[N]` (whole steps)."""
    clients, parameters = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    rows = draw(
        st.lists(
            st.lists(FLOATS, min_size=parameters, max_size=parameters),
            min_size=clients,
            max_size=clients,
        )
    )
    steps = draw(st.lists(st.integers(1, 10**6), min_size=clients, max_size=clients))
    return np.array(rows, np.float32), np.array(steps, np.float64)


def exact_mean(updates: NDArray[np.float32], weights: NDArray[np.float64]) -> list[Fraction]:
    """The weighted mean of each column, without any rounding."""
    total = sum(Fraction(float(weight)) for weight in weights)
    return [
        sum(
            (Fraction(float(w)) * Fraction(float(x)) for w, x in zip(weights, column, strict=True)),
            Fraction(0),
        )
        / total
        for column in updates.T
    ]


def test_by_hand() -> None:
    # (1 * 100 + 5 * 300) / 400 = 4 and (0 * 100 - 8 * 300) / 400 = -6
    updates = np.array([[1, 0], [5, -8]], np.float32)
    mean = mean_of(updates, np.array([100.0, 300.0]))
    assert mean.dtype == np.float32
    assert mean.tolist() == [4, -6]


@given(rounds())
def test_it_is_the_exact_mean_rounded_once(
    drawn: tuple[NDArray[np.float32], NDArray[np.float64]],
) -> None:
    updates, weights = drawn
    mean = mean_of(updates, weights)
    for value, exact, column in zip(mean, exact_mean(updates, weights), updates.T, strict=True):
        # one rounding to float32 (2^-24 of the value, or half the smallest subnormal, 2^-150), and
        # some of float64 on the way (2^-48 of the terms)
        largest = Fraction(float(np.abs(column).max()))
        allowed = abs(exact) / 2**24 + largest / 2**48 + Fraction(1, 2**150)
        assert abs(Fraction(float(value)) - exact) <= allowed


@given(st.lists(FLOATS, min_size=1, max_size=5), st.lists(st.integers(1, 99), min_size=1))
def test_clients_who_agree_are_followed(row: list[float], steps: list[int]) -> None:
    update = np.array(row, np.float32)
    mean = mean_of(np.stack([update] * len(steps)), np.array(steps, np.float64))
    np.testing.assert_array_equal(mean, update)


@given(rounds(), st.integers(1, 1000))
def test_only_the_ratio_of_the_weights_matters(
    drawn: tuple[NDArray[np.float32], NDArray[np.float64]], factor: int
) -> None:
    updates, weights = drawn
    one, other = mean_of(updates, weights), mean_of(updates, factor * weights)
    atol = float(np.abs(updates).max()) * 1e-14 + 3e-45
    np.testing.assert_allclose(one, other, rtol=2e-7, atol=atol)


@given(rounds())
def test_the_mean_lies_between_the_clients(
    drawn: tuple[NDArray[np.float32], NDArray[np.float64]],
) -> None:
    updates, weights = drawn
    mean = mean_of(updates, weights)
    assert (mean >= np.nextafter(updates.min(axis=0), np.float32(-np.inf))).all()
    assert (mean <= np.nextafter(updates.max(axis=0), np.float32(np.inf))).all()


def test_rows_of_another_memory_order_are_the_same_rows() -> None:
    updates = np.arange(12, dtype=np.float32).reshape(3, 4)
    weights = np.array([1.0, 2.0, 5.0])
    assert (
        mean_of(np.asfortranarray(updates), weights).tobytes()
        == mean_of(updates, weights).tobytes()
    )


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        mean_of(np.zeros((2, 3), np.float32), np.array(weights))
