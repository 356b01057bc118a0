"""Prices counted in bins of a round width. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise


@dataclass(frozen=True)
class PriceBin:
    """Offers priced from `low_glm` (included) to `high_glm` (not); the last one has no end."""

    low_glm: Decimal
    high_glm: Decimal | None
    kept: int
    removed: int


MAX_BINS = 12
EQUAL_SHARE = Decimal("1e-9")
"""Prices that differ by a smaller share are one price to a histogram."""

_STEPS = (Decimal(1), Decimal(2), Decimal(5), Decimal(10))


def price_histogram(
    kept_glm: Sequence[Decimal], removed_glm: Sequence[Decimal] = ()
) -> tuple[PriceBin, ...]:
    """Count prices in at most `MAX_BINS` bins of a round width (1, 2 or 5 times a power of ten).

    The width fits nine tenths of all prices; what is beyond falls into a last bin without end,
    so that a few absurd prices do not squeeze the others into one.
    """
    prices = sorted([*kept_glm, *removed_glm])
    if not prices:
        return ()
    usual = prices[(len(prices) - 1) * 9 // 10]
    spread = usual - prices[0]
    if spread <= usual * EQUAL_SHARE:
        spread = usual or Decimal(1)
    width = _round_width(spread / (MAX_BINS - 2))
    edges = [prices[0] // width * width]
    while edges[-1] <= usual and len(edges) < MAX_BINS:
        edges.append(edges[-1] + width)
    bins = [_bin(low, high, kept_glm, removed_glm) for low, high in pairwise(edges)]
    if prices[-1] >= edges[-1]:
        bins.append(_bin(edges[-1], None, kept_glm, removed_glm))
    return tuple(bins)


def median_glm(prices: Sequence[Decimal]) -> Decimal | None:
    """Return the median, None for no prices."""
    if not prices:
        return None
    ordered = sorted(prices)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def _bin(
    low: Decimal, high: Decimal | None, kept: Sequence[Decimal], removed: Sequence[Decimal]
) -> PriceBin:
    def count(prices: Sequence[Decimal]) -> int:
        return sum(low <= price and (high is None or price < high) for price in prices)

    return PriceBin(low, high, count(kept), count(removed))


def _round_width(least: Decimal) -> Decimal:
    """Return the smallest of 1, 2, 5, 10 times a power of ten that is not below `least`."""
    unit = Decimal(1).scaleb(least.adjusted())
    return next(step * unit for step in _STEPS if step * unit >= least)
