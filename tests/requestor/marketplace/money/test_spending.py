"""Money: what may be accepted never exceeds the clock or the budget, and honest bills pass."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from requestor.marketplace.money.spending import (
    BILL_ROUNDING_GLM,
    BILL_SLACK_SECONDS,
    PLAN_SLACK_SECONDS,
    RATE_MARGIN,
    Account,
    Prices,
    SpendingGuard,
    is_amount,
    marked_allocation_glm,
    presentable_glm,
)

AMOUNTS = st.decimals(0, 100, places=9)
PRICES = st.builds(Prices, AMOUNTS, AMOUNTS, AMOUNTS)
SECONDS = st.floats(0, 5000, allow_subnormal=False)
AMPLE = Decimal(10**8)


def account(prices: Prices, name: str = "a", threads: int = 1, approved: float = 0.0) -> Account:
    """An account of an agreement approved at `approved`."""
    return Account(name, f"node {name}", prices, threads, approved)


def rate(prices: Prices, threads: int) -> Fraction:
    """GLM a second with every thread busy."""
    return (Fraction(prices.cpu_hour_glm) * threads + Fraction(prices.hour_glm)) / 3600


def clock_bound(opened: Account, seconds: float) -> Fraction:
    """The most that `seconds` since approval can cost, with the slack that bills are granted."""
    return (
        Fraction(opened.prices.start_glm)
        + rate(opened.prices, opened.threads) * (Fraction(seconds) + Fraction(BILL_SLACK_SECONDS))
        + Fraction(BILL_ROUNDING_GLM)
    )


def test_the_price_of_a_usage() -> None:
    # 0.5 + (3.6 * 100 + 1.8 * 400) / 3600 = 0.5 + 0.1 + 0.2
    prices = Prices(Decimal("0.5"), Decimal("3.6"), Decimal("1.8"))
    assert prices.cost_glm(Decimal(100), Decimal(400)) == Decimal("0.8")


@pytest.mark.parametrize(
    ("prices", "is_within"),
    [
        (Prices(Decimal(1), Decimal(2), Decimal(3)), True),
        (Prices(), True),
        (Prices(Decimal("1.000000001")), False),
        (Prices(Decimal(0), Decimal("2.1")), False),
        (Prices(Decimal(0), Decimal(0), Decimal("3.1")), False),
    ],
)
def test_ceilings_hold_for_each_price(prices: Prices, is_within: bool) -> None:
    assert prices.within(Prices(Decimal(1), Decimal(2), Decimal(3))) is is_within


def test_a_bound_by_hand() -> None:
    # 0.1 + (100 + 3) s * (3.6 * 2 + 1.8) / 3600 GLM/s = 0.1 + 103 * 0.0025, and the rounding
    opened = account(Prices(Decimal("0.1"), Decimal("3.6"), Decimal("1.8")), threads=2)
    assert opened.bound_glm(100.0) == Decimal("0.3575") + BILL_ROUNDING_GLM
    guard = SpendingGuard(AMPLE)
    guard.open_account(opened)
    guard.report_usage("a", Decimal("0.15"), 90.0)
    # 0.15 + (10 + 3) * 0.0025
    assert guard.acceptable_glm("a", 100.0) == Decimal("0.1825") + BILL_ROUNDING_GLM
    guard.end("a", 94.0)
    guard.end("a", 999.0)
    # nothing runs after the end: 0.15 + (4 + 3) * 0.0025, however late the bill
    assert guard.acceptable_glm("a", 1e6) == Decimal("0.1675") + BILL_ROUNDING_GLM


def test_usage_that_runs_backwards_is_ignored() -> None:
    guard = SpendingGuard(AMPLE)
    guard.open_account(account(Prices(hour_glm=Decimal(36))))
    guard.report_usage("a", Decimal("0.5"), 60.0)
    before = guard.accounts["a"]
    guard.report_usage("a", Decimal("0.4"), 70.0)
    assert guard.accounts["a"] == before


def test_usage_beyond_the_clock_is_not_believed() -> None:
    guard = SpendingGuard(AMPLE)
    guard.open_account(account(Prices(start_glm=Decimal(2), hour_glm=Decimal(3600))))
    guard.report_usage("a", Decimal("1e300"), 10.0)
    assert guard.due_glm == 2 + 10 + Decimal(BILL_SLACK_SECONDS)
    guard.report_usage("a", Decimal(102), 100.0)
    assert guard.due_glm == 102


def test_what_may_be_spent_by_hand() -> None:
    prices = Prices(Decimal("0.1"), Decimal("3.6"), Decimal("1.8"))
    guard = SpendingGuard(Decimal("1.35"), spent_before_glm=Decimal("0.25"))
    assert guard.may_spend_seconds(0.0) == float("inf")
    guard.open_account(account(prices, threads=2))
    full = Fraction(25, 10_000)
    exposure = Fraction(1, 10) + full * (100 + Fraction(PLAN_SLACK_SECONDS))
    assert guard.may_spend_seconds(100.0) == pytest.approx(
        float((Fraction(11, 10) - exposure) / full), abs=1e-5
    )
    guard.report_usage("a", Decimal("0.2"), 100.0)
    measured = Fraction(RATE_MARGIN) * Fraction(1, 1000)  # (0.2 - 0.1) GLM in 100 s
    exposure = Fraction(2, 10) + full * Fraction(PLAN_SLACK_SECONDS)
    assert guard.may_spend_seconds(100.0) == pytest.approx(
        float((Fraction(11, 10) - exposure) / measured), abs=1e-5
    )
    guard.end("a", 100.0)
    assert guard.may_spend_seconds(1e9) == float("inf")
    assert guard.due_glm == Decimal("0.45")


def test_nothing_may_be_spent_beyond_the_budget() -> None:
    guard = SpendingGuard(Decimal("0.5"))
    guard.open_account(account(Prices(Decimal("0.6"))))
    assert guard.may_spend_seconds(0.0) == 0.0
    assert guard.acceptable_glm("a", 0.0) == Decimal("0.5")


def test_a_settled_account_is_what_was_accepted() -> None:
    guard = SpendingGuard(Decimal(10))
    guard.open_account(account(Prices(Decimal(2), hour_glm=Decimal(3600))))
    guard.open_account(account(Prices(Decimal(2)), "b"))
    guard.accepted("a", Decimal("2.5"), is_final=False)
    guard.accepted("a", Decimal(3), is_final=True)
    guard.accepted("a", Decimal(1), is_final=False)
    guard.refuse("b")
    assert guard.exposure_glm(1000.0) == guard.accepted_glm == guard.due_glm == 3


def test_small_steps_do_not_lead_past_the_bound() -> None:
    guard = SpendingGuard(AMPLE)
    opened = account(Prices(hour_glm=Decimal(36)))
    guard.open_account(opened)
    guard.report_usage("a", Decimal(0), 10.0)
    guard.end("a", 10.0)
    for _ in range(50):
        guard.accepted("a", guard.acceptable_glm("a", 10.0), is_final=False)
    # 0 by usage, and 3 s of slack at 0.01 GLM/s
    assert guard.accepted_glm == Decimal("0.03") + BILL_ROUNDING_GLM


def test_what_is_owed_of_earlier_sessions_is_kept_back() -> None:
    guard = SpendingGuard(
        Decimal(2), Decimal("0.5"), owed_before_glm={"old": Decimal("0.25"), "b": Decimal("0.15")}
    )
    guard.open_account(account(Prices(Decimal("0.1"), Decimal(0), Decimal(36))))
    # 2 - 0.5 spent - 0.4 owed - 0.1 - 10.5 s of 0.01 and the rounding; at 0.01 a second
    assert guard.may_spend_seconds(10.0) == pytest.approx(89.5, abs=1e-5)
    # one of them is taken up again: what was accepted of it is its own now
    again = Account("b", "node b", Prices(), 1, 0.0, accepted_glm=Decimal("0.2"))
    guard.open_account(again)
    assert guard.owed_before_glm == {"old": Decimal("0.25")}
    assert guard.spent_before_glm == Decimal("0.3")
    assert guard.accepted_glm == Decimal("0.5")
    assert guard.may_spend_seconds(10.0) == pytest.approx(104.5, abs=1e-5)


def test_what_the_budget_carries_of_one_agreement() -> None:
    guard = SpendingGuard(Decimal(1), Decimal("0.3"))
    guard.open_account(account(Prices(), "a"))
    guard.open_account(account(Prices(), "b"))
    guard.accepted("a", Decimal("0.1"), is_final=False)
    guard.accepted("b", Decimal("0.4"), is_final=True)
    assert guard.affordable_glm("a") == Decimal("0.3")
    assert guard.affordable_glm("b") == Decimal("0.6")


def test_cost_by_provider_over_sessions() -> None:
    guard = SpendingGuard(
        Decimal(9), Decimal(3), spent_before_by_provider={"node a": Decimal(2), "x": Decimal(1)}
    )
    guard.open_account(account(Prices(Decimal("0.5")), "a"))
    guard.open_account(account(Prices(), "b"))
    guard.report_usage("a", Decimal("0.5"), 1.0)
    assert guard.due_by_provider == {"node a": Decimal("2.5"), "x": Decimal(1)}
    assert sum(guard.due_by_provider.values()) == guard.due_glm
    guard.accepted("a", Decimal("0.4"), is_final=True)
    assert guard.due_by_provider["node a"] == Decimal("2.4")


def test_every_activity_has_a_start_price_and_a_meter() -> None:
    guard = SpendingGuard(AMPLE)
    guard.open_account(account(Prices(Decimal("0.1"), Decimal(0), Decimal("3.6"))))
    guard.begin_activity("a", 1)
    guard.report_usage("a", Decimal("0.15"), 60.0, "a1")
    guard.begin_activity("a", 2)
    # of the second nothing was reported yet: two start prices, 70 s and 3 s of slack
    assert guard.acceptable_glm("a", 70.0) == Decimal("0.273") + BILL_ROUNDING_GLM
    guard.report_usage("a", Decimal("0.105"), 80.0, "a2")
    # 20 s between the reports and 5 s since the last are not known, 3 s of slack for each
    assert guard.acceptable_glm("a", 85.0) == Decimal("0.255") + Decimal("0.031") + (
        BILL_ROUNDING_GLM
    )
    guard.report_usage("a", Decimal("0.16"), 90.0, "a1")
    assert guard.accounts["a"].reported_glm == Decimal("0.265")


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["usage", "bill", "bill", "invoice", "end", "refuse"]),
        st.integers(0, 2),
        st.floats(0, 2000, allow_subnormal=False),
        st.decimals(0, 1000, places=6),
        st.booleans(),
    ),
    max_size=30,
)


@given(
    st.decimals(0, 20, places=6),
    st.decimals(0, 20, places=6),
    st.lists(st.tuples(PRICES, st.integers(1, 8), SECONDS), min_size=3, max_size=3),
    EVENTS,
)
@settings(max_examples=150)
def test_whatever_providers_claim_the_budget_holds(
    budget: Decimal,
    spent_before: Decimal,
    offers: list[tuple[Prices, int, float]],
    events: list[tuple[str, int, float, Decimal, bool]],
) -> None:
    guard = SpendingGuard(budget + spent_before, spent_before)
    for index, (prices, threads, approved) in enumerate(offers):
        guard.open_account(account(prices, str(index), threads, approved))
    now = max(approved for _, _, approved in offers)
    for kind, index, seconds, claim, is_greedy in events:
        now += seconds
        name = str(index)
        opened = guard.accounts[name]
        if kind == "usage":
            guard.report_usage(name, claim, now)
        elif kind == "end":
            guard.end(name, now)
        elif kind == "refuse":
            guard.refuse(name)
        else:
            bound = guard.acceptable_glm(name, now)
            end = now if opened.ended_seconds is None else opened.ended_seconds
            allowed = clock_bound(opened, end - opened.approved_seconds)
            # times are floats: 2000 s are exact to 1e-12
            assert Fraction(bound) <= allowed + Fraction(1, 10**11)
            asked = bound.quantize(Decimal("1e-18"), ROUND_DOWN) if is_greedy else claim
            if asked <= bound:
                guard.accepted(name, asked, is_final=kind == "invoice")
        assert guard.accepted_glm <= budget + spent_before
        assert guard.exposure_glm(now) >= guard.accepted_glm - spent_before


@given(
    prices=PRICES,
    threads=st.integers(1, 16),
    head_start=st.floats(0, 2.9),
    reports=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 2.9)), max_size=6),
    seconds=SECONDS,
    loads=st.lists(st.floats(0, 1), min_size=7, max_size=7),
    wait=st.floats(0, 1e6),
)
@settings(max_examples=200)
def test_an_honest_bill_is_always_acceptable(
    *,
    prices: Prices,
    threads: int,
    head_start: float,
    reports: list[tuple[float, float]],
    seconds: float,
    loads: list[float],
    wait: float,
) -> None:
    """The provider's clock starts `head_start` before ours, its reports lag, its bill waits."""

    def usage(until: float) -> tuple[float, float]:
        """Exact usage (CPU seconds, seconds) at `until` of our clock; the load changes."""
        total = max(0.0, until + head_start)
        piece = (seconds + head_start) / len(loads) or 1.0
        cpu = sum(
            load * threads * min(piece, max(0.0, total - k * piece)) for k, load in enumerate(loads)
        )
        return min(cpu, threads * total), total

    def cost(until: float) -> float:
        """What the provider computes for it, in binary floating point."""
        cpu, total = usage(until)
        per_cpu, per_second = float(prices.cpu_hour_glm) / 3600, float(prices.hour_glm) / 3600
        return float(prices.start_glm) + per_cpu * cpu + per_second * total

    guard = SpendingGuard(AMPLE)
    guard.open_account(account(prices, threads=threads))
    for share, lag in sorted(reports):
        guard.report_usage("a", Decimal(repr(cost(share * seconds - lag))), share * seconds)
    guard.end("a", seconds)
    assert Decimal(repr(cost(seconds))) <= guard.acceptable_glm("a", seconds + wait)


@given(st.decimals("1e-9", 10**9, places=9), st.integers(0, 10**6 - 1))
def test_a_mark_is_in_the_smallest_units_alone(amount: Decimal, mark: int) -> None:
    marked = marked_allocation_glm(amount, mark)
    assert Fraction(amount) - Fraction(marked) == Fraction(mark, 10**18)


def test_a_mark_on_any_budget_that_a_config_allows() -> None:
    # 36 digits, 18 of them decimals: more than the 28 that Decimal computes with by default
    amount = Decimal("123456789012345678.123456789012345678")
    assert marked_allocation_glm(amount, 5) == Decimal("123456789012345678.123456789012345673")


def test_fractions_below_the_smallest_unit_are_cut_off() -> None:
    assert marked_allocation_glm(Decimal("0.0000000000000000019"), 0) == Decimal("1e-18")


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("0.25", "0.25"),
        ("-3", "-3"),
        ("0.0000000000000000019", "0.0000000000000000019"),
        ("1e9999999", "1000000000000"),
        ("-1e9999999", "-1000000000000"),
        ("Infinity", "1000000000000"),
        ("NaN", "1000000000000"),
        ("1e-9999999", "0.000000000000000000"),
    ],
)
def test_whatever_is_asked_can_be_shown(asked: str, shown: str) -> None:
    assert f"{presentable_glm(Decimal(asked)):f}" == shown


@pytest.mark.parametrize("asked", ["0", "0.000000000000000001", "5e11", "1e-60"])
def test_amounts(asked: str) -> None:
    assert is_amount(Decimal(asked))


@pytest.mark.parametrize("asked", ["NaN", "Infinity", "-1e-18", "1e13", "1e9999999", "1e-9999999"])
def test_no_amounts(asked: str) -> None:
    assert not is_amount(Decimal(asked))
