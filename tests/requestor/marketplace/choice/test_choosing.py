"""Useful steps for a GLM, by hand and as laws."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.marketplace.choice.choosing import (
    DEFAULT_SECONDS,
    Candidate,
    Chooser,
    Pace,
    Work,
    expected_pace,
    measured_pace,
    steps_per_glm,
    typical_pace,
)
from requestor.marketplace.choice.history import Evidence
from requestor.marketplace.money.spending import Prices

TYPICAL = Pace(1000.0, 0.5)
HOURLY = st.decimals(0, 5, places=4)
SPEED = st.floats(1, 1e6)


def prices(start: str = "0", cpu_hour: str = "0", hour: str = "0") -> Prices:
    return Prices(Decimal(start), Decimal(cpu_hour), Decimal(hour))


def candidate(node: str, offer: Prices, speed: float = 1000.0, voice: str = "") -> Candidate:
    return Candidate(node, voice or node, offer, Pace(speed, 1.0))


# --- pace --------------------------------------------------------------------------------------


def test_the_unknown_are_taken_for_typical_and_a_little_more() -> None:
    # no evidence: (0 + 20 * 1000) / (0 + 20) = 1000, and 10 % more for hope
    pace = expected_pace(None, TYPICAL)
    assert pace.steps_per_second == pytest.approx(1100.0)
    assert pace.cpu_share == 0.5


def test_the_own_record_counts_more_the_longer_it_is() -> None:
    # 60 s of own work: (60 * 2000 + 20 * 1000) / 80 = 1750, hope 0.1 * 20 / 80 = 2.5 %
    # CPU: (60 s * 1.0 + 20 s * 0.5) / 80 s = 0.875
    evidence = Evidence(120_000, 60, 60, 60)
    pace = expected_pace(evidence, TYPICAL)
    assert pace.steps_per_second == pytest.approx(1793.75)
    assert pace.cpu_share == pytest.approx(0.875)


def test_failed_orders_cost_time_and_count_nothing() -> None:
    # 30 s that brought 20,000 steps, and 10 s that brought none
    assert measured_pace(Evidence(20_000, 40)) == Pace(500.0, 1.0)
    assert measured_pace(Evidence()) is None


def test_the_typical_pace_is_the_median_of_the_known() -> None:
    known = [Evidence(100, 1, 1, 2), Evidence(300, 1, 2, 2), Evidence(5000, 10, 4, 2), Evidence()]
    assert typical_pace(known) == Pace(300.0, 1.0)
    assert typical_pace([Evidence()]) is None


@given(st.floats(0, 1e9), st.floats(0, 1e6), SPEED)
def test_a_pace_is_between_its_own_and_the_typical_plus_hope(
    steps: float, seconds: float, typical: float
) -> None:
    own = steps / seconds if seconds else typical
    pace = expected_pace(Evidence(own * seconds, seconds), Pace(typical)).steps_per_second
    low, high = min(own, typical), max(own, typical)
    assert low * (1 - 1e-9) <= pace <= 1.1 * high * (1 + 1e-9)


# --- worth -------------------------------------------------------------------------------------


def test_steps_for_a_glm_by_hand() -> None:
    # 1 hour, of which it works 80 %, at half a CPU: 0.1 + 0.8 h * 0.5 * 2 + 0.3 = 1.2 GLM;
    # it does 0.8 * 3600 s * 1000 = 2,880,000 steps
    offer = prices("0.1", "2", "0.3")
    assert steps_per_glm(offer, TYPICAL, 3600) == pytest.approx(2_400_000)
    # who is rented already has been paid the start
    assert steps_per_glm(offer, TYPICAL, 3600, is_rented=True) == pytest.approx(2_880_000 / 1.1)
    assert steps_per_glm(prices(), TYPICAL, 3600) == math.inf


@given(st.tuples(HOURLY, HOURLY), SPEED, st.floats(1, 1e5))
def test_twice_as_fast_is_twice_as_good_and_worth_a_higher_price(
    hourly: tuple[Decimal, Decimal], speed: float, seconds: float
) -> None:
    offer = Prices(Decimal(0), *hourly)
    slow = steps_per_glm(offer, Pace(speed, 1.0), seconds)
    fast = steps_per_glm(offer, Pace(2 * speed, 1.0), seconds)
    if sum(hourly):
        assert fast == pytest.approx(2 * slow)
    else:
        assert fast == slow == math.inf


@given(HOURLY, HOURLY, st.decimals(0, 1, places=4), SPEED, st.integers(10, 100_000))
def test_against_exact_fractions(
    cpu_hour: Decimal, hour: Decimal, start: Decimal, speed: float, seconds: int
) -> None:
    busy = Fraction(8, 10) * seconds
    cost = Fraction(start) + (Fraction(cpu_hour) * busy + Fraction(hour) * seconds) / 3600
    found = steps_per_glm(Prices(start, cpu_hour, hour), Pace(speed, 1.0), seconds)
    assert found == (pytest.approx(float(busy * Fraction(speed) / cost)) if cost else math.inf)


def test_a_start_price_is_spread_over_the_expected_time() -> None:
    # 4,000,000 steps on 4 providers of 1000 a second: 1000 s of work, 1250 s in all
    work = Work("ppo", 4_000_000, 4)
    assert work.expected_seconds(TYPICAL) == pytest.approx(1250)
    assert Work().expected_seconds(TYPICAL) == DEFAULT_SECONDS
    assert Work("ppo", 1, 4).expected_seconds(TYPICAL) == 10
    cheap_start, cheap_hours = prices("0", hour="0.72"), prices("0.1", hour="0.36")
    # 0.0002 against 0.0001 GLM a second: the start of 0.1 is earned after 1000 s
    short, long = Chooser("steps_per_glm", 900), Chooser("steps_per_glm", 1100)
    offers = [candidate("0xa", cheap_start), candidate("0xb", cheap_hours)]
    assert short.rank(offers)[0].node_id == "0xa"
    assert long.rank(offers)[0].node_id == "0xb"


# --- choice ------------------------------------------------------------------------------------


def test_the_best_of_eight_by_hand() -> None:
    # per hour of duration only, 1 hour: steps per GLM = speed * 2880 s / price
    offers = [
        candidate("0x1", prices(hour="0.10"), 1000),  # 28.8 M
        candidate("0x2", prices(hour="0.05"), 400),  # 23.0 M: cheap, but slow
        candidate("0x3", prices(hour="0.30"), 4000),  # 38.4 M: dear, but fast
        candidate("0x4", prices(hour="0.20"), 1000),  # 14.4 M
        candidate("0x5", prices(hour="0.04"), 500),  # 36.0 M
        candidate("0x6", prices("0.1", hour="0.10"), 2000),  # 28.8 M: the start costs as much
        candidate("0x7", prices(hour="0.10"), 1000),  # as 0x1
        candidate("0x8", prices(hour="0.01"), 1),  # 0.3 M: as good as dead
    ]
    chooser = Chooser("steps_per_glm", 3600)
    assert [one.node_id for one in chooser.choose(offers, 3)] == ["0x3", "0x5", "0x6"]
    assert [one.node_id for one in chooser.rank(offers)][3:5] == ["0x1", "0x7"]
    cheapest = Chooser("cheapest", 3600)
    assert [one.node_id for one in cheapest.choose(offers, 3)] == ["0x8", "0x5", "0x2"]


def test_of_a_wallet_no_more_than_allowed_are_chosen() -> None:
    offers = [candidate(f"0x{n}", prices(hour=f"0.{n}"), voice="0xw") for n in range(1, 4)]
    offers.append(candidate("0x9", prices(hour="0.9")))
    chooser = Chooser("steps_per_glm", 3600)
    assert [one.node_id for one in chooser.choose(offers, 3)] == ["0x1", "0x2", "0x3"]
    chosen = chooser.choose(offers, 3, max_per_voice=1)
    assert [one.node_id for one in chosen] == ["0x1", "0x9"]
    chosen = chooser.choose(offers, 3, max_per_voice=1, rented=["0xw"])
    assert [one.node_id for one in chosen] == ["0x9"]


@given(
    st.lists(st.tuples(HOURLY, HOURLY, SPEED, st.integers(0, 3)), max_size=8),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
def test_a_choice_is_the_same_in_any_order_and_leaves_nobody_better_out(
    offers: list[tuple[Decimal, Decimal, float, int]], count: int, random: object
) -> None:
    candidates = [
        Candidate(f"0x{n}", f"w{voice}", Prices(Decimal(0), cpu, hour), Pace(speed))
        for n, (cpu, hour, speed, voice) in enumerate(offers)
    ]
    shuffled = list(candidates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    chooser = Chooser("steps_per_glm", 100)
    chosen = chooser.choose(candidates, count)
    assert chooser.choose(shuffled, count) == chosen
    assert len(chosen) == min(count, len(candidates))
    left = [chooser.worth(one) for one in candidates if one not in chosen]
    if chosen and left:
        assert min(map(chooser.worth, chosen)) >= max(left)


# --- giving way --------------------------------------------------------------------------------


def test_only_a_clearly_better_offer_takes_a_place() -> None:
    chooser = Chooser("steps_per_glm", 3600)
    incumbent = candidate("0x1", prices("0.5", hour="0.1"))  # its start is paid: 28.8 M
    record = Evidence(10_000, 10)
    almost = candidate("0x2", prices(hour="0.0668"))  # 43.1 M, not 1.5 times
    clearly = candidate("0x3", prices(hour="0.0666"))  # 43.2 M
    assert chooser.better_than(incumbent, record, [almost]) is None
    assert chooser.better_than(incumbent, record, [almost, clearly]) == clearly
    with_start = candidate("0x4", prices("0.1", hour="0.0666"))  # 17.3 M with what it costs first
    assert chooser.better_than(incumbent, record, [with_start]) is None
    assert chooser.better_than(incumbent, record, []) is None
    assert chooser.better_than(incumbent, Evidence(2000, 2.9), [clearly]) is None
