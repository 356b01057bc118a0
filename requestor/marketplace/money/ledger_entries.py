"""What stands in a ledger: one typed record for each kind of line, and their reader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from requestor.errors import PreflightError
from requestor.marketplace.money.spending import Prices

EntryKind = Literal[
    "allocation_intended",
    "allocation_created",
    "allocation_released",
    "agreement_approved",
    "activity_created",
    "agreement_ended",
    "debit_note_accepted",
    "debit_notes_skipped",
    "invoice_received",
    "invoice_accepted",
    "bill_refused",
    "bill_put_off",
    "payment_failed",
    "work_refused",
    "work_done",
]


class Entry(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Base of all entries; `unix_seconds` is when it was written."""

    unix_seconds: float = 0.0


class AllocationIntended(Entry, frozen=True, kw_only=True, tag="allocation_intended"):
    """An allocation is about to be asked for; `node_id` is the node that pays."""

    amount_glm: Decimal
    budget_glm: Decimal | None = None
    node_id: str | None = None


class AllocationCreated(Entry, frozen=True, kw_only=True, tag="allocation_created"):
    """The daemon has granted it."""

    allocation_id: str
    amount_glm: Decimal
    platform: str = ""


class AllocationReleased(Entry, frozen=True, kw_only=True, tag="allocation_released"):
    """It is released, or was never made (then without an id)."""

    allocation_id: str
    amount_glm: Decimal


class AgreementApproved(Entry, frozen=True, kw_only=True, tag="agreement_approved"):
    """All that an agreement's bills are held against.

    payee: the address that its offer wants to be paid at; None where it is not known.
    """

    agreement_id: str
    provider_id: str
    provider_name: str
    threads: int
    start_glm: Decimal
    cpu_hour_glm: Decimal
    hour_glm: Decimal
    approved_unix_seconds: float
    expires_unix_seconds: float | None = None
    node_id: str | None = None
    platform: str | None = None
    payee: str | None = None

    @property
    def prices(self) -> Prices:
        """The prices agreed."""
        return Prices(self.start_glm, self.cpu_hour_glm, self.hour_glm)


class ActivityCreated(Entry, frozen=True, kw_only=True, tag="activity_created"):
    """An activity began under an agreement; each has a start price and a usage of its own."""

    agreement_id: str
    activity_id: str


class AgreementEnded(Entry, frozen=True, kw_only=True, tag="agreement_ended"):
    """Nothing becomes due after this.

    ended_unix_seconds: when it ended; None if that is when this was written.
    """

    agreement_id: str
    ended_unix_seconds: float | None = None


class DebitNoteAccepted(Entry, frozen=True, kw_only=True, tag="debit_note_accepted"):
    """`total_glm` is what is accepted for the whole agreement now, over all its activities.

    note_glm: what the note itself asks: the total of its activity.
    is_payable: it is paid at once and not with the invoice: an interim payment.
    """

    agreement_id: str
    total_glm: Decimal
    note_glm: Decimal | None = None
    bill_id: str = ""
    activity_id: str = ""
    is_payable: bool = False


class DebitNotesSkipped(Entry, frozen=True, kw_only=True, tag="debit_notes_skipped"):
    """So many debit notes were left unanswered, because a later one says the same and more."""

    agreement_id: str
    count: int


class InvoiceReceived(Entry, frozen=True, kw_only=True, tag="invoice_received"):
    """An invoice has come; `total_glm` is its words, which need not be an amount."""

    agreement_id: str
    invoice_id: str
    total_glm: str


class InvoiceAccepted(Entry, frozen=True, kw_only=True, tag="invoice_accepted"):
    """The invoice is accepted: `total_glm` is what the agreement has cost."""

    agreement_id: str
    total_glm: Decimal
    bill_id: str = ""


class BillRefused(Entry, frozen=True, kw_only=True, tag="bill_refused"):
    """A bill is not accepted and never will be.

    closes: no other bill of this agreement will be paid either; None means: if it is an invoice.
    """

    agreement_id: str
    bill: str
    asked_glm: Decimal
    bound_glm: Decimal | None = None
    bill_id: str = ""
    reason: str = ""
    closes: bool | None = None

    @property
    def is_closing(self) -> bool:
        """Whether the agreement is done with."""
        return self.bill == "invoice" if self.closes is None else self.closes


class BillPutOff(Entry, frozen=True, kw_only=True, tag="bill_put_off"):
    """An invoice is right and stays owed: the budget, or the allocation, does not carry it."""

    agreement_id: str
    asked_glm: Decimal
    bill_id: str = ""
    reason: str = ""


class PaymentFailed(Entry, frozen=True, kw_only=True, tag="payment_failed"):
    """The daemon would not accept a bill; with `is_passing` it is tried again."""

    agreement_id: str
    bill: str = ""
    reason: str = ""
    is_passing: bool = False


class WorkRefused(Entry, frozen=True, kw_only=True, tag="work_refused"):
    """No bill of this agreement is accepted any more: its provider was convicted of fakes.

    What was accepted before stays paid: an acceptance is final.
    """

    agreement_id: str
    reason: str = ""


class WorkDone(Entry, frozen=True, kw_only=True, tag="work_done"):
    """What an agreement's money was for: one order, `seconds` of wall time from sent to answered.

    outcome: `counted` in a round, `late` (another's result was taken), `audit` (done once more, to
        be held against another's), `failed`, or `refused` (a result came and was unusable);
        `steps` are 0 for the last two.
    """

    agreement_id: str
    round: int
    client: int
    outcome: Literal["counted", "late", "failed", "refused", "audit"]
    steps: int
    seconds: float


LedgerEntry: TypeAlias = (
    AllocationIntended
    | AllocationCreated
    | AllocationReleased
    | AgreementApproved
    | ActivityCreated
    | AgreementEnded
    | DebitNoteAccepted
    | DebitNotesSkipped
    | InvoiceReceived
    | InvoiceAccepted
    | BillRefused
    | BillPutOff
    | PaymentFailed
    | WorkRefused
    | WorkDone
)

_DECODER = msgspec.json.Decoder(LedgerEntry)


def read_entries(path: Path) -> Iterator[LedgerEntry]:
    """Yield a ledger's entries; a missing file has none, and a last line torn by a crash is none.

    Raises:
        PreflightError: a line is no entry.
    """
    for number, line in enumerate(whole_lines(path), 1):
        yield decode_entry(line, path, number)


def entry_of(record: Mapping[str, Any]) -> LedgerEntry:
    """Return the entry that plain data describe.

    Raises:
        ValueError: they describe none.
    """
    # through text, as it will be read again: amounts are strings there
    entry: LedgerEntry = _DECODER.decode(msgspec.json.encode(record))
    return entry


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a file as far as they are whole: ended, and JSON."""
    if not path.exists():
        return []
    lines: list[bytes] = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                break
            msgspec.json.decode(line, type=msgspec.Raw)
        except (ValueError, RecursionError):
            break
        lines.append(line)
    return lines


def decode_entry(line: bytes, path: Path, number: int) -> LedgerEntry:
    """Return the entry in line `number` of the file at `path`.

    Raises:
        PreflightError: it is none.
    """
    try:
        entry: LedgerEntry = _DECODER.decode(line)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise damaged(path, number) from error
    return entry


def damaged(path: Path, line: int) -> PreflightError:
    """Return the error for a line that is no entry."""
    return PreflightError(
        f"line {line} of {path} is damaged",
        fix="restore the file from a copy; what the run has paid is written nowhere else",
    )
