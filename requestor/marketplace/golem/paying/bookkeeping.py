"""From yapapi's events to the ledger and the spending guard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from yapapi import events

from requestor.marketplace.golem.paying.auditing import BillAuditor
from requestor.marketplace.money.bills import Parties, payee_of
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.money.spending import Account, SpendingGuard
from requestor.marketplace.offers.offer_terms import OfferTerms, read_expiry, read_offer

CHOSEN_PLATFORM = "golem.com.payment.chosen-platform"


class Bookkeeper:
    """Keeps ledger and guard in step with what happens to agreements and bills.

    bills: judges the bills.
    """

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
        self.bills = BillAuditor(ledger, spending, notice, clock)
        self._terms: dict[str, OfferTerms] = {}
        self._activities: dict[str, str] = {}
        self._idle: set[str] = set()
        self._cpu_seconds: dict[str, float] = {}

    def on_event(self, event: events.Event) -> None:
        """Handle one of yapapi's events."""
        match event:
            case events.AgreementConfirmed():
                self.open(event.agreement)
            case events.ActivityCreated():
                self.activity_begun(event.agreement.id, str(event.activity.id))
            case events.WorkerFinished():
                self._activities.pop(event.agreement.id, None)
            case events.AgreementTerminated():
                self._end(event.agreement.id)
            case events.ActivityCreateFailed():
                self._idle.add(event.agreement.id)
                name = self.name_of(event.agreement.id)
                self._notice(f"{name}: the activity could not be created")
            case _:
                self._on_bill(event)

    def _on_bill(self, event: events.Event) -> None:
        match event:
            case events.InvoiceReceived():
                self.bills.invoice_received(event.invoice)
            case events.DebitNoteReceived():
                self.bills.debit_note_received(event.debit_note)
            case events.InvoiceAccepted():
                self.bills.invoice_accepted(event.invoice)
            case events.DebitNoteAccepted():
                self.bills.debit_note_accepted(event.debit_note)
            case events.PaymentFailed():
                error = event.exc_info[1] if event.exc_info else None
                self.bills.payment_failed(event.agreement.id, error)

    def open(self, agreement: Any) -> None:
        """Open the account of a confirmed agreement (a yapapi `Agreement`); once is enough."""
        if agreement.id in self._terms:
            return
        raw = agreement.details.raw_details
        terms = read_offer(raw.offer.properties)
        self._terms[agreement.id] = terms
        provider_id = str(raw.offer.provider_id)
        self._spending.open_account(
            Account(
                agreement_id=agreement.id,
                provider_id=provider_id,
                prices=terms.prices,
                threads=terms.threads,
                approved_seconds=self._clock(),
            )
        )
        platform = str(raw.demand.properties.get(CHOSEN_PLATFORM) or "") or None
        payee = payee_of(raw.offer.properties, platform)
        self._ledger.approve(
            agreement.id,
            provider_id=provider_id,
            provider_name=terms.provider_name,
            threads=terms.threads,
            prices=terms.prices,
            approved_unix_seconds=self._unix_clock(),
            expires_unix_seconds=read_expiry(raw.demand.properties),
            platform=platform,
            payee=payee,
        )
        payer = self._ledger.summary.node_id
        parties = Parties(provider_id, payee=payee, payer=payer, platform=platform)
        self.bills.expect(agreement.id, terms.provider_name, parties)

    def activity_begun(self, agreement_id: str, activity_id: str) -> None:
        """Note that an activity works under an agreement: it has a usage and bills of its own."""
        self._activities[agreement_id] = activity_id
        self._ledger.write("activity_created", agreement_id=agreement_id, activity_id=activity_id)
        self.bills.activity_begun(agreement_id, activity_id)

    def account_of(self, agreement_id: str) -> Account:
        """Return the account of an agreement."""
        return self._spending.accounts[agreement_id]

    def live_activities(self) -> Iterator[tuple[str, str]]:
        """Iterate over (agreement id, activity id) of activities that may be asked for usage."""
        return iter(list(self._activities.items()))

    def usage_reported(self, agreement_id: str, usage: Sequence[float]) -> None:
        """Note a usage vector that the daemon reported of an agreement's activity at work."""
        terms = self._terms.get(agreement_id)
        if terms is not None:
            self._cpu_seconds[agreement_id] = terms.cpu_seconds(usage)
            due = terms.usage_cost_glm(usage)
            activity_id = self._activities.get(agreement_id, "")
            self._spending.report_usage(agreement_id, due, self._clock(), activity_id)

    def activity_of(self, agreement_id: str) -> str | None:
        """Return the id of the activity at work under an agreement, None if there is none."""
        return self._activities.get(agreement_id)

    def cpu_seconds_of(self, agreement_id: str) -> float | None:
        """Return the CPU time that an agreement's activity was last said to have used."""
        return self._cpu_seconds.get(agreement_id)

    def unpaid(self) -> list[str]:
        """Return the provider's name for each ended agreement whose invoice is waited for.

        Where no activity could be created none is due.
        """
        return [
            self.name_of(agreement_id)
            for agreement_id in self._spending.accounts
            if agreement_id not in self._idle and not self.bills.is_closed(agreement_id)
        ]

    @property
    def put_off(self) -> frozenset[str]:
        """Agreements whose invoice is here and could not be paid for a reason that may pass."""
        return self.bills.put_off

    def _end(self, agreement_id: str) -> None:
        self._activities.pop(agreement_id, None)
        if agreement_id in self._spending.accounts:
            self._spending.end(agreement_id, self._clock())
        self.bills.agreement_ended(agreement_id)
        self._ledger.write("agreement_ended", agreement_id=agreement_id)

    def name_of(self, agreement_id: str) -> str:
        """Return the provider's name, or the beginning of the agreement's id."""
        terms = self._terms.get(agreement_id)
        return terms.provider_name if terms else agreement_id[:12]
