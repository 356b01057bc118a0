"""The ledger: one JSON line for everything that touches money, on the disk when `write` returns.

An allocation is entered before it is asked for. The rest is entered as it happens, and what a
crash kept out of the ledger is taken from the daemon's books at the next start (`golem/sweep.py`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeVar

from requestor.errors import PreflightError
from requestor.marketplace.spending import Prices

K = TypeVar("K", str, Decimal)

EntryKind = Literal[
    "allocation_intended",
    "allocation_created",
    "allocation_released",
    "agreement_approved",
    "agreement_ended",
    "debit_note_accepted",
    "invoice_received",
    "invoice_accepted",
    "bill_refused",
    "payment_failed",
]


class Ledger:
    """Append entries to `ledger.jsonl`; every line is on the disk when `write` returns."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Open (or create) the ledger; a line torn by a crash is cut off.

        Raises:
            PreflightError: a line before the last is damaged. No crash does that, and what was
                paid must not be guessed.
        """
        self.path = path
        self._clock = clock
        entries, whole = _read(path)
        if path.exists() and b"\n" in path.read_bytes()[whole:]:
            raise _damaged(path, len(entries) + 1)
        self._summary = _add_up(path, entries)
        self._file = path.open("ab")
        self._file.truncate(whole)

    def write(self, kind: EntryKind, **fields: str | float | int | None) -> None:
        """Append one entry; amounts are given as decimal strings."""
        entry = {"kind": kind, "unix_seconds": round(self._clock(), 3), **fields}
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
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
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def approvals(self) -> Mapping[str, Mapping[str, Any]]:
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

    approvals: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """The entry of approval by agreement."""

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

    refused: list[Mapping[str, Any]] = field(default_factory=list)
    failed_payments: list[Mapping[str, Any]] = field(default_factory=list)

    refused_agreements: set[str] = field(default_factory=set)
    """Agreements whose final invoice was refused, or could not be paid and never will be."""

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
        return sum(self.accepted_glm.values(), Decimal(0))

    def open_payers(self) -> set[str | None]:
        """Return the nodes in whose daemons something may still be held."""
        held: list[str | Decimal] = [*self.open_agreements, *self.open_allocations]
        held += self.intended_amounts
        return {self.payers.get(name) for name in held}

    def paid_by(self, node_id: str, names: Iterable[K]) -> set[K]:
        """Return those of some agreements, allocations or amounts that `node_id` pays."""
        return {name for name in names if self.payers.get(name) == node_id}

    def add(self, entry: Mapping[str, Any]) -> None:
        """Add an entry. Accepting is idempotent: totals per agreement only ever grow."""
        kind = entry["kind"]
        if kind.startswith("allocation_"):
            self._add_allocation(kind, entry)
        elif kind == "agreement_approved":
            self._add_approval(entry)
        elif kind == "agreement_ended":
            self.open_agreements.discard(entry["agreement_id"])
            self.endings.setdefault(entry["agreement_id"], float(entry["unix_seconds"]))
        elif kind in ("debit_note_accepted", "invoice_accepted"):
            agreement = entry["agreement_id"]
            before = self.accepted_glm.get(agreement, Decimal(0))
            self.accepted_glm[agreement] = max(before, Decimal(entry["total_glm"]))
            if kind == "invoice_accepted":
                self.invoiced.add(agreement)
        elif kind in ("bill_refused", "payment_failed"):
            bills = self.refused if kind == "bill_refused" else self.failed_payments
            bills.append(entry)
            if entry.get("bill") == "invoice" and not entry.get("is_passing"):
                self.refused_agreements.add(entry["agreement_id"])

    def _add_allocation(self, kind: str, entry: Mapping[str, Any]) -> None:
        amount = Decimal(entry["amount_glm"])
        if kind == "allocation_intended":
            asked_seconds = float(entry["unix_seconds"])
            self.node_id = entry.get("node_id")
            self.budget_glm = Decimal(entry["budget_glm"]) if "budget_glm" in entry else None
            self.first_unix_seconds = self.first_unix_seconds or asked_seconds
            self.intended_amounts.add(amount)
            self.payers[amount] = self.node_id
            self.sessions[self.node_id] = Session(asked_seconds)
        elif kind == "allocation_created":
            self.open_allocations.add(entry["allocation_id"])
            self.intended_amounts.discard(amount)
            self.payers[entry["allocation_id"]] = self.payers.get(amount, self.node_id)
        elif kind == "allocation_released":
            self.open_allocations.discard(entry["allocation_id"])
            self.intended_amounts.discard(amount)

    def _add_approval(self, entry: Mapping[str, Any]) -> None:
        agreement = entry["agreement_id"]
        payer = entry.get("node_id", self.node_id)
        self.open_agreements.add(agreement)
        self.approvals[agreement] = entry
        self.providers[agreement] = entry["provider_name"]
        self.provider_ids[agreement] = entry["provider_id"]
        self.payers[agreement] = payer
        if payer in self.sessions:
            self.sessions[payer].agreements.add(agreement)


def read_ledger(path: Path) -> LedgerSummary:
    """Return the summary of a ledger file; a missing file is an empty ledger.

    Raises:
        PreflightError: a line is JSON but no entry.
    """
    return _add_up(path, _read(path)[0])


def _add_up(path: Path, entries: Iterable[Mapping[str, Any]]) -> LedgerSummary:
    summary = LedgerSummary()
    for number, entry in enumerate(entries, 1):
        try:
            summary.add(entry)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise _damaged(path, number) from error
    return summary


def _damaged(path: Path, line: int) -> PreflightError:
    return PreflightError(
        f"line {line} of {path} is damaged",
        fix="restore the file from a copy; what the run has paid is written nowhere else",
    )


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    if not path.exists():
        return [], 0
    entries: list[dict[str, Any]] = []
    whole = 0
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                break
            entries.append(json.loads(line))
        except ValueError:
            break
        whole += len(line)
    return entries, whole
