"""Which offers are answered, in which order, and which bills are accepted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from decimal import Decimal

from yapapi.props import com
from yapapi.props.builder import DemandBuilder
from yapapi.rest.market import OfferProposal
from yapapi.rest.payment import DebitNote, Invoice
from yapapi.strategy import SCORE_REJECTED, MarketStrategy

from requestor.marketplace.golem.offer_terms import OfferUnusable, read_offer
from requestor.marketplace.spending import Prices, is_amount

logger = logging.getLogger(__name__)

LAST_RESORT_SCORE = 1e-6
"""Providers with a bad record score this: rented only when nobody else is left."""

NOTE_SECONDS = 1.0
"""Debit notes of one agreement are accepted at most this often."""

EXPECTED_SECONDS = Decimal(600)

REFUSED_GLM = Decimal("-Infinity")
"""yapapi accepts a bill if we accept at least what it asks: this is less than any amount."""


class PlainDecimal(Decimal):
    """A decimal whose text is never in scientific notation, which daemons do not read.

    (yapapi sends `str(amount)`, and `str(Decimal("0.00000001"))` is `1E-8`.)
    """

    def __str__(self) -> str:
        """Return all digits."""
        return format(self, "f")


class CeilingStrategy(MarketStrategy):
    """Cheapest first under our own ceilings; yapapi's default caps are far above market prices.

    `standing(node_id)` says "good", "doubtful" (last resort) or "barred"; `acceptable(agreement)`
    is the most a bill may ask for.
    """

    def __init__(
        self,
        ceilings: Prices,
        standing: Callable[[str], str],
        acceptable: Callable[[str], Decimal],
        on_bill: Callable[[str, str, Decimal, Decimal], None],
        on_offer: Callable[[str, str | None], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use `ceilings`; tell `on_bill(agreement, kind, asked, bound)` of every bill refused and
        `on_offer(provider, refusal)` of every offer seen."""
        self._ceilings = ceilings
        self._standing = standing
        self._acceptable = acceptable
        self._clock = clock
        self._noted_seconds: dict[str, float] = {}
        self._on_bill = on_bill
        self._on_offer = on_offer

    async def decorate_demand(self, demand: DemandBuilder) -> None:
        """Ask for linear prices."""
        await super().decorate_demand(demand)
        demand.ensure(f"({com.PRICE_MODEL}={com.PriceModel.LINEAR.value})")

    async def score_offer(self, offer: OfferProposal) -> float:
        """Score between 0 and 100, higher for cheaper; negative refuses."""
        try:
            terms = read_offer(offer.props)
        except OfferUnusable as error:
            self._on_offer(offer.issuer, str(error))
            return SCORE_REJECTED
        if not terms.prices.within(self._ceilings):
            self._on_offer(offer.issuer, "above the price ceilings")
            return SCORE_REJECTED
        standing = self._standing(offer.issuer)
        if standing == "barred":
            self._on_offer(offer.issuer, "failed before in this run")
            return SCORE_REJECTED
        self._on_offer(offer.issuer, None)
        if standing == "doubtful":
            return LAST_RESORT_SCORE
        cost = terms.prices.cost_glm(EXPECTED_SECONDS, EXPECTED_SECONDS)
        return float(100 / (1 + 1000 * cost))

    async def invoice_accepted_amount(self, invoice: Invoice) -> Decimal:
        """Return the invoice's amount if it is within what can be due, else `REFUSED_GLM`."""
        return self._judge(invoice.agreement_id, "invoice", Decimal(invoice.amount))

    async def debit_note_accepted_amount(self, debit_note: DebitNote) -> Decimal:
        """Return the note's amount if it is within what can be due, else `REFUSED_GLM`.

        Notes are cumulative, so that of a flood only one a second needs to be accepted.
        """
        now = self._clock()
        last = self._noted_seconds.get(debit_note.agreement_id)
        if last is not None and now - last < NOTE_SECONDS:
            return REFUSED_GLM
        self._noted_seconds[debit_note.agreement_id] = now
        return self._judge(
            debit_note.agreement_id, "debit note", Decimal(debit_note.total_amount_due)
        )

    def _judge(self, agreement_id: str, kind: str, asked: Decimal) -> Decimal:
        bound = self._acceptable(agreement_id)
        if is_amount(asked) and asked <= bound:
            return PlainDecimal(asked)
        self._on_bill(agreement_id, kind, asked, bound)
        return REFUSED_GLM
