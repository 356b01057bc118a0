"""Which offers are negotiated at all; who judges bills."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from yapapi.rest.market import OfferProposal
from yapapi.rest.payment import DebitNote, Invoice
from yapapi.strategy import SCORE_NEUTRAL, SCORE_REJECTED

from requestor.marketplace.choice.history import ProviderHistory, Who
from requestor.marketplace.choice.selection import Preferences, Selection
from requestor.marketplace.golem.renting.strategy import CeilingStrategy
from requestor.marketplace.money.spending import Prices

CEILINGS = Prices(Decimal("0.5"), Decimal(5), Decimal(5))
PLATFORM = "erc20-hoodi-tglm"
WALLET = "0x" + "Ab" * 20
Price = str | int | Decimal


def offer(start: Price, cpu_hour: Price, hour: Price, issuer: str = "0xa") -> OfferProposal:
    """An offer at prices by the hour, as a provider writes it: floats by the second."""
    properties = {
        "golem.com.pricing.model": "linear",
        "golem.com.scheme": "payu",
        "golem.com.pricing.model.linear.coeffs": [
            float(cpu_hour) / 3600,
            float(hour) / 3600,
            float(start),
        ],
        "golem.com.usage.vector": ["golem.usage.cpu_sec", "golem.usage.duration_sec"],
        "golem.node.id.name": f"node {issuer}",
        f"golem.com.payment.platform.{PLATFORM}.address": WALLET,
    }
    return cast(OfferProposal, SimpleNamespace(props=properties, issuer=issuer))


class Judge:
    """Stands in for the auditor."""

    def judge_invoice(self, invoice: Invoice) -> Decimal:
        return Decimal(1) if invoice.agreement_id == "g1" else Decimal(2)

    def judge_debit_note(self, note: DebitNote) -> Decimal:
        return Decimal(3) if note.agreement_id == "g1" else Decimal(4)


class Desk:
    """A strategy and the selection that it tells of offers."""

    def __init__(self, folder: Path) -> None:
        history = ProviderHistory(folder / "providers.json", lambda: 1e9)
        self.selection = Selection(Preferences(), CEILINGS, history, lambda: 0.0)
        self.strategy = CeilingStrategy(self.selection, PLATFORM, Judge())

    def score(self, offered: OfferProposal) -> float:
        """The score of an offer."""
        return asyncio.run(self.strategy.score_offer(offered))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize(
    "prices", [("0.5", 5, 5), ("0.5", 0, 0), (0, "0.2", "0.7"), (0, "4.9999", 0)]
)
def test_a_price_at_its_ceiling_is_not_above_it(
    desk: Desk, prices: tuple[Price, Price, Price]
) -> None:
    assert desk.score(offer(*prices)) > SCORE_NEUTRAL
    assert desk.selection.view == "1 offers seen"


@pytest.mark.parametrize("prices", [("0.5001", 0, 0), (0, "5.0001", 0), (0, 0, "5.0001")])
def test_above_a_ceiling_is_refused(desk: Desk, prices: tuple[Price, Price, Price]) -> None:
    assert desk.score(offer(*prices)) == SCORE_REJECTED < SCORE_NEUTRAL
    assert desk.selection.view == "1 offers seen; refused: above the price ceilings (1)"


def test_an_offer_that_cannot_be_priced_is_refused_with_the_reason(desk: Desk) -> None:
    unusable = cast(OfferProposal, SimpleNamespace(props={}, issuer="0xa"))
    assert desk.score(unusable) == SCORE_REJECTED
    assert "the price model is not linear (1)" in desk.selection.view


def test_whoever_failed_twice_is_refused_and_so_is_its_wallet(desk: Desk) -> None:
    who = Who("0xb", "node 0xb", WALLET.lower())
    desk.selection.failed(who, "vanished")
    assert desk.score(offer(0, 0, 0, "0xb")) > SCORE_NEUTRAL
    desk.selection.failed(who, "vanished")
    assert desk.score(offer(0, 0, 0, "0xb")) == SCORE_REJECTED
    assert desk.score(offer(0, 0, 0, "0xc")) == SCORE_REJECTED
    assert "failed before in this run (2)" in desk.selection.view


def test_the_wallet_is_that_of_the_platform(desk: Desk) -> None:
    desk.score(offer(0, 0, 0, "0xb"))
    assert desk.selection.offers["0xb"].who == Who("0xb", "node 0xb", WALLET.lower())


def test_bills_are_for_the_auditor_to_judge(desk: Desk) -> None:
    bill = cast(Any, SimpleNamespace(agreement_id="g1"))
    assert asyncio.run(desk.strategy.invoice_accepted_amount(bill)) == 1
    assert asyncio.run(desk.strategy.debit_note_accepted_amount(bill)) == 3


def test_the_demand_asks_for_linear_prices(desk: Desk) -> None:
    constraints: list[str] = []
    demand = SimpleNamespace(ensure=constraints.append, add=lambda *_: None, properties={})
    asyncio.run(desk.strategy.decorate_demand(cast(Any, demand)))
    assert "(golem.com.pricing.model=linear)" in constraints
