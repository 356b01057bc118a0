"""The daemon's books: every record, each change journalled before it is answered."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from requestor.mock_golem.answers import Refusal
from requestor.mock_golem.clock import Clock, rfc3339
from requestor.mock_golem.journal import JOURNAL_NAME, Journal, JournalError, read_journal
from requestor.mock_golem.money import add, plain, subtract
from requestor.mock_golem.records import (
    RECORD_TYPES,
    Activity,
    Agreement,
    Allocation,
    DebitNote,
    Invoice,
    Record,
)
from requestor.mock_golem.signals import Signal

_ZERO = Decimal(0)
RecordListener = Callable[[Record | None, Record], None]


class Books:
    """Allocations, agreements, activities, debit notes and invoices by id.

    Args:
        clock: stamps the changes.
        journal: where changes are written; None keeps them in memory alone.
        heard: told of each record committed, with what it replaces (None: it is new).
    """

    def __init__(
        self, clock: Clock, journal: Journal | None, heard: RecordListener | None = None
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._heard = heard
        self._last_stamp = clock.now() - timedelta(days=1)
        self.changed = Signal()
        self.allocations: dict[str, Allocation] = {}
        self.agreements: dict[str, Agreement] = {}
        self.activities: dict[str, Activity] = {}
        self.debit_notes: dict[str, DebitNote] = {}
        self.invoices: dict[str, Invoice] = {}

    def restore(self) -> None:
        """Read everything again from the journal.

        Raises:
            JournalError: the journal is damaged.
        """
        for table in self._tables().values():
            table.clear()
        if self._journal is not None:
            for raw in self._journal.read():
                self._store(_record(raw, self._journal.path))

    def commit(self, *records: Record) -> None:
        """Write records (new or changed) to the journal, then take them over."""
        if self._journal is not None:
            self._journal.append(rfc3339(self._clock.now()), [_raw(record) for record in records])
        for record in records:
            before = self._tables()[record.type_name].get(record.key)
            self._store(record)
            if self._heard is not None:
                self._heard(before, record)
        # nobody waits for what an activity has used, which changes all the time
        if not all(isinstance(record, Activity) for record in records):
            self.changed.notify()

    def stamp(self) -> datetime:
        """Return the present instant, later than every one returned before.

        Event feeds are read with "after this instant", so that two events must not share one.
        """
        self._last_stamp = max(self._clock.now(), self._last_stamp + timedelta(microseconds=1))
        return self._last_stamp

    def allocation(self, allocation_id: str) -> Allocation:
        """Return an open allocation.

        Raises:
            Refusal: 404, it is unknown, released or past its timeout.
        """
        allocation = self.allocations.get(allocation_id)
        if allocation is None or not allocation.is_open(self._clock.now()):
            raise Refusal(404, None)
        return allocation

    def agreement(self, agreement_id: str) -> Agreement:
        """Return an agreement; a proposed or pending one past its validity becomes Expired.

        Raises:
            Refusal: 404, it is unknown.
        """
        agreement = self.agreements.get(agreement_id)
        if agreement is None:
            raise Refusal(404, f"Agreement [{agreement_id}] not found.")
        now = self._clock.now()
        if agreement.state in ("Proposal", "Pending") and now >= agreement.valid_to:
            agreement = agreement.changed(state="Expired", ended_at=now)
            self.commit(agreement)
        return agreement

    def activities_of(self, agreement_id: str) -> list[Activity]:
        """Return an agreement's activities, oldest first."""
        return [one for one in self.activities.values() if one.agreement_id == agreement_id]

    def reserved_glm(self) -> Decimal:
        """Return what open allocations still hold back."""
        now = self._clock.now()
        return add(*(one.remaining_amount for one in self.allocations.values() if one.is_open(now)))

    def spent_glm(self) -> Decimal:
        """Return what has been accepted for payment from all allocations."""
        return add(*(one.spent_amount for one in self.allocations.values()))

    def accept_debit_note(self, note_id: str, amount: Decimal, allocation_id: str) -> None:
        """Accept a debit note: book what it adds to what was already charged for its activity.

        Raises:
            Refusal: 404 unknown; 400 wrong amount, allocation or too little in it; 410 released.
        """
        note = self.debit_notes.get(note_id)
        if note is None:
            raise Refusal(404, None)
        if amount != note.total_amount_due:
            raise Refusal(400, "Invalid amount accepted")
        if note.status == "ACCEPTED":
            return
        paid_up = any(
            invoice.status == "ACCEPTED" and invoice.agreement_id == note.agreement_id
            for invoice in self.invoices.values()
        )
        charged = add(
            *(
                other.charged_amount
                for other in self.debit_notes.values()
                if other.activity_id == note.activity_id
            )
        )
        needed = _ZERO if paid_up else max(_ZERO, subtract(amount, charged))
        self._charge(note, amount, needed, allocation_id)

    def accept_invoice(self, invoice_id: str, amount: Decimal, allocation_id: str) -> None:
        """Accept an invoice: book what it adds to what was already charged for its agreement.

        Raises:
            Refusal: as for debit notes.
        """
        invoice = self.invoices.get(invoice_id)
        if invoice is None:
            raise Refusal(404, None)
        if amount != invoice.amount:
            raise Refusal(400, "Invalid amount accepted")
        if invoice.status == "ACCEPTED":
            return
        needed = max(_ZERO, subtract(amount, self.charged_for(invoice.agreement_id)))
        self._charge(invoice, amount, needed, allocation_id)

    def charged_for(self, agreement_id: str) -> Decimal:
        """Return what allocations were charged for an agreement, in GLM."""
        bills = [*self.debit_notes.values(), *self.invoices.values()]
        return add(*(one.charged_amount for one in bills if one.agreement_id == agreement_id))

    def _charge(
        self, bill: DebitNote | Invoice, amount: Decimal, needed: Decimal, allocation_id: str
    ) -> None:
        allocation = self.allocations.get(allocation_id)
        now = self._clock.now()
        if allocation is None or not allocation.is_open(now):
            raise Refusal(400, f"Allocation {allocation_id} not found")
        if bill.payment_platform != allocation.payment_platform:
            raise Refusal(
                400,
                f"Payment platform {bill.payment_platform} differs from the allocation's "
                f"{allocation.payment_platform}",
            )
        if needed > allocation.remaining_amount:
            available = plain(allocation.remaining_amount)
            raise Refusal(400, f"Not enough funds. Allocated: {available} Needed: {plain(needed)}")
        self.commit(
            allocation.changed(spent_amount=add(allocation.spent_amount, needed)),
            bill.changed(
                status="ACCEPTED",
                accepted_at=now,
                accepted_amount=amount,
                allocation_id=allocation_id,
                charged_amount=needed,
            ),
        )

    def _store(self, record: Record) -> None:
        self._tables()[record.type_name][record.key] = record

    def _tables(self) -> dict[str, dict[str, Any]]:
        return {
            "allocation": self.allocations,
            "agreement": self.agreements,
            "activity": self.activities,
            "debit_note": self.debit_notes,
            "invoice": self.invoices,
        }


def end_lost_activities(books: Books) -> None:
    """Mark as ended what ran under an earlier process: its commands died with it."""
    lost = [activity for activity in books.activities.values() if activity.ended_at is None]
    if lost:
        ended_at = books.stamp()
        books.commit(*(activity.changed(ended_at=ended_at) for activity in lost))


def read_books(state_directory: Path, clock: Clock) -> Books:
    """Read a state directory's books without a daemon.

    Raises:
        JournalError: there is no journal, or it is damaged.
    """
    books = Books(clock, None)
    path = state_directory / JOURNAL_NAME
    for raw in read_journal(path):
        books._store(_record(raw, path))
    return books


def _raw(record: Record) -> dict[str, Any]:
    return {"type": record.type_name, "data": record.model_dump(mode="json")}


def _record(raw: dict[str, Any], path: Path) -> Record:
    try:
        return RECORD_TYPES[raw["type"]].model_validate(raw["data"])
    except (KeyError, TypeError, ValidationError) as error:
        raise JournalError(
            f"{path}: a record is not of this version's form: {' '.join(str(error).split())}. "
            "Start with a new --state."
        ) from error
