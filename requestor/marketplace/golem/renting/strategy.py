"""Which offers are negotiated, and which bills are accepted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Protocol

from yapapi.props import com
from yapapi.props.builder import DemandBuilder
from yapapi.rest.market import OfferProposal
from yapapi.rest.payment import DebitNote, Invoice
from yapapi.strategy import (
    PROP_PAYMENT_TIMEOUT_SEC,
    SCORE_REJECTED,
    SCORE_TRUSTED,
    MarketStrategy,
    PropValueRange,
)

from requestor.marketplace.choice.history import Who
from requestor.marketplace.choice.selection import Offered, Selection
from requestor.marketplace.offers.offer_terms import OfferUnusable, read_offer, read_wallet

logger = logging.getLogger(__name__)

PAYMENT_INTERVAL_SECONDS = 18_000.0
"""Interim payments at most this often unless the config says otherwise: yapapi's own limit."""


class BillJudge(Protocol):
    """Says how much of a bill is accepted: all it asks, or less than any amount."""

    def judge_invoice(self, invoice: Invoice) -> Decimal:
        """Judge an invoice."""
        ...

    def judge_debit_note(self, note: DebitNote) -> Decimal:
        """Judge a debit note."""
        ...


class CeilingStrategy(MarketStrategy):
    """Says which offers are negotiated, by `Selection`; which of them is taken, `best_offer` does.

    (yapapi's default caps are far above market prices.) `bills` judges what providers ask.
    """

    def __init__(
        self,
        selection: Selection,
        platform: str,
        bills: BillJudge,
        payment_interval_seconds: float = PAYMENT_INTERVAL_SECONDS,
    ) -> None:
        """Tell `selection` of every offer; providers are paid by `platform`.

        Under long agreements (yapapi: from 5 h on) it is agreed that they may ask for an interim
        payment, at most every `payment_interval_seconds`. yapapi ends the agreements of those that
        ask more often, and of those with whom nothing was agreed and who ask nevertheless.
        """
        self.acceptable_prop_value_range_overrides = {
            PROP_PAYMENT_TIMEOUT_SEC: PropValueRange(round(payment_interval_seconds), None)
        }
        self._selection = selection
        self._platform = platform
        self._bills = bills

    async def decorate_demand(self, demand: DemandBuilder) -> None:
        """Ask for linear prices."""
        await super().decorate_demand(demand)
        demand.ensure(f"({com.PRICE_MODEL}={com.PriceModel.LINEAR.value})")

    async def score_offer(self, offer: OfferProposal) -> float:
        """Refuse with a negative score; all others score the same."""
        try:
            offered = read_offered(offer.issuer, offer.props, self._platform)
        except OfferUnusable as error:
            self._selection.note(offer.issuer, str(error))
            return SCORE_REJECTED
        return SCORE_REJECTED if self._selection.refusal(offered) is not None else SCORE_TRUSTED

    async def invoice_accepted_amount(self, invoice: Invoice) -> Decimal:
        """Return what we accept to pay of an invoice; see `BillJudge`."""
        return self._bills.judge_invoice(invoice)

    async def debit_note_accepted_amount(self, debit_note: DebitNote) -> Decimal:
        """Return what we accept to pay of a debit note; see `BillJudge`."""
        return self._bills.judge_debit_note(debit_note)


def read_offered(node_id: str, properties: Mapping[str, Any], platform: str) -> Offered:
    """Return who offers, and for how much.

    Raises:
        OfferUnusable: the offer cannot be priced.
    """
    terms = read_offer(properties)
    who = Who(node_id, terms.provider_name, read_wallet(properties, platform))
    return Offered(who, terms.prices, terms.threads)
