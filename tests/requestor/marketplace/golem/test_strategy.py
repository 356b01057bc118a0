"""Which offers are taken first, which not at all, and which bills are accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from yapapi.rest.market import OfferProposal
from yapapi.rest.payment import DebitNote, Invoice
from yapapi.strategy import SCORE_NEUTRAL, SCORE_REJECTED

from requestor.marketplace.golem.strategy import CeilingStrategy
from requestor.marketplace.spending import Prices

CEILINGS = Prices(Decimal("0.5"), Decimal(5), Decimal(5))
Price = str | int | Decimal
HOURLY = st.decimals(0, 5, places=4)


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
    }
    return cast(OfferProposal, SimpleNamespace(props=properties, issuer=issuer))


class Desk:
    """A strategy and what it told us."""

    def __init__(
        self, bound: Decimal = Decimal(1), standings: Mapping[str, str] | None = None
    ) -> None:
        self.offers: list[tuple[str, str | None]] = []
        self.bills: list[tuple[str, str, Decimal, Decimal]] = []
        self.strategy = CeilingStrategy(
            CEILINGS,
            standing=lambda node: (standings or {}).get(node, "good"),
            acceptable=lambda agreement: bound,
            on_bill=lambda *bill: self.bills.append(bill),
            on_offer=lambda node, refusal: self.offers.append((node, refusal)),
        )

    def score(self, offered: OfferProposal) -> float:
        """The score of an offer."""
        return asyncio.run(self.strategy.score_offer(offered))

    def invoice(self, amount: str) -> bool:
        """Whether yapapi would accept an invoice: it compares like this (`invoice_manager.py`)."""
        bill = cast(Invoice, SimpleNamespace(agreement_id="g1", amount=amount))
        accepted = asyncio.run(self.strategy.invoice_accepted_amount(bill))
        assert accepted in (Decimal(amount), Decimal("-Infinity"))
        return accepted >= Decimal(amount)

    def debit_note(self, amount: str) -> bool:
        """Whether yapapi would accept a debit note (`engine.py`)."""
        note = cast(DebitNote, SimpleNamespace(agreement_id="g1", total_amount_due=amount))
        accepted = asyncio.run(self.strategy.debit_note_accepted_amount(note))
        return accepted >= Decimal(amount)


def test_a_score_by_hand() -> None:
    # 600 s of both at 0.6 GLM an hour and 0.05 at the start cost 0.25: 100 / 251
    assert Desk().score(offer("0.05", "0.6", "0.6")) == pytest.approx(100 / 251)
    assert Desk().score(offer(0, 0, 0)) == 100


@given(st.tuples(HOURLY, HOURLY), st.tuples(HOURLY, HOURLY))
def test_cheaper_is_higher(one: tuple[Decimal, Decimal], other: tuple[Decimal, Decimal]) -> None:
    assume(sum(one) != sum(other))
    desk = Desk()
    scores = desk.score(offer(0, *one)), desk.score(offer(0, *other))
    assert (scores[0] > scores[1]) is (sum(one) < sum(other))
    assert all(SCORE_NEUTRAL < score <= 100 for score in scores)


@pytest.mark.parametrize(
    "prices", [("0.5", 5, 5), ("0.5", 0, 0), (0, "0.2", "0.7"), (0, "4.9999", 0)]
)
def test_a_price_at_its_ceiling_is_not_above_it(prices: tuple[Price, Price, Price]) -> None:
    desk = Desk()
    assert desk.score(offer(*prices)) > SCORE_NEUTRAL
    assert desk.offers == [("0xa", None)]


@pytest.mark.parametrize("prices", [("0.5001", 0, 0), (0, "5.0001", 0), (0, 0, "5.0001")])
def test_above_a_ceiling_is_refused(prices: tuple[Price, Price, Price]) -> None:
    desk = Desk()
    assert desk.score(offer(*prices)) == SCORE_REJECTED < SCORE_NEUTRAL
    assert desk.offers == [("0xa", "above the price ceilings")]


def test_an_offer_that_cannot_be_priced_is_refused_with_the_reason() -> None:
    desk = Desk()
    unusable = cast(OfferProposal, SimpleNamespace(props={}, issuer="0xa"))
    assert desk.score(unusable) == SCORE_REJECTED
    assert desk.offers == [("0xa", "the price model is not linear")]


def test_whoever_failed_twice_is_barred() -> None:
    desk = Desk(standings={"0xb": "barred"})
    assert desk.score(offer(0, 0, 0, "0xb")) == SCORE_REJECTED
    assert desk.offers == [("0xb", "failed before in this run")]


@given(HOURLY, HOURLY)
def test_the_doubtful_come_last_however_cheap(cpu: Decimal, duration: Decimal) -> None:
    desk = Desk(standings={"0xb": "doubtful"})
    doubtful = desk.score(offer(0, 0, 0, "0xb"))
    assert SCORE_NEUTRAL < doubtful < desk.score(offer("0.5", cpu, duration))


@pytest.mark.parametrize("amount", ["0", "0.5", "1", "1.000000000000000000"])
def test_bills_up_to_what_can_be_due_are_accepted(amount: str) -> None:
    desk = Desk(bound=Decimal(1))
    assert desk.invoice(amount)
    assert desk.debit_note(amount)
    assert not desk.bills


@pytest.mark.parametrize(
    "amount",
    ["1.000000000000000001", "1e30", "1e9999999", "1e-9999999", "-0.5", "-5", "Infinity"],
)
def test_other_bills_are_refused_and_told(amount: str) -> None:
    desk = Desk(bound=Decimal(1))
    assert not desk.invoice(amount)
    assert not desk.debit_note(amount)
    asked = Decimal(amount)
    assert desk.bills == [
        ("g1", "invoice", asked, Decimal(1)),
        ("g1", "debit note", asked, Decimal(1)),
    ]


def test_the_demand_asks_for_linear_prices() -> None:
    constraints: list[str] = []
    demand = SimpleNamespace(ensure=constraints.append, add=lambda *_: None, properties={})
    asyncio.run(Desk().strategy.decorate_demand(cast(Any, demand)))
    assert "(golem.com.pricing.model=linear)" in constraints
