"""Exact amounts: nothing is lost, nothing is shown with an exponent."""

from decimal import Decimal
from fractions import Fraction

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requestor.mock_golem.money import add, cost, multiply, plain, subtract

_amounts = st.decimals(
    min_value=0, max_value=10**10, places=18, allow_nan=False, allow_infinity=False
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_amounts, max_size=20))
def test_sums_are_exact(amounts: list[Decimal]) -> None:
    assert Fraction(add(*amounts)) == sum(map(Fraction, amounts))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_amounts, _amounts)
def test_what_is_subtracted_can_be_added_again(amount: Decimal, other: Decimal) -> None:
    assert add(subtract(amount, other), other) == amount


def test_a_binary_float_budget_stays_whole() -> None:
    budget = Decimal.from_float(0.1)  # 55 digits, as a requestor that passes floats sends it
    smallest = Decimal("1e-18")
    assert Fraction(subtract(budget, smallest)) == Fraction(budget) - Fraction(smallest)


def test_cost_is_start_price_plus_usage_times_price() -> None:
    assert cost([0.0001, 0.00005, 0.001], [3.5, 10.0]) == Decimal("0.00185")
    assert cost([0.0, 0.0, 0.0], [1.0, 1.0]) == 0


def test_cost_counts_whole_microseconds() -> None:
    assert cost([1.0, 0.0], [1.0000004]) == 1
    assert cost([1.0, 0.0], [1.0000006]) == Decimal("1.000001")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1e6), st.floats(0, 1e6))
def test_cost_has_at_most_18_places_and_grows(
    cpu_price: float, price: float, cpu_seconds: float, seconds: float
) -> None:
    amount = cost([cpu_price, price, 0.0], [cpu_seconds, seconds])
    exponent = amount.as_tuple().exponent
    assert isinstance(exponent, int) and exponent >= -18
    assert cost([cpu_price, price, 0.0], [cpu_seconds, seconds + 1]) >= amount


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_amounts)
def test_amounts_are_written_plainly(amount: Decimal) -> None:
    text = plain(amount)
    assert "E" not in text.upper()
    assert Decimal(text) == amount


def test_factors() -> None:
    assert multiply(Decimal("0.1"), Decimal("10.0")) == 1
    assert plain(multiply(Decimal("100"), Decimal("10"))) == "1000"
