"""exp, log, tanh, sine and cosine as shipped: errors within what their header states.

The exact values are float64's, whose own error is a billion times smaller than the bounds.
"""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from native_kernels import _native

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
STRIDE = 1021
"""Every so many-th float32: a prime, so that all last bits occur."""


def floats_between(low: float, high: float) -> Floats:
    """Every STRIDE-th float32 from low to high, 0 <= low, and both ends."""
    first, last = np.array([low, high], np.float32).view(np.uint32).tolist()
    bits = np.append(np.arange(first, last, STRIDE, dtype=np.uint32), np.uint32(last))
    return bits.view(np.float32)


def both_signs(x: Floats) -> Floats:
    return np.concatenate([-x[::-1], x])


def relative(got: Floats, exact: Doubles) -> float:
    return float((np.abs(got.astype(np.float64) - exact) / np.abs(exact)).max())


def absolute(got: Floats, exact: Doubles) -> float:
    return float(np.abs(got.astype(np.float64) - exact).max())


def test_exp(level: str) -> None:
    x = both_signs(floats_between(0.0, 104.0))
    y = _native.elementary.exp(x)
    exact = np.exp(x.astype(np.float64))
    is_normal = (exact >= 2.0**-126) & (exact <= np.finfo(np.float32).max)
    assert relative(y[is_normal], exact[is_normal]) < 1.2e-7, level
    tiny = exact < 2.0**-126
    assert absolute(y[tiny], exact[tiny]) <= 2.0**-149
    assert (y[exact > 3.4029e38] == np.inf).all()
    assert _native.elementary.exp(np.array([0.0, -0.0], np.float32)).tolist() == [1.0, 1.0]


def test_exp_of_what_is_far_out(level: str) -> None:
    x = np.array([-np.inf, -1e38, -104.1, 89.1, 1e38, np.inf], np.float32)
    y = _native.elementary.exp(x)
    assert (y[:3] <= 2.0**-149).all() and (y[:3] >= 0).all(), level
    assert (y[3:] == np.inf).all()


def test_log(level: str) -> None:
    x = floats_between(2.0**-126, float(np.finfo(np.float32).max))
    y = _native.elementary.log(x)
    exact = np.log(x.astype(np.float64))
    near = np.abs(exact) < 0.7
    assert absolute(y[near], exact[near]) < 1e-7, level
    assert relative(y[~near], exact[~near]) < 1.2e-7, level
    assert _native.elementary.log(np.ones(1, np.float32)).tolist() == [0.0]


def test_tanh(level: str) -> None:
    x = both_signs(floats_between(0.0, float(np.finfo(np.float32).max)))
    y = _native.elementary.tanh(x)
    assert absolute(y, np.tanh(x.astype(np.float64))) < 3e-7, level
    np.testing.assert_array_equal(y, -y[::-1])
    assert np.abs(y).max() <= 1.0
    ends = _native.elementary.tanh(np.array([-np.inf, 0.0, np.inf], np.float32))
    np.testing.assert_allclose(ends, [-1.0, 0.0, 1.0], rtol=0, atol=3e-7)


@pytest.mark.parametrize(
    ("function", "exact"),
    [(_native.elementary.sine, np.sin), (_native.elementary.cosine, np.cos)],
)
def test_sine_and_cosine(
    function: Callable[[Floats], Floats], exact: Callable[[Doubles], Doubles], level: str
) -> None:
    x = both_signs(floats_between(0.0, 1000.0))
    assert absolute(function(x), exact(x.astype(np.float64))) < 1.2e-7, level
    # where the argument's reduction cancels most
    multiples = (np.arange(-630, 631) * (np.pi / 2)).astype(np.float32)
    for neighbour in (multiples, np.nextafter(multiples, np.float32(np.inf))):
        assert absolute(function(neighbour), exact(neighbour.astype(np.float64))) < 1.2e-7


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sine", "cosine"])
@pytest.mark.parametrize("nan", [0x7FC00000, 0xFFC00000, 0x7F800001])
def test_a_nan_gives_a_nan_and_leaves_its_neighbours_alone(name: str, nan: int, level: str) -> None:
    function: Callable[[Floats], Floats] = getattr(_native.elementary, name)
    x = np.full(37, 0.75, np.float32)
    alone = function(x)
    x[5::7] = np.array(nan, np.uint32).view(np.float32)
    y = function(x)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
    np.testing.assert_array_equal(y[~np.isnan(x)], alone[~np.isnan(x)])
    assert np.isfinite(alone).all(), level


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sine", "cosine"])
def test_all_levels_give_the_same_bits(name: str, level: str, levels: list[str]) -> None:
    function: Callable[[Floats], Floats] = getattr(_native.elementary, name)
    bits = np.arange(0, 2**32, 10_007, dtype=np.uint64).astype(np.uint32)
    x = bits.view(np.float32)  # also what lies outside the ranges stated
    here = function(x)
    _native.levels.force(levels[-1])
    best = function(x)
    np.testing.assert_array_equal(np.isnan(here), np.isnan(best))
    is_number = ~np.isnan(here)
    np.testing.assert_array_equal(
        here[is_number].view(np.uint32), best[is_number].view(np.uint32), err_msg=level
    )


@pytest.mark.parametrize("count", [*range(34), 1000])
def test_a_result_does_not_depend_on_its_place(count: int) -> None:
    x = np.linspace(-3, 3, 1000, dtype=np.float32)
    whole = _native.elementary.tanh(x)
    np.testing.assert_array_equal(_native.elementary.tanh(x[:count].copy()), whole[:count])
