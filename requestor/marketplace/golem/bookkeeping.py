"""From yapapi's events to the ledger and the spending guard."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from yapapi import events

from requestor.marketplace.golem.daemon_api import is_passing
from requestor.marketplace.golem.offer_terms import OfferTerms, read_expiry, read_offer
from requestor.marketplace.golem.worker_service import describe_failure
from requestor.marketplace.ledger import Ledger
from requestor.marketplace.spending import Account, SpendingGuard, presentable_glm

logger = logging.getLogger(__name__)

MAX_AMOUNT_CHARACTERS = 100


class Bookkeeper:
    """Keeps ledger and guard in step with what happens to agreements and bills."""

    def __init__(
        self,
        ledger: Ledger,
        spending: SpendingGuard,
        notice: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        """Write to `ledger` and `spending`; tell `notice` what a person should know."""
        self._ledger = ledger
        self._spending = spending
        self._notice = notice
        self._clock = clock
        self._unix_clock = unix_clock
        self._terms: dict[str, OfferTerms] = {}
        self._activities: dict[str, str] = {}
        self._idle: set[str] = set()
        self._refused: set[tuple[str, str]] = set()
        self._invoiced: set[str] = set()
        self._put_off: set[str] = set()

    def on_event(self, event: events.Event) -> None:
        """Handle one of yapapi's events."""
        if isinstance(event, events.AgreementConfirmed):
            self.open(event.agreement)
        elif isinstance(event, events.ActivityCreated):
            self._activities[event.agreement.id] = str(event.activity.id)
        elif isinstance(event, events.WorkerFinished):
            self._activities.pop(event.agreement.id, None)
        elif isinstance(event, events.AgreementTerminated):
            self._end(event.agreement.id)
        elif isinstance(event, events.InvoiceReceived):
            self._invoiced.add(event.agreement.id)
            self._ledger.write(
                "invoice_received",
                agreement_id=event.agreement.id,
                invoice_id=str(event.invoice.invoice_id),
                total_glm=str(event.invoice.amount)[:MAX_AMOUNT_CHARACTERS],
            )
        elif isinstance(event, events.InvoiceAccepted):
            self._accepted("invoice_accepted", event.agreement.id, event.invoice.amount)
        elif isinstance(event, events.DebitNoteAccepted):
            amount = event.debit_note.total_amount_due
            self._accepted("debit_note_accepted", event.agreement.id, amount)
        elif isinstance(event, events.PaymentFailed):
            self._payment_failed(event)
        elif isinstance(event, events.ActivityCreateFailed):
            self._idle.add(event.agreement.id)
            self._notice(f"{self.name_of(event.agreement.id)}: the activity could not be created")

    def open(self, agreement: Any) -> None:
        """Open the account of a confirmed agreement (a yapapi `Agreement`); once is enough."""
        if agreement.id in self._terms:
            return
        raw = agreement.details.raw_details
        terms = read_offer(raw.offer.properties)
        self._terms[agreement.id] = terms
        now = self._clock()
        self._spending.open_account(
            Account(
                agreement_id=agreement.id,
                provider_id=str(raw.offer.provider_id),
                prices=terms.prices,
                threads=terms.threads,
                approved_seconds=now,
            )
        )
        self._ledger.approve(
            agreement.id,
            provider_id=str(raw.offer.provider_id),
            provider_name=terms.provider_name,
            threads=terms.threads,
            prices=terms.prices,
            approved_unix_seconds=self._unix_clock(),
            expires_unix_seconds=read_expiry(raw.demand.properties),
        )

    def account_of(self, agreement_id: str) -> Account:
        """Return the account of an agreement."""
        return self._spending.accounts[agreement_id]

    def live_activities(self) -> Iterator[tuple[str, str]]:
        """Iterate over (agreement id, activity id) of activities that may be asked for usage."""
        return iter(list(self._activities.items()))

    def usage_reported(self, agreement_id: str, usage: Sequence[float]) -> None:
        """Note a usage vector that the daemon reported."""
        terms = self._terms.get(agreement_id)
        if terms is not None:
            due = terms.usage_cost_glm(usage)
            self._spending.report_usage(agreement_id, due, self._clock())

    def acceptable_glm(self, agreement_id: str) -> Decimal:
        """Return the most that a bill of this agreement may ask for now."""
        if agreement_id not in self._spending.accounts:
            return Decimal(0)
        return self._spending.acceptable_glm(agreement_id, self._clock())

    def bill_refused(self, agreement_id: str, kind: str, asked: Decimal, bound: Decimal) -> None:
        """Note that a bill is above what can be due and will not be accepted."""
        asked = presentable_glm(asked)
        if agreement_id in self._spending.accounts and kind == "invoice":
            self._spending.refuse(agreement_id)
        self._ledger.write(
            "bill_refused",
            agreement_id=agreement_id,
            bill=kind,
            asked_glm=f"{asked:f}",
            bound_glm=f"{bound:f}",
        )
        if (agreement_id, kind) not in self._refused:
            self._refused.add((agreement_id, kind))
            self._notice(
                f"{self.name_of(agreement_id)}: {kind} over {asked:.9f} GLM refused, "
                f"at most {bound:.9f} GLM can be due"
            )

    def unpaid(self) -> list[str]:
        """Return the provider's name for each ended agreement without a settled bill.

        Where no activity could be created none is due.
        """
        return [
            self.name_of(agreement_id)
            for agreement_id, account in self._spending.accounts.items()
            if not account.is_settled and agreement_id not in self._idle | self._put_off
        ]

    @property
    def put_off(self) -> frozenset[str]:
        """Agreements whose invoice is here and could not be paid for a reason that may pass."""
        return frozenset(self._put_off)

    def _end(self, agreement_id: str) -> None:
        self._activities.pop(agreement_id, None)
        if agreement_id in self._spending.accounts:
            self._spending.end(agreement_id, self._clock())
        self._ledger.write("agreement_ended", agreement_id=agreement_id)

    def _accepted(self, kind: Any, agreement_id: str, amount: str) -> None:
        total = Decimal(amount)
        if kind == "invoice_accepted":
            self._put_off.discard(agreement_id)
        self._ledger.write(kind, agreement_id=agreement_id, total_glm=f"{total:f}")
        if agreement_id in self._spending.accounts:
            is_final = kind == "invoice_accepted"
            self._spending.accepted(agreement_id, total, is_final=is_final)

    def _payment_failed(self, event: events.PaymentFailed) -> None:
        error = event.exc_info[1] if event.exc_info else None
        reason = describe_failure(error) if error else "unknown"
        agreement_id = event.agreement.id
        # yapapi does not say which bill it was; before the invoice it can only be a debit note
        bill = "invoice" if agreement_id in self._invoiced else "debit note"
        passing = error is not None and is_passing(error)
        if bill == "invoice" and passing:
            self._put_off.add(agreement_id)  # yapapi will not try again
        elif bill == "invoice" and agreement_id in self._spending.accounts:
            self._spending.refuse(agreement_id)
        self._ledger.write(
            "payment_failed",
            agreement_id=agreement_id,
            bill=bill,
            reason=reason,
            is_passing=passing,
        )
        later = " (it will be tried again)" if passing else ""
        self._notice(f"{self.name_of(agreement_id)}: a bill could not be paid: {reason}{later}")

    def name_of(self, agreement_id: str) -> str:
        """Return the provider's name, or the beginning of the agreement's id."""
        terms = self._terms.get(agreement_id)
        return terms.provider_name if terms else agreement_id[:12]
