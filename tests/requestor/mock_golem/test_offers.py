"""What a provider makes of a demand's terms, which may hold anything that JSON can say."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.mock_golem.fleet import parse_fleet
from requestor.mock_golem.offers import (
    CHOSEN_PLATFORM,
    DEBIT_NOTE_ACCEPT_TIMEOUT,
    DEBIT_NOTE_INTERVAL,
    EXPIRATION,
    PAYMENT_TIMEOUT,
    ProposalRefused,
    answer_counter,
    expiration,
    offer_properties,
)

PLATFORM = "erc20-hoodi-tglm"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
IN_20_MINUTES = (NOW.timestamp() + 1200) * 1000
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 1e308, 0, True])
TERMS = [DEBIT_NOTE_INTERVAL, PAYMENT_TIMEOUT, DEBIT_NOTE_ACCEPT_TIMEOUT]


def answer(demand: dict[str, Any], provider: str = "{name: oak}") -> dict[str, Any]:
    """Return a provider's answer to a demand's terms."""
    (model,) = parse_fleet(f"providers: [{provider}]").expanded()
    offer = offer_properties(model, "public", PLATFORM, "0x" + "1" * 40)
    return answer_counter(offer, {CHOSEN_PLATFORM: PLATFORM, **demand}, model, NOW)


@given(
    st.dictionaries(st.sampled_from(TERMS), NUMBERS | st.text(max_size=3) | st.none()),
    NUMBERS | st.just(IN_20_MINUTES),
)
def test_any_terms_are_answered_or_refused(demand: dict[str, Any], expires: Any) -> None:
    try:
        draft = answer({**demand, EXPIRATION: expires})
    except ProposalRefused:
        return
    json.dumps(draft, allow_nan=False)


@pytest.mark.parametrize("value", [10**400, math.inf, math.nan, "1", True, [1], None])
def test_what_is_no_instant_is_none(value: Any) -> None:
    assert expiration({EXPIRATION: value}) is None


def test_an_offer_without_a_term_makes_none() -> None:
    lacking = f"{{name: oak, properties: {{'{DEBIT_NOTE_INTERVAL}': null}}}}"
    demand = {EXPIRATION: IN_20_MINUTES, DEBIT_NOTE_INTERVAL: 300, PAYMENT_TIMEOUT: 300}
    draft = answer(demand, lacking)
    assert DEBIT_NOTE_INTERVAL not in draft
    assert draft[PAYMENT_TIMEOUT] == 300
