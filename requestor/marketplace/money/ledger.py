"""The ledger: one JSON line for everything that touches money, on the disk when `write` returns.

An allocation is entered before it is asked for. The rest is entered as it happens, and what a
crash kept out of the ledger is taken from the daemon's books at the next start (`golem/sweep.py`).

Read next: `ledger_entries.py` for what the lines say, `statement.py` for what they add up to.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from requestor.marketplace.money import ledger_entries as entries
from requestor.marketplace.money.ledger_entries import (
    AgreementApproved,
    EntryKind,
    LedgerEntry,
    damaged,
    entry_of,
    read_entries,
    whole_lines,
)
from requestor.marketplace.money.spending import ZERO, Account, Prices
from requestor.secrecy import redact

K = TypeVar("K", str, Decimal)


class Ledger:
    """Append entries to `ledger.jsonl`; every line about money is on the disk when `write` returns.

    (What was worked is handed to the system, and on the disk with the next line about money.)
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Open (or create) the ledger; a line torn by a crash is cut off.

        Raises:
            PreflightError: a line before the last is damaged. No crash does that, and what was
                paid must not be guessed.
        """
        self.path = path
        self._clock = clock
        lines = whole_lines(path)
        whole = sum(map(len, lines))
        if path.exists() and b"\n" in path.read_bytes()[whole:]:
            raise damaged(path, len(lines) + 1)
        self._summary = read_ledger(path)
        self._file = path.open("ab")
        self._file.truncate(whole)

    def write(self, kind: EntryKind, **fields: str | float | int | None) -> None:
        """Append one entry; amounts are given as decimal strings. A reason is kept without secrets.

        Raises:
            ValueError: the fields are not those of the kind.
        """
        if isinstance(reason := fields.get("reason"), str):
            fields["reason"] = redact(reason)  # it may be a daemon's words, which may quote a key
        record = {"kind": kind, "unix_seconds": round(self._clock(), 3), **fields}
        entry = entry_of(record)
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        if kind != "work_done":
            os.fsync(self._file.fileno())
        self._summary.add(entry)

    def approve(
        self,
        agreement_id: str,
        *,
        provider_id: str,
        provider_name: str,
        threads: int,
        prices: Prices,
        approved_unix_seconds: float,
        expires_unix_seconds: float | None = None,
        node_id: str | None = None,
        platform: str | None = None,
        payee: str | None = None,
    ) -> None:
        """Append an `agreement_approved` entry: all that its bills will be held against.

        `node_id` is the node that pays; None for that of the last session.
        """
        self.write(
            "agreement_approved",
            agreement_id=agreement_id,
            provider_id=provider_id,
            provider_name=provider_name,
            threads=threads,
            start_glm=f"{prices.start_glm:f}",
            cpu_hour_glm=f"{prices.cpu_hour_glm:f}",
            hour_glm=f"{prices.hour_glm:f}",
            approved_unix_seconds=approved_unix_seconds,
            expires_unix_seconds=expires_unix_seconds,
            node_id=node_id or self._summary.node_id,
            platform=platform,
            payee=payee,
        )

    def refuse_work(self, provider_id: str, reason: str) -> list[str]:
        """Enter that a node faked work: nothing more is paid under its unsettled agreements.

        Others that are paid to the same wallet are not meant: anybody may name it. Return the
        agreements.
        """
        summary = self._summary
        found = [
            agreement_id
            for agreement_id, entry in summary.approvals.items()
            if agreement_id in summary.unsettled
            and entry.provider_id.lower() == provider_id.lower()
        ]
        for agreement_id in found:
            self.write("work_refused", agreement_id=agreement_id, reason=reason)
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def approvals(self) -> Mapping[str, AgreementApproved]:
        """The entry of every agreement's approval: provider, prices, time."""
        return self._summary.approvals

    @property
    def endings(self) -> Mapping[str, float]:
        """When each agreement ended, in Unix seconds: nothing became due after that."""
        return self._summary.endings

    @property
    def summary(self) -> LedgerSummary:
        """The state of all accounts. It is kept, not made anew: later entries show in it."""
        return self._summary


@dataclass
class Session:
    """What a node did for the run since it was last asked for an allocation."""

    opened_unix_seconds: float
    """When the allocation was asked for: no agreement of the session is older than that."""

    agreements: set[str] = field(default_factory=set)


@dataclass
class LedgerSummary:
    """What the ledger adds up to."""

    accepted_glm: dict[str, Decimal] = field(default_factory=dict)
    """Accepted so far, by agreement."""

    providers: dict[str, str] = field(default_factory=dict)
    """Provider name by agreement."""

    provider_ids: dict[str, str] = field(default_factory=dict)
    """Provider's node id by agreement."""

    approvals: dict[str, AgreementApproved] = field(default_factory=dict)
    """The entry of approval by agreement."""

    activities: dict[str, list[str]] = field(default_factory=dict)
    """The activities that were begun under each agreement, oldest first."""

    notes_glm: dict[str, dict[str, Decimal]] = field(default_factory=dict)
    """What was accepted by debit notes, by agreement and activity."""

    endings: dict[str, float] = field(default_factory=dict)
    """Unix seconds at which an agreement first ended."""

    open_agreements: set[str] = field(default_factory=set)
    open_allocations: set[str] = field(default_factory=set)
    intended_amounts: set[Decimal] = field(default_factory=set)
    """Exact amounts of allocations that were asked for and of which no id is known."""

    payers: dict[str | Decimal, str | None] = field(default_factory=dict)
    """The node that pays, by agreement, by allocation and by intended amount."""

    sessions: dict[str | None, Session] = field(default_factory=dict)
    """The last session of each node that ever paid."""

    invoiced: set[str] = field(default_factory=set)
    """Agreements whose invoice was accepted: there is only one to an agreement."""

    refused: list[entries.BillRefused] = field(default_factory=list)
    refused_bills: set[tuple[str, str, str]] = field(default_factory=set)
    """Agreement, kind and id of bills that were refused: each is told of once."""

    failed_payments: list[entries.PaymentFailed] = field(default_factory=list)

    refused_agreements: set[str] = field(default_factory=set)
    """Agreements whose final invoice was refused, or could not be paid and never will be."""

    refused_work: dict[str, str] = field(default_factory=dict)
    """Agreements whose bills are all refused because work was faked, and why."""

    put_off_glm: dict[str, Decimal] = field(default_factory=dict)
    """What right invoices ask that are not paid yet for want of budget, by agreement."""

    platform: str = ""
    """The payment platform, as of the last allocation."""

    node_id: str | None = None
    """The node that pays, as of the last session."""

    budget_glm: Decimal | None = None
    """The run's budget, as of the last session."""

    first_unix_seconds: float | None = None
    """When the run's first allocation was asked for."""

    @property
    def is_open(self) -> bool:
        """True if something may still be held in the daemon."""
        return bool(self.open_agreements or self.open_allocations or self.intended_amounts)

    @property
    def total_glm(self) -> Decimal:
        """Sum of everything accepted."""
        return sum(self.accepted_glm.values(), ZERO)

    @property
    def unsettled(self) -> set[str]:
        """Agreements of which no final bill was accepted or refused."""
        return set(self.providers) - self.invoiced - self.refused_agreements

    @property
    def accepted_by_provider(self) -> dict[str, Decimal]:
        """Accepted so far, by the provider's node id."""
        total: dict[str, Decimal] = {}
        for agreement_id, amount in self.accepted_glm.items():
            provider = self.provider_ids.get(agreement_id, "")
            total[provider] = total.get(provider, ZERO) + amount
        return total

    def account(self, agreement_id: str) -> Account:
        """Return an agreement's account by the clock on the wall: its times are Unix seconds.

        For an agreement of a process that is dead: what it used is not known.
        """
        entry = self.approvals[agreement_id]
        ends = [self.endings.get(agreement_id), entry.expires_unix_seconds]
        return Account(
            agreement_id=agreement_id,
            provider_id=entry.provider_id,
            prices=entry.prices,
            threads=entry.threads,
            approved_seconds=entry.approved_unix_seconds,
            activities=max(1, len(self.activities.get(agreement_id, ()))),
            ended_seconds=min((end for end in ends if end is not None), default=None),
            accepted_glm=self.accepted_glm.get(agreement_id, ZERO),
        )

    def owed_glm(self, now_unix_seconds: float) -> dict[str, Decimal]:
        """Return by agreement the most that unsettled ones may still cost beyond what is accepted.

        Where the invoice is known it is what that asks.
        """
        owed: dict[str, Decimal] = {}
        for agreement_id in self.unsettled & set(self.approvals):
            accepted = self.accepted_glm.get(agreement_id, ZERO)
            bound = self.account(agreement_id).bound_glm(now_unix_seconds)
            asked = self.put_off_glm.get(agreement_id, bound)
            owed[agreement_id] = max(ZERO, min(asked, bound) - accepted)
        return owed

    def open_payers(self) -> set[str | None]:
        """Return the nodes in whose daemons something may still be held."""
        held: list[str | Decimal] = [*self.open_agreements, *self.open_allocations]
        held += self.intended_amounts
        return {self.payers.get(name) for name in held}

    def paid_by(self, node_id: str, names: Iterable[K]) -> set[K]:
        """Return those of some agreements, allocations or amounts that `node_id` pays."""
        return {name for name in names if self.payers.get(name) == node_id}

    def add(self, entry: LedgerEntry) -> None:
        """Add an entry. Accepting is idempotent: totals per agreement only ever grow."""
        match entry:
            case AgreementApproved():
                self._add_approval(entry)
            case entries.ActivityCreated():
                self.activities.setdefault(entry.agreement_id, []).append(entry.activity_id)
            case entries.AgreementEnded():
                self.open_agreements.discard(entry.agreement_id)
                ended = entry.ended_unix_seconds or entry.unix_seconds
                self.endings.setdefault(entry.agreement_id, ended)
            case entries.DebitNoteAccepted() | entries.InvoiceAccepted():
                before = self.accepted_glm.get(entry.agreement_id, ZERO)
                self.accepted_glm[entry.agreement_id] = max(before, entry.total_glm)
                if isinstance(entry, entries.InvoiceAccepted):
                    self.invoiced.add(entry.agreement_id)
                    self.put_off_glm.pop(entry.agreement_id, None)
                elif entry.note_glm is not None:
                    notes = self.notes_glm.setdefault(entry.agreement_id, {})
                    known = notes.get(entry.activity_id, ZERO)
                    notes[entry.activity_id] = max(known, entry.note_glm)
            case entries.BillPutOff():
                self.put_off_glm[entry.agreement_id] = entry.asked_glm
            case entries.BillRefused():
                self._add_refusal(entry)
            case entries.WorkRefused():
                self.refused_work[entry.agreement_id] = entry.reason
                if entry.agreement_id not in self.invoiced:
                    self.refused_agreements.add(entry.agreement_id)
                self.put_off_glm.pop(entry.agreement_id, None)
            case entries.PaymentFailed():
                self.failed_payments.append(entry)
                if entry.bill == "invoice" and not entry.is_passing:
                    self.refused_agreements.add(entry.agreement_id)
            case _:
                self._add_allocation(entry)

    def _add_refusal(self, entry: entries.BillRefused) -> None:
        self.refused.append(entry)
        self.refused_bills.add((entry.agreement_id, entry.bill, entry.bill_id))
        if entry.is_closing:
            self.refused_agreements.add(entry.agreement_id)
            self.put_off_glm.pop(entry.agreement_id, None)

    def _add_allocation(self, entry: LedgerEntry) -> None:
        match entry:
            case entries.AllocationIntended(amount_glm=amount):
                self.node_id = entry.node_id
                self.budget_glm = entry.budget_glm
                self.first_unix_seconds = self.first_unix_seconds or entry.unix_seconds
                self.intended_amounts.add(amount)
                self.payers[amount] = self.node_id
                self.sessions[self.node_id] = Session(entry.unix_seconds)
            case entries.AllocationCreated(amount_glm=amount, allocation_id=allocation):
                self.platform = entry.platform or self.platform
                self.open_allocations.add(allocation)
                self.intended_amounts.discard(amount)
                self.payers[allocation] = self.payers.get(amount, self.node_id)
            case entries.AllocationReleased(amount_glm=amount, allocation_id=allocation):
                self.open_allocations.discard(allocation)
                self.intended_amounts.discard(amount)

    def _add_approval(self, entry: AgreementApproved) -> None:
        agreement = entry.agreement_id
        payer = entry.node_id or self.node_id
        self.open_agreements.add(agreement)
        self.approvals[agreement] = entry
        self.providers[agreement] = entry.provider_name
        self.provider_ids[agreement] = entry.provider_id
        self.payers[agreement] = payer
        if payer in self.sessions:
            self.sessions[payer].agreements.add(agreement)


def read_ledger(path: Path) -> LedgerSummary:
    """Return the summary of a ledger file; a missing file is an empty ledger.

    Raises:
        PreflightError: a line is JSON but no entry.
    """
    summary = LedgerSummary()
    for entry in read_entries(path):
        summary.add(entry)
    return summary
