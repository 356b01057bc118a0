"""The statement of a run's money, from its ledger: what was asked, paid, refused, and for what.

Pure. Amounts are in GLM, times in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from requestor.marketplace.money import ledger_entries as entries
from requestor.marketplace.money.bills import read_amount
from requestor.marketplace.money.ledger_entries import AgreementApproved, LedgerEntry
from requestor.marketplace.money.spending import ZERO, is_amount, presentable_glm

MILLION = 1_000_000


@dataclass
class Work:
    """Orders and what came of them; `seconds` is wall time from sent to answered, of all of them.

    steps: environment steps of results that counted; late_steps: of those that came too late;
    audit_orders, audit_seconds: what was done once more, to be held against another's.
    """

    orders: int = 0
    late_orders: int = 0
    failed_orders: int = 0
    steps: int = 0
    late_steps: int = 0
    seconds: float = 0.0
    audit_orders: int = 0
    audit_seconds: float = 0.0

    def add(self, done: entries.WorkDone) -> None:
        """Add an order that was answered."""
        self.seconds += done.seconds
        match done.outcome:
            case "counted":
                self.orders += 1
                self.steps += done.steps
            case "late":
                self.late_orders += 1
                self.late_steps += done.steps
            case "audit":
                self.audit_orders += 1
                self.audit_seconds += done.seconds
            case _:
                self.failed_orders += 1

    def include(self, other: Work) -> None:
        """Add what `other` holds."""
        self.orders += other.orders
        self.late_orders += other.late_orders
        self.failed_orders += other.failed_orders
        self.steps += other.steps
        self.late_steps += other.late_steps
        self.seconds += other.seconds
        self.audit_orders += other.audit_orders
        self.audit_seconds += other.audit_seconds


@dataclass
class AgreementStatement:
    """One agreement: what its provider asked, what it gets, and what it did.

    asked_glm: the final bill as it came; None if none did.
    interim_notes_glm: by activity, what went out before the invoice, by debit notes that were to
        be paid at once.
    state: `open`, `paid`, `owed` (the invoice is right, money was missing), `refused`, or
        `unbilled` (ended, and no invoice came).
    """

    approval: AgreementApproved
    ended_unix_seconds: float | None = None
    activities: int = 0
    asked_glm: Decimal | None = None
    accepted_glm: Decimal = ZERO
    interim_notes_glm: dict[str, Decimal] = field(default_factory=dict)
    debit_notes: int = 0
    debit_notes_skipped: int = 0
    refusals: list[entries.BillRefused] = field(default_factory=list)
    work: Work = field(default_factory=Work)
    is_paid: bool = False
    is_owed: bool = False
    is_refused: bool = False

    @property
    def interim_glm(self) -> Decimal:
        """The part of `accepted_glm` that went out before the invoice."""
        return sum(self.interim_notes_glm.values(), ZERO)

    @property
    def state(self) -> str:
        """Where its money stands."""
        if self.is_paid:
            return "paid"
        if self.is_refused:
            return "refused"
        if self.is_owed:
            return "owed"
        return "open" if self.ended_unix_seconds is None else "unbilled"

    @property
    def owed_glm(self) -> Decimal:
        """What is still owed by an invoice that is right."""
        if self.state != "owed" or self.asked_glm is None:
            return ZERO
        return max(ZERO, self.asked_glm - self.accepted_glm)


@dataclass
class ProviderStatement:
    """All agreements with one provider (by its node id)."""

    provider_id: str
    name: str
    agreements: list[AgreementStatement] = field(default_factory=list)
    work: Work = field(default_factory=Work)

    @property
    def accepted_glm(self) -> Decimal:
        """What it gets."""
        return sum((one.accepted_glm for one in self.agreements), ZERO)

    @property
    def asked_glm(self) -> Decimal:
        """The sum of its final bills; an interim total where no invoice came."""
        asked = (
            one.accepted_glm if one.asked_glm is None else one.asked_glm for one in self.agreements
        )
        return sum(asked, ZERO)

    @property
    def owed_glm(self) -> Decimal:
        """What it is still owed."""
        return sum((one.owed_glm for one in self.agreements), ZERO)

    @property
    def refused_bills(self) -> int:
        """How many of its bills were refused."""
        return sum(len(one.refusals) for one in self.agreements)

    @property
    def glm_per_million_steps(self) -> Decimal | None:
        """What a million of its steps that counted cost; None without any."""
        return glm_per_million_steps(self.accepted_glm, self.work.steps)


@dataclass
class Statement:
    """The money of a run over all its sessions."""

    budget_glm: Decimal | None = None
    allocations: int = 0
    open_allocations: set[str] = field(default_factory=set)
    agreements: dict[str, AgreementStatement] = field(default_factory=dict)

    @property
    def providers(self) -> list[ProviderStatement]:
        """The same by provider, in the order in which they were first rented."""
        found: dict[str, ProviderStatement] = {}
        for agreement in self.agreements.values():
            key = agreement.approval.provider_id
            name = agreement.approval.provider_name
            provider = found.setdefault(key, ProviderStatement(key, name))
            provider.agreements.append(agreement)
            provider.work.include(agreement.work)
        return list(found.values())

    @property
    def accepted_glm(self) -> Decimal:
        """All that was accepted."""
        return sum((one.accepted_glm for one in self.agreements.values()), ZERO)

    @property
    def audit_orders(self) -> int:
        """How many orders were audits of others' work."""
        return sum(one.work.audit_orders for one in self.agreements.values())

    @property
    def owed_glm(self) -> Decimal:
        """All that is still owed by invoices that are right."""
        return sum((one.owed_glm for one in self.agreements.values()), ZERO)

    def add(self, entry: LedgerEntry) -> None:
        """Take in the next entry."""
        match entry:
            case entries.AllocationIntended():
                self.budget_glm = entry.budget_glm
            case entries.AllocationCreated():
                self.allocations += 1
                self.open_allocations.add(entry.allocation_id)
            case entries.AllocationReleased():
                self.open_allocations.discard(entry.allocation_id)
            case AgreementApproved():
                self.agreements.setdefault(entry.agreement_id, AgreementStatement(entry))
            case _:
                agreement = self.agreements.get(entry.agreement_id)
                if agreement is not None:
                    _add(agreement, entry)


def make_statement(ledger: Iterable[LedgerEntry]) -> Statement:
    """Return the statement that a ledger's entries add up to."""
    statement = Statement()
    for entry in ledger:
        statement.add(entry)
    return statement


def glm_per_million_steps(glm: Decimal, steps: int) -> Decimal | None:
    """Return the price of a million steps; None without any."""
    return glm * MILLION / steps if steps else None


def _add(agreement: AgreementStatement, entry: LedgerEntry) -> None:
    match entry:
        case entries.ActivityCreated():
            agreement.activities += 1
        case entries.AgreementEnded():
            ended = entry.ended_unix_seconds or entry.unix_seconds
            agreement.ended_unix_seconds = agreement.ended_unix_seconds or ended
        case entries.DebitNoteAccepted():
            agreement.debit_notes += 1
            agreement.accepted_glm = max(agreement.accepted_glm, entry.total_glm)
            if entry.is_payable:
                asked = entry.total_glm if entry.note_glm is None else entry.note_glm
                agreement.interim_notes_glm[entry.activity_id] = asked
        case entries.DebitNotesSkipped():
            agreement.debit_notes_skipped += entry.count
        case entries.InvoiceReceived():
            asked = read_amount(entry.total_glm)
            if agreement.asked_glm is None:
                agreement.asked_glm = asked if is_amount(asked) else presentable_glm(asked)
        case entries.InvoiceAccepted():
            agreement.accepted_glm = max(agreement.accepted_glm, entry.total_glm)
            agreement.asked_glm = entry.total_glm
            agreement.is_paid = True
        case entries.BillPutOff():
            agreement.is_owed = True
            agreement.asked_glm = entry.asked_glm
        case entries.BillRefused():
            agreement.refusals.append(entry)
            agreement.is_refused |= entry.is_closing
            if entry.is_closing:
                agreement.asked_glm = entry.asked_glm
        case entries.PaymentFailed():
            agreement.is_refused |= entry.bill == "invoice" and not entry.is_passing
        case entries.WorkRefused():
            agreement.is_refused = True
        case entries.WorkDone():
            agreement.work.add(entry)
