"""The fused multiply-add of every level, v2's emulated one too, against exact arithmetic.

All operations against the IEEE operation on one float: ``cpp/test_lanes.cpp``.
"""

import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from native_kernels import _native

Bits = NDArray[np.uint32]


def rounded_to_float32(exact: Fraction) -> float:
    """To nearest, ties to even, subnormals and overflow as IEEE 754 has them; in whole numbers."""
    if exact == 0:
        return 0.0
    magnitude = abs(exact)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - 23, -149)
    significand = round(magnitude / unit)  # Fraction rounds ties to even
    value = significand * unit
    result = float("inf") if value >= Fraction(2) ** 128 else float(value)
    return -result if exact < 0 else result


def exact_fma(a: float, b: float, c: float) -> float:
    """Of finite numbers; the sign of an exact zero is that of IEEE 754 section 6.3."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        product_sign = np.copysign(1.0, a) * np.copysign(1.0, b)
        if product_sign == np.copysign(1.0, c) and (a == 0 or b == 0) and c == 0:
            return float(np.copysign(0.0, c))
        return 0.0
    result = rounded_to_float32(exact)
    return float(np.copysign(result, -1.0 if exact < 0 else 1.0))


def check(cases: NDArray[np.float32]) -> None:
    a, b, c = (np.ascontiguousarray(column) for column in cases.T)
    got = _native.elementary.fused_multiply_add(a, b, c)
    expected = np.array([exact_fma(*row) for row in cases.tolist()], np.float32)
    wrong = np.flatnonzero(got.view(np.uint32) != expected.view(np.uint32))
    assert not wrong.size, [
        (*(x.hex() for x in map(float, cases[i])), float(got[i]).hex(), float(expected[i]).hex())
        for i in wrong[:5]
    ]


def floats(bits: Bits) -> NDArray[np.float32]:
    x = bits.view(np.float32)
    return np.where(np.isfinite(x), x, np.float32(1.5)).astype(np.float32)


def significands(random: np.random.Generator, count: int, low: int, high: int) -> Bits:
    """Random signs and fractions, exponents from 2^low to 2^high."""
    exponent = random.integers(low + 127, high + 128, count, dtype=np.uint32)
    rest = random.integers(0, 2**32, count, dtype=np.uint32) & np.uint32(0x807FFFFF)
    return rest | exponent << np.uint32(23)


def adversarial(random: np.random.Generator, count: int) -> dict[str, NDArray[np.float32]]:
    """Cases for which two roundings in place of one, or a lost bit, show."""
    one = floats(significands(random, count, -1, 1))
    other = floats(significands(random, count, -1, 1))
    product = (one.astype(np.float64) * other).astype(np.float32)
    few = (random.integers(1, 2**12, (2, count)) * 2.0**-12).astype(np.float32)
    # half a unit in the last place of c, and a hair more or less: ties of the second rounding
    tie = (1.0 + random.integers(0, 2**23, count) * 2.0**-23).astype(np.float32)
    # (1 + 2^-23) (1 - 2^-23) = 1 - 2^-46, which double precision loses beside c
    above, below = np.full(count, 1 + 2.0**-23), np.full(count, 1 - 2.0**-23)
    half = np.where(random.integers(0, 2, count), 2.0**-24, -(2.0**-24))
    scale = (2.0 ** random.integers(-60, 60, count)).astype(np.float32)
    return {
        "any bits": np.stack(
            [floats(random.integers(0, 2**32, count, dtype=np.uint32)) for _ in range(3)], 1
        ),
        "cancelling": np.stack([one, other, -product], 1),
        "nearly cancelling": np.stack([one, other, -np.nextafter(product, np.float32(9))], 1),
        "exact": np.stack([few[0], few[1], one], 1),
        "ties": np.stack([half.astype(np.float32), np.ones(count, np.float32), tie], 1),
        "nearly ties": np.stack([half * above, below, tie], 1).astype(np.float32),
        "scaled ties": np.stack([half * above * scale, below / scale, tie], 1).astype(np.float32),
        "far below": np.stack([floats(significands(random, count, -70, -30)), one, tie], 1),
        "subnormal": np.stack(
            [
                floats(significands(random, count, -80, -65)),
                floats(significands(random, count, -75, -60)),
                floats(random.integers(0, 2**24, count, dtype=np.uint32)),
            ],
            1,
        ),
        "overflowing": np.stack(
            [
                floats(significands(random, count, 62, 65)),
                floats(significands(random, count, 61, 64)),
                floats(significands(random, count, 125, 127)),
            ],
            1,
        ),
        "zeros": random.choice(np.array([0.0, -0.0, 1.0, -1.0], np.float32), (count, 3)),
    }


KINDS = list(adversarial(np.random.default_rng(0), 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("level")
def test_fused_multiply_add_is_rounded_once(kind: str) -> None:
    check(adversarial(np.random.default_rng(KINDS.index(kind)), 3000)[kind])


def test_the_cases_would_show_a_second_rounding() -> None:
    """What computing in double and rounding to float gets wrong; v2 must not."""
    a, b, c = adversarial(np.random.default_rng(KINDS.index("nearly ties")), 3000)["nearly ties"].T
    twice = (a.astype(np.float64) * b + c).astype(np.float32)
    cases = np.stack([a, b, c], 1).tolist()
    once = np.array([exact_fma(*row) for row in cases], np.float32)
    assert (twice != once).mean() > 0.2


def float32_of(bits: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])


FINITE = st.integers(0, 2**32 - 1).map(float32_of).filter(np.isfinite)


@settings(max_examples=300)
@given(st.lists(st.tuples(FINITE, FINITE, FINITE), min_size=1, max_size=40))
def test_fused_multiply_add_of_anything_finite(cases: list[tuple[float, float, float]]) -> None:
    before = _native.levels.in_force()
    try:
        for name in {before, "v2" if before != "generic" else before}:
            _native.levels.force(name)
            check(np.array(cases, np.float32))
    finally:
        _native.levels.force(before)


@pytest.mark.parametrize(
    ("a", "b", "c", "expected"),
    [
        (np.inf, 1.0, 1.0, np.inf),
        (np.inf, 1.0, -np.inf, np.nan),
        (np.inf, 0.0, 1.0, np.nan),
        (np.nan, 1.0, 1.0, np.nan),
        (1.0, 1.0, np.nan, np.nan),
        (3e38, 3e38, -np.inf, -np.inf),
        (-1.0, np.inf, 7.0, -np.inf),
        (3e38, 3e38, -3e38, np.inf),
    ],
)
@pytest.mark.usefixtures("level")
def test_infinities_and_nans(a: float, b: float, c: float, expected: float) -> None:
    arrays = [np.full(3, x, np.float32) for x in (a, b, c)]
    result = _native.elementary.fused_multiply_add(*arrays)
    np.testing.assert_array_equal(result, np.full(3, expected, np.float32))


def test_all_levels_agree_on_many_bits(level: str, levels: list[str]) -> None:
    random = np.random.default_rng(7)
    a, b = (random.integers(0, 2**32, 400_000, dtype=np.uint32).view(np.float32) for _ in "ab")
    with np.errstate(all="ignore"):
        nearly = (-(a.astype(np.float64) * b)).astype(np.float32)
    c = np.where(random.integers(0, 2, a.size), nearly, np.roll(a, 1)).astype(np.float32)
    here = _native.elementary.fused_multiply_add(a, b, c)
    _native.levels.force(levels[-1])
    best = _native.elementary.fused_multiply_add(a, b, c)
    np.testing.assert_array_equal(np.isnan(here), np.isnan(best))
    is_number = ~np.isnan(here)
    assert is_number.mean() > 0.5
    np.testing.assert_array_equal(
        here[is_number].view(np.uint32), best[is_number].view(np.uint32), err_msg=level
    )
