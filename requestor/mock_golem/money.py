"""Exact GLM arithmetic: decimals are never rounded silently, and written without exponents."""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact

_EXACT = Context(prec=1000, traps=[Inexact])
_ROUNDING = Context(prec=1000, rounding=ROUND_HALF_EVEN)
_SMALLEST_GLM = Decimal("1e-18")
_SMALLEST_USAGE_SECONDS = Decimal("1e-6")


def add(*amounts: Decimal) -> Decimal:
    """Return the exact sum of the amounts; 0 of none."""
    total = Decimal(0)
    for amount in amounts:
        total = _EXACT.add(total, amount)
    return total


def subtract(amount: Decimal, other: Decimal) -> Decimal:
    """Return the exact difference."""
    return _EXACT.subtract(amount, other)


def multiply(amount: Decimal, factor: Decimal) -> Decimal:
    """Return the product, rounded to a whole number of the smallest unit, 1e-18 GLM."""
    product = _EXACT.multiply(amount, factor)
    return plain_decimal(product.quantize(_SMALLEST_GLM, context=_ROUNDING))


def cost(coefficients: Sequence[float], usage: Sequence[float]) -> Decimal:
    """Return the price of one activity: start price plus coefficients times usage.

    Coefficients count by their shortest decimal text (as in the offer's JSON), usage by whole
    microseconds; the product is exact and then rounded half-even to 1e-18 GLM.

    Args:
        coefficients: GLM per second of each counter, then the start price in GLM.
        usage: the counters, in seconds.
    """
    *per_second, start = coefficients
    total = Decimal(repr(start))
    for coefficient, seconds in zip(per_second, usage, strict=True):
        total = _EXACT.add(
            total, _EXACT.multiply(Decimal(repr(coefficient)), exact_seconds(seconds))
        )
    return plain_decimal(total.quantize(_SMALLEST_GLM, context=_ROUNDING))


def exact_seconds(seconds: float) -> Decimal:
    """Return a usage counter as billed: whole microseconds."""
    return Decimal(repr(seconds)).quantize(_SMALLEST_USAGE_SECONDS, context=_ROUNDING)


def plain_decimal(amount: Decimal) -> Decimal:
    """Drop trailing zeros of the fraction."""
    shortened = amount.normalize(_EXACT)
    return shortened if shortened != shortened.to_integral_value() else Decimal(int(shortened))


def plain(amount: Decimal) -> str:
    """Write an amount as yagna does: digits and a point, no exponent."""
    return format(amount, "f")
