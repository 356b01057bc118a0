"""Offers are strangers' text: either terms that can be priced and bounded, or a refusal."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.marketplace.money.spending import Prices
from requestor.marketplace.offers.offer_terms import (
    CPU_COUNTER,
    DURATION_COUNTER,
    MAX_NAME_LENGTH,
    MAX_THREADS,
    OfferUnusable,
    clean_name,
    read_offer,
)

COEFFICIENTS = "golem.com.pricing.model.linear.coeffs"
COUNTERS = "golem.com.usage.vector"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def offer(**changes: Any) -> dict[str, Any]:
    """A sound offer; keyword `name` replaces the property whose last parts are `name`."""
    properties: dict[str, Any] = {
        "golem.com.pricing.model": "linear",
        "golem.com.scheme": "payu",
        COEFFICIENTS: [0.001, 0.0005, 0.25],
        COUNTERS: [CPU_COUNTER, DURATION_COUNTER],
        "golem.inf.cpu.threads": 4,
        "golem.node.id.name": "willow",
    }
    keys = {"coeffs": COEFFICIENTS, "vector": COUNTERS}
    for name, value in changes.items():
        key = keys.get(name) or next(key for key in properties if key.endswith(f".{name}"))
        properties[key] = value
    return properties


def test_prices_are_by_the_hour_and_in_the_order_of_the_counters() -> None:
    terms = read_offer(offer())
    assert terms.prices == Prices(Decimal("0.25"), Decimal("3.6"), Decimal("1.8"))
    assert (terms.provider_name, terms.threads) == ("willow", 4)
    swapped = read_offer(offer(vector=[DURATION_COUNTER, CPU_COUNTER]))
    assert swapped.prices == Prices(Decimal("0.25"), Decimal("1.8"), Decimal("3.6"))


def test_a_usage_is_priced_by_counter() -> None:
    # 0.25 + 100 * 0.0005 + 40 * 0.001
    swapped = read_offer(
        offer(vector=[DURATION_COUNTER, CPU_COUNTER], coeffs=[0.0005, 0.001, 0.25])
    )
    assert swapped.usage_cost_glm([100.0, 40.0]) == Decimal("0.34")
    assert swapped.usage_cost_glm([100.0]) == Decimal("0.3")
    assert swapped.usage_cost_glm([float("nan"), -5.0]) == Decimal("0.25")
    assert swapped.usage_cost_glm([]) == Decimal("0.25")


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_price_by_the_hour_survives_the_way_through_floats_by_the_second(
    cpu: int, duration: int
) -> None:
    by_hour = Decimal(cpu).scaleb(-6), Decimal(duration).scaleb(-6)
    coefficients = [float(price) / 3600 for price in by_hour]
    terms = read_offer(offer(coeffs=[*coefficients, 0.0]))
    assert terms.prices == Prices(Decimal(0), *by_hour)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "flat"}, "the price model is not linear"),
        ({"model": None}, "the price model is not linear"),
        ({"scheme": "prepaid"}, "the billing scheme is not pay-as-you-use"),
        ({"coeffs": None}, "prices or usage counters are missing"),
        ({"vector": "golem.usage.cpu_sec"}, "prices or usage counters are missing"),
        ({"coeffs": [0.1, 0.1]}, "the number of prices does not fit"),
        ({"coeffs": [0.1, -0.1, 0]}, "a price is negative or not a number"),
        ({"coeffs": [0.1, "0.1", 0]}, "a price is negative or not a number"),
        ({"coeffs": [0.1, True, 0]}, "a price is negative or not a number"),
        ({"coeffs": [0.1, float("nan"), 0]}, "a price is negative or not a number"),
        ({"coeffs": [0.1, 0.1, float("inf")]}, "a price is negative or not a number"),
        ({"coeffs": [0.1, 0.1, 10**400]}, "a price is negative or not a number"),
        (
            {"vector": [CPU_COUNTER, "golem.usage.gib"]},
            "it charges for golem.usage.gib, which we can't check",
        ),
        ({"vector": [CPU_COUNTER, CPU_COUNTER]}, "a usage counter is named twice"),
        (
            {"vector": [CPU_COUNTER, "x\x1b[2J" + "y" * 500]},
            r"it charges for x\[2Jy{36}, which we can't check",
        ),
    ],
)
def test_what_cannot_be_bounded_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(OfferUnusable, match=f"^{reason}"):
        read_offer(offer(**changes))


def test_a_counter_that_costs_nothing_is_no_obstacle() -> None:
    terms = read_offer(
        offer(vector=[CPU_COUNTER, "golem.usage.gib", DURATION_COUNTER], coeffs=[0.001, 0, 0.1, 0])
    )
    assert terms.prices == Prices(Decimal(0), Decimal("3.6"), Decimal(360))
    assert terms.usage_cost_glm([10.0, 99.0, 1.0]) == Decimal("0.11")


@pytest.mark.parametrize(
    ("threads", "expected"),
    [
        (2, 2),
        (2.9, 2),
        (0, 1),
        (-3, 1),
        (10**9, MAX_THREADS),
        (10**400, 1),
        (float("inf"), 1),
        (float("nan"), 1),
        (True, 1),
        ("8", 1),
        (None, 1),
    ],
)
def test_threads_are_a_sane_number(threads: object, expected: int) -> None:
    assert read_offer(offer(threads=threads)).threads == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("willow", "willow"),
        ("  wil\x1b[31mlow\r\n", "wil[31mlow"),
        ("evil\u202egnp", "evilgnp"),
        ("\ud800x", "x"),
        ("", "unnamed"),
        (" \t", "unnamed"),
        (None, "unnamed"),
        ("x" * 1000, "x" * MAX_NAME_LENGTH),
        (["a"], "['a']"),
    ],
)
def test_names_are_fit_for_a_terminal(name: object, expected: str) -> None:
    assert clean_name(name) == expected


def check(properties: dict[str, Any]) -> None:
    """Whatever the properties are, there are terms that can be bounded, or a short refusal."""
    try:
        terms = read_offer(properties)
    except OfferUnusable as error:
        assert str(error).isprintable()
        assert len(str(error)) < 200
        return
    prices = terms.prices
    assert all(
        price.is_finite() and price >= 0
        for price in (prices.start_glm, prices.cpu_hour_glm, prices.hour_glm)
    )
    assert 1 <= terms.threads <= MAX_THREADS
    assert 0 < len(terms.provider_name) <= MAX_NAME_LENGTH
    assert terms.provider_name.isprintable()
    coefficients, counters = properties[COEFFICIENTS], properties[COUNTERS]
    assert len(coefficients) == len(counters) + 1
    assert Fraction(prices.start_glm) == Fraction(repr(float(coefficients[-1])))
    assert terms.usage_cost_glm([math.nan] * len(counters)) == prices.start_glm


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "golem.com.pricing.model": st.just("linear") | JSON,
            "golem.com.scheme": st.just("payu") | JSON,
            COEFFICIENTS: JSON,
            COUNTERS: JSON,
            "golem.inf.cpu.threads": JSON,
            "golem.node.id.name": JSON,
        },
    )
)
def test_hostile_properties_do_no_harm(properties: dict[str, Any]) -> None:
    check(properties)


@given(
    st.lists(st.floats() | st.integers() | st.integers(10**300, 10**400) | JSON, max_size=4),
    st.lists(
        st.sampled_from([CPU_COUNTER, DURATION_COUNTER, "golem.usage.gib"]) | JSON, max_size=3
    ),
    JSON,
    JSON,
)
def test_hostile_prices_do_no_harm(
    coefficients: list[Any], counters: list[Any], threads: Any, name: Any
) -> None:
    check(offer(coeffs=coefficients, vector=counters, threads=threads, name=name))
