"""Reading what requestors say out of a real daemon's events."""

from datetime import UTC, datetime
from typing import Any

import pytest

from requestor.mock_golem.testnet.yagna_market import EventError, read_agreement

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PRICES = "golem.com.pricing.model.linear.coeffs"
PLATFORM = "golem.com.payment.chosen-platform"


def agreement(offer: dict[str, Any], demand: dict[str, Any]) -> dict[str, Any]:
    """Return an agreement with these properties, as an event holds it."""
    sides = {
        "offer": {"properties": offer, "offerId": "1-2", "providerId": "0x1"},
        "demand": {"properties": demand, "demandId": "3-4", "requestorId": "0x2"},
    }
    constrained = {side: {**told, "constraints": "()"} for side, told in sides.items()}
    return {"agreementId": "5", "validTo": "2100-01-01T00:00:00Z", **constrained}


def test_an_agreement_is_read() -> None:
    found = read_agreement(agreement({PRICES: [0.1, 0.2, 0]}, {PLATFORM: "erc20-x-glm"}), NOW)
    assert (found.coefficients, found.platform) == ([0.1, 0.2, 0], "erc20-x-glm")
    assert (found.requestor_id, found.provider_id, found.state) == ("0x2", "0x1", "Pending")


@pytest.mark.parametrize("prices", [{}, {PRICES: None}, {PRICES: 3}, {PRICES: [1, 2]}])
def test_one_without_prices_is_none(prices: dict[str, Any]) -> None:
    with pytest.raises(EventError, match=r"price|cannot be read"):
        read_agreement(agreement(prices, {PLATFORM: "erc20-x-glm"}), NOW)


@pytest.mark.parametrize(
    "demand",
    [
        {},
        {PLATFORM: 3},
        {f"golem.com.payment.platform.{name}.address": "0x2" for name in ("a", "b")},
    ],
    ids=["none", "no text", "one of two"],
)
def test_one_without_a_platform_is_none(demand: dict[str, Any]) -> None:
    with pytest.raises(EventError, match="payment platform"):
        read_agreement(agreement({PRICES: [0, 0, 0]}, demand), NOW)
