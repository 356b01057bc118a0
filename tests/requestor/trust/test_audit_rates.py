"""How often work is done again: the curve's closed form, and what it costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.trust.audit_rates import AuditRates
from requestor.trust.catching import expected_audits

CHANCES = st.floats(0, 1)


def test_the_rate_falls_with_the_cube_of_the_record_down_to_the_least() -> None:
    rates = AuditRates(first=1.0, least=0.03)
    assert [rates.chance(v) for v in range(5)] == [1.0, 1 / 8, 1 / 27, 0.03, 0.03]
    assert AuditRates(0.5, 0.0).chance(9) == 0.5 / 1000


@given(CHANCES, CHANCES, st.integers(0, 10**6))
def test_a_rate_is_a_chance_between_least_and_first(one: float, two: float, verified: int) -> None:
    least, first = sorted((one, two))
    rates = AuditRates(first, least)
    assert least <= rates.chance(verified + 1) <= rates.chance(verified) <= first
    assert rates.chance(0) == first


def test_a_job_of_112_items_on_four_unknown_providers_does_a_tenth_of_its_work_again() -> None:
    # 28 items each: the first for sure, then one in eight until the second is drawn, ...
    assert 4 * expected_audits(AuditRates(), 0, 28) / 112 <= 0.10


def test_off_is_off() -> None:
    rates = AuditRates(0.0, 0.0)
    assert rates.is_off and rates.chance(0) == 0.0
    assert not AuditRates(0.1, 0.0).is_off


@pytest.mark.parametrize(("first", "least"), [(0.1, 0.2), (1.1, 0.0), (0.5, -0.1)])
def test_what_is_no_chance_is_refused(first: float, least: float) -> None:
    with pytest.raises(ValueError, match="does not hold"):
        AuditRates(first, least)
