"""What a provider bills: debit notes while an activity lives, an invoice when its agreement ends.

An activity costs its start price plus usage times price (`money.cost`), an agreement the sum over
its activities.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

from requestor.mock_golem.activity_host import ActivityHost
from requestor.mock_golem.faults import (
    DebitNoteBackwards,
    DebitNoteFlood,
    DebitNotePayable,
    DebitNoteTooHigh,
    DuplicateInvoice,
    InvoiceTooHigh,
    InvoiceWrongPayee,
    InvoiceWrongPlatform,
    NoInvoice,
)
from requestor.mock_golem.identifiers import new_document_id
from requestor.mock_golem.money import add, cost, exact_seconds, multiply
from requestor.mock_golem.offers import (
    DEBIT_NOTE_ACCEPT_TIMEOUT,
    DEBIT_NOTE_INTERVAL,
    PAYMENT_TIMEOUT,
    negotiated_seconds,
)
from requestor.mock_golem.records import Activity, Agreement, DebitNote, Invoice
from requestor.mock_golem.surroundings import ProviderContext

STRANGERS_ADDRESS = "0x" + "5" * 40
"""Where money goes that an `invoice_wrong_payee` asks for."""


class Biller:
    """Sends one provider's debit notes and invoices.

    Args:
        context: who bills.
        host: knows what activities have used.
        break_off: called with an agreement's id and a reason when its notes are not accepted.
    """

    def __init__(
        self,
        context: ProviderContext,
        host: ActivityHost,
        break_off: Callable[[str, dict[str, str]], None],
    ) -> None:
        self._node_id = context.node_id
        self._model = context.model
        self._faults = context.faults
        self._around = context.around
        self._tasks = context.tasks
        self._host = host
        self._break_off = break_off
        self._watched: set[str] = set()

    def start_notes(self, activity: Activity, agreement: Agreement) -> None:
        """Send debit notes for an activity until it ends."""
        flood = self._faults.fires(DebitNoteFlood)
        if flood is not None:
            interval_seconds = 1.0 / flood.per_second
        else:
            terms = agreement.offer["properties"]
            agreed = negotiated_seconds(terms, DEBIT_NOTE_INTERVAL)
            interval_seconds = agreed or self._model.terms.debit_note_interval_seconds
        self._tasks.spawn(self._send_notes(activity.activity_id, agreement, interval_seconds))

    def send_invoice(self, agreement: Agreement) -> None:
        """Send the invoice of an ended agreement, once or as its faults have it."""
        if self._faults.fires(NoInvoice) is not None:
            self._around.books.commit(agreement.changed(invoice="withheld"))
            return
        activities = self._around.books.activities_of(agreement.agreement_id)
        amount = add(*(cost(agreement.coefficients, one.usage) for one in activities))
        too_high = self._faults.fires(InvoiceTooHigh)
        if too_high is not None:
            amount = multiply(amount, Decimal(repr(too_high.factor)))
        if amount < self._noted_glm(agreement):
            # its own daemon refuses such an invoice: what was asked can't be lowered
            self._around.books.commit(agreement.changed(invoice="withheld"))
            return
        platform = agreement.platform
        if self._faults.fires(InvoiceWrongPlatform) is not None:
            platform = _another_platform(platform)
        payee = self._model.wallet
        if self._faults.fires(InvoiceWrongPayee) is not None:
            payee = STRANGERS_ADDRESS
        copies = 1 if self._faults.fires(DuplicateInvoice) is None else 2
        invoices = [
            self._invoice(agreement, activities, amount, platform).changed(payee_address=payee)
            for _ in range(copies)
        ]
        self._around.books.commit(agreement.changed(invoice="sent"), *invoices)

    def _invoice(
        self, agreement: Agreement, activities: list[Activity], amount: Decimal, platform: str
    ) -> Invoice:
        now = self._around.books.stamp()
        due = timedelta(seconds=self._model.terms.payment_timeout_seconds)
        return Invoice(
            invoice_id=new_document_id(),
            issuer_id=self._node_id,
            recipient_id=agreement.requestor_id,
            payment_platform=platform,
            timestamp=now,
            agreement_id=agreement.agreement_id,
            activity_ids=tuple(activity.activity_id for activity in activities),
            amount=amount,
            payment_due_date=now + due,
        )

    def _noted_glm(self, agreement: Agreement) -> Decimal:
        """Return what debit notes have asked for an agreement."""
        asked: dict[str, Decimal] = {}
        for note in self._around.books.debit_notes.values():
            if note.agreement_id == agreement.agreement_id:
                before = asked.get(note.activity_id, note.total_amount_due)
                asked[note.activity_id] = max(before, note.total_amount_due)
        return add(*asked.values())

    async def _send_notes(
        self, activity_id: str, agreement: Agreement, interval_seconds: float
    ) -> None:
        terms = agreement.offer["properties"]
        payment_timeout = negotiated_seconds(terms, PAYMENT_TIMEOUT)
        last_payable = self._around.clock.now()
        while True:
            await self._around.clock.sleep(interval_seconds)
            activity = self._host.refresh(activity_id)
            current = self._around.books.agreement(agreement.agreement_id)
            alive = activity_id in self._host.live_ids and current.state == "Approved"
            if activity is None or not alive:
                return
            due: datetime | None = None
            now = self._around.clock.now()
            if payment_timeout and now >= last_payable + timedelta(seconds=payment_timeout):
                last_payable = now
                due = now + timedelta(seconds=payment_timeout)
            elif self._faults.fires(DebitNotePayable) is not None:
                due = now + timedelta(seconds=self._model.terms.payment_timeout_seconds)
            self._send_note(activity, agreement, due)
            self._watch_acceptance(activity_id, agreement)

    def _send_note(self, activity: Activity, agreement: Agreement, due: datetime | None) -> None:
        note = DebitNote(
            debit_note_id=new_document_id(),
            issuer_id=self._node_id,
            payee_address=self._model.wallet,
            recipient_id=agreement.requestor_id,
            payment_platform=agreement.platform,
            timestamp=self._around.books.stamp(),
            agreement_id=agreement.agreement_id,
            activity_id=activity.activity_id,
            previous_debit_note_id=self._last_note_id(activity.activity_id),
            total_amount_due=self._noted(cost(agreement.coefficients, activity.usage)),
            usage=tuple(float(exact_seconds(seconds)) for seconds in activity.usage),
            payment_due_date=due,
        )
        self._around.books.commit(note)

    def _last_note_id(self, activity_id: str) -> str | None:
        notes = reversed(self._around.books.debit_notes.values())
        return next((one.debit_note_id for one in notes if one.activity_id == activity_id), None)

    def _noted(self, amount: Decimal) -> Decimal:
        """Return what a debit note over `amount` asks for."""
        too_high = self._faults.fires(DebitNoteTooHigh)
        if too_high is not None:
            amount = multiply(amount, Decimal(repr(too_high.factor)))
        if self._faults.fires(DebitNoteBackwards) is not None:
            amount = multiply(amount, Decimal("0.5"))
        return amount

    def _watch_acceptance(self, activity_id: str, agreement: Agreement) -> None:
        terms = agreement.offer["properties"]
        limit_seconds = negotiated_seconds(terms, DEBIT_NOTE_ACCEPT_TIMEOUT)
        if limit_seconds is not None and activity_id not in self._watched:
            self._watched.add(activity_id)
            self._tasks.spawn(
                self._expect_acceptance(activity_id, agreement.agreement_id, limit_seconds)
            )

    async def _expect_acceptance(
        self, activity_id: str, agreement_id: str, limit_seconds: float
    ) -> None:
        limit = timedelta(seconds=limit_seconds)
        try:
            while (oldest := self._oldest_unaccepted(activity_id)) is not None:
                remaining = oldest + limit - self._around.clock.now()
                if remaining <= timedelta(0):
                    reason = {
                        "message": f"Debit notes were not accepted within {limit_seconds:g} s",
                        "golem.provider.code": "DebitNotesDeadline",
                    }
                    self._break_off(agreement_id, reason)
                    return
                await self._around.clock.sleep(remaining.total_seconds())
        finally:
            self._watched.discard(activity_id)

    def _oldest_unaccepted(self, activity_id: str) -> datetime | None:
        # accepting a note accepts the earlier ones of its activity, because amounts are cumulative
        oldest: datetime | None = None
        for note in self._around.books.debit_notes.values():
            if note.activity_id != activity_id:
                continue
            if note.status == "ACCEPTED":
                oldest = None
            elif oldest is None:
                oldest = note.timestamp
        return oldest


def _another_platform(platform: str) -> str:
    driver, network, token = platform.split("-")
    return f"{driver}-{'holesky' if network != 'holesky' else 'hoodi'}-{token}"
