"""Distances between policies against hand calculations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from provider_image.learners.divergence import (
    MOST_DIVERGENCE,
    Bernoulli,
    Categorical,
    Certain,
    Gaussian,
    Greedy,
    divergence,
    measure_of,
)

TABLES = arrays(np.float32, (3, 4), elements=st.floats(-(2.0**99), 2.0**99, width=32))


def test_categorical_is_summed_over_actions_and_averaged_over_observations() -> None:
    even, odd = np.log([[0.5, 0.5]]), np.log([[0.75, 0.25]])
    # 1/2 ln(2/3) + 1/2 ln 2 = 1/2 ln(4/3)
    one = 0.5 * math.log(4 / 3)
    assert divergence(Categorical((even,)), Categorical((odd,))) == pytest.approx(one, rel=1e-12)
    both = Categorical((even, even)), Categorical((odd, odd))
    assert divergence(*both) == pytest.approx(2 * one, rel=1e-12)
    half = Categorical((np.vstack([even, even]),)), Categorical((np.vstack([odd, even + 7]),))
    assert divergence(*half) == pytest.approx(one / 2, rel=1e-12)


def test_bernoulli_bits_are_summed() -> None:
    # KL(B(1/2) || B(3/4)) = 1/2 ln(4/3), the logit of 3/4 is ln 3
    base, moved = Bernoulli(np.zeros((5, 2))), Bernoulli(np.full((5, 2), math.log(3)))
    assert divergence(base, moved) == pytest.approx(math.log(4 / 3), rel=1e-12)


def test_gaussian_components_are_summed() -> None:
    base = Gaussian(np.zeros((4, 3)), np.zeros(3))
    moved = Gaussian(np.ones((4, 3)), np.full(3, math.log(2)))
    # KL(N(0, 1) || N(1, 4)) = ln 2 + (1 + 1) / 8 - 1/2
    assert divergence(base, moved) == pytest.approx(3 * (math.log(2) - 0.25), rel=1e-12)


def test_greedy_actions_count_where_they_change() -> None:
    base = Greedy(np.array([[1.0, 2.0], [3.0, 2.0], [0.0, 0.0], [5.0, 1.0]]))
    moved = Greedy(np.array([[2.0, 1.0], [9.0, 2.0], [1.0, 1.0], [5.0, 6.0]]))
    assert divergence(base, moved) == 0.5


def test_certain_actions_are_apart_by_the_mean_of_their_components() -> None:
    base = Certain(np.array([[-1.0, 0.0], [0.5, 0.5]], np.float32))
    moved = Certain(np.array([[1.0, 0.0], [0.5, 0.0]], np.float32))
    assert divergence(base, moved) == pytest.approx((2 + 0 + 0 + 0.5) / 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_the_most(bad: float) -> None:
    fine, broken = np.zeros((2, 2)), np.array([[0.0, 0.0], [0.0, bad]])
    assert divergence(Categorical((fine,)), Categorical((broken,))) == MOST_DIVERGENCE
    assert divergence(Greedy(fine), Greedy(broken)) == MOST_DIVERGENCE
    assert divergence(Certain(fine), Certain(broken)) == MOST_DIVERGENCE
    assert divergence(Gaussian(fine, fine), Gaussian(broken, fine)) == MOST_DIVERGENCE


def test_values_beyond_the_most_are_the_most() -> None:
    fine, far = np.zeros((2, 2)), np.array([[0.0, 1e20]] * 2)
    assert divergence(Categorical((fine,)), Categorical((far,))) == MOST_DIVERGENCE


def test_two_kinds_do_not_compare() -> None:
    with pytest.raises(TypeError, match="Greedy and Certain"):
        divergence(Greedy(np.zeros((1, 2))), Certain(np.zeros((1, 2))))


@given(TABLES, TABLES)
def test_a_divergence_is_a_number_from_0(base: np.ndarray, moved: np.ndarray) -> None:
    for one, other in (
        (Categorical((base,)), Categorical((moved,))),
        (Bernoulli(base), Bernoulli(moved)),
        (Gaussian(base, moved), Gaussian(moved, base)),
    ):
        assert 0 <= divergence(one, other) <= MOST_DIVERGENCE
        assert divergence(one, one) == 0
        assert measure_of(one) == "kl"
