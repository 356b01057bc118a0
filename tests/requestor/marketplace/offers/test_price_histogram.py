"""Bins are round, hold every price once, and are never too many."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from requestor.marketplace.offers.price_histogram import MAX_BINS, median_glm, price_histogram


def prices(*texts: str) -> list[Decimal]:
    return [Decimal(text) for text in texts]


def plain(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def shown(kept: list[Decimal], removed: list[Decimal]) -> list[tuple[str, str | None, int, int]]:
    return [
        (plain(one.low_glm), None if one.high_glm is None else plain(one.high_glm), one.kept,
         one.removed)
        for one in price_histogram(kept, removed)
    ]  # fmt: skip


def test_by_hand() -> None:
    """Nine tenths of the prices lie from 0.1 to 1: bins of 0.1; the price of 40 is beyond."""
    usual = prices("0.1", "0.15", "0.2", "0.39", "0.4", "0.45", "0.5", "0.99", "1")
    assert shown(usual, prices("40")) == [
        ("0.1", "0.2", 2, 0),
        ("0.2", "0.3", 1, 0),
        ("0.3", "0.4", 1, 0),
        ("0.4", "0.5", 2, 0),
        ("0.5", "0.6", 1, 0),
        ("0.6", "0.7", 0, 0),
        ("0.7", "0.8", 0, 0),
        ("0.8", "0.9", 0, 0),
        ("0.9", "1", 1, 0),
        ("1", "1.1", 1, 0),
        ("1.1", None, 0, 1),
    ]


def test_nothing_and_one_price() -> None:
    assert price_histogram([]) == ()
    (one,) = price_histogram(prices("0.12", "0.12"))
    assert (one.low_glm, one.high_glm, one.kept) == (Decimal("0.12"), Decimal("0.14"), 2)
    (free,) = price_histogram(prices("0", "0", "0"))
    assert (free.low_glm, free.kept) == (Decimal(0), 3)


def test_medians() -> None:
    assert median_glm([]) is None
    assert median_glm(prices("3")) == 3
    assert median_glm(prices("5", "1", "3")) == 3
    assert median_glm(prices("1", "2", "10", "0")) == Decimal("1.5")


AMOUNTS = st.decimals(0, 10**12, allow_nan=False, places=18) | st.sampled_from(
    prices("0", "1e-18", "1e12", "0.1", "1E+300", "1E-300")
)


@given(st.lists(AMOUNTS, max_size=40), st.lists(AMOUNTS, max_size=40))
@example(prices("1E-300", "1E+300"), [])
@example(prices("1000000000000", "1000000000000.000000000000000001"), [])
def test_every_price_is_in_one_bin(kept: list[Decimal], removed: list[Decimal]) -> None:
    bins = price_histogram(kept, removed)
    assert len(bins) <= MAX_BINS
    assert sum(one.kept for one in bins) == len(kept)
    assert sum(one.removed for one in bins) == len(removed)
    for one, following in pairwise(bins):
        assert one.high_glm == following.low_glm
        assert one.high_glm > one.low_glm
    for one in bins[:-1]:
        assert one.high_glm is not None
        digits = (one.high_glm - one.low_glm).normalize().as_tuple().digits
        assert digits in ((1,), (2,), (5,))


@pytest.mark.parametrize("count", [1, 10, 1000])
def test_absurd_prices_do_not_squeeze_the_others(count: int) -> None:
    usual = [Decimal(number) / 100 for number in range(10 * count)]
    absurd = [Decimal(10) ** 9] * (count // 2)
    bins = price_histogram(usual, absurd)
    assert sum(one.kept > 0 for one in bins) >= 5
