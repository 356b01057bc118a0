"""The chance of having caught a cheat: closed forms, and 200 rounds of each kind of cheat."""

import hashlib
import math
import random
from collections.abc import Callable
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.trust.audit_draw import AuditCoin
from requestor.trust.audit_rates import AuditRates
from requestor.trust.catching import caught, expected_audits, foreseen

CHANCES = st.floats(0, 1)


def test_equal_rates_give_the_textbook_formula() -> None:
    # 1 - (1 - p c)^m; p = 10 %, c = 1: 99 % in 44 rounds (0.9^44 = 0.0097)
    assert caught([0.1] * 44, 1.0) == pytest.approx(1 - 0.9**44)
    assert caught([0.1] * 44, 1.0) > 0.99 > caught([0.1] * 43, 1.0)
    assert caught([], 1.0) == 0.0
    assert caught([1.0, 0.5], 0.5) == pytest.approx(1 - 0.5 * 0.75)


@given(st.lists(CHANCES, max_size=20), CHANCES, CHANCES)
def test_more_faking_is_caught_more_often(rates: list[float], one: float, two: float) -> None:
    less, more = sorted((one, two))
    assert -1e-12 <= caught(rates, less) <= caught(rates, more) + 1e-12 <= 1 + 1e-12


def test_what_is_foreseen_is_a_sum_over_all_ways() -> None:
    # two items, rates 1 then 1/8, half of them faked: caught at once 1/2, else 1/2 * 1/8 * 1/2
    assert foreseen(AuditRates(1.0, 0.0), 0, 2, 0.5) == pytest.approx(0.5 + 0.5 / 16)
    # rate 1/2, then 1/2 while nothing was drawn, else 1/16:
    # a fake drawn at once 1/4; not drawn 1/2 -> 1/4; drawn and true 1/4 -> 1/32
    assert foreseen(AuditRates(0.5, 0.0), 0, 2, 0.5) == pytest.approx(
        1 / 4 + 1 / 2 * 1 / 4 + 1 / 4 * 1 / 32
    )


@given(st.integers(0, 5), st.integers(0, 20), CHANCES)
def test_with_a_rate_that_never_falls_both_are_the_same(v: int, items: int, share: float) -> None:
    rates = AuditRates(0.2, 0.2)
    assert foreseen(rates, v, items, share) == pytest.approx(caught([0.2] * items, share))
    assert expected_audits(rates, v, items) == pytest.approx(0.2 * items)


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_between_nothing_and_all(share: float) -> None:
    with pytest.raises(ValueError, match="is none"):
        caught([0.1], share)


Cheat = Callable[[random.Random, int], bool]
"""Tells whether a cheat fakes the item of that number in a round."""


def all_of_it(_: random.Random, number: int) -> bool:
    return True


def every_other(rng: random.Random, number: int) -> bool:
    return rng.random() < 0.5


def now_and_then(rng: random.Random, number: int) -> bool:
    return rng.random() < 0.1


@pytest.mark.parametrize(
    ("cheat", "share"), [(all_of_it, 1.0), (every_other, 0.5), (now_and_then, 0.1)]
)
@pytest.mark.parametrize("verified", [1, 3])
def test_200_rounds_of_each_kind_of_cheat_are_caught_as_often_as_the_formula_says(
    cheat: Cheat, share: float, verified: int
) -> None:
    """Each round: a voice with a record sends eight items, and each is committed to before the
    coin falls. The number of rounds in which it is caught is binomial with the formula's chance.
    """
    rates, items, rounds = AuditRates(), 8, 200
    rng, coin = random.Random(f"{cheat.__name__} {verified}"), AuditCoin(b"k" * 32)
    times = 0
    for number in range(rounds):
        record = verified
        for item in range(items):
            is_fake = cheat(rng, item)
            order = hashlib.sha256(f"{number} {item}".encode()).hexdigest()
            result = hashlib.sha256(f"{order} {is_fake} {verified}".encode()).hexdigest()
            if coin.draws(order, result, rates.chance(record)):
                if is_fake:
                    times += 1
                    break
                record += 1
    low, high = binomial_interval(rounds, foreseen(rates, verified, items, share))
    assert low <= times <= high


def test_over_a_run_the_reported_chance_is_that_of_the_rates_that_were_in_force() -> None:
    """The report's formula over the rates that cheats met, on average over 200 of them that were
    drawn nothing yet, against how often one who fakes the next item is caught in fact."""
    coin, share = AuditCoin(b"r" * 32), 1.0
    rates = [0.03, 0.125, 0.03, 0.03]
    times = sum(
        any(coin.draws(f"{voice}", f"{item}", rate) for item, rate in enumerate(rates))
        for voice in range(200)
    )
    low, high = binomial_interval(200, fmean([caught(rates, share)]))
    assert low <= times <= high


def binomial_interval(n: int, p: float) -> tuple[int, int]:
    """The shortest central interval that a binomial count misses in at most 1 % of cases."""
    weights = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    low = next(k for k in range(n + 1) if sum(weights[: k + 1]) > 0.005)
    high = next(k for k in range(n, -1, -1) if sum(weights[k:]) > 0.005)
    return low, high
