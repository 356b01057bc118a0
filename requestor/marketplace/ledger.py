"""The ledger: one JSON line for everything that touches money, on disk before it is acted upon."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from requestor.errors import PreflightError
from requestor.marketplace.spending import Prices

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
            raise PreflightError(
                f"line {len(entries) + 1} of {path} is damaged",
                fix="restore the file from a copy; what the run has paid is written nowhere else",
            )
        self._entries = entries
        self._file = path.open("ab")
        self._file.truncate(whole)

    def write(self, kind: EntryKind, **fields: str | float | int | None) -> None:
        """Append one entry; amounts are given as decimal strings."""
        entry = {"kind": kind, "unix_seconds": round(self._clock(), 3), **fields}
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._entries.append(entry)

    def approve(
        self,
        agreement_id: str,
        *,
        provider_id: str,
        provider_name: str,
        threads: int,
        prices: Prices,
        approved_unix_seconds: float,
    ) -> None:
        """Append an `agreement_approved` entry: all that its bills will be held against."""
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
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def approvals(self) -> dict[str, Mapping[str, Any]]:
        """The entry of every agreement's approval: provider, prices, time."""
        return {
            entry["agreement_id"]: entry
            for entry in self._entries
            if entry["kind"] == "agreement_approved"
        }

    @property
    def session_agreements(self) -> set[str]:
        """Agreements approved since the last allocation was asked for."""
        agreements: set[str] = set()
        for entry in self._entries:
            if entry["kind"] == "allocation_intended":
                agreements.clear()
            elif entry["kind"] == "agreement_approved":
                agreements.add(entry["agreement_id"])
        return agreements

    @property
    def endings(self) -> dict[str, float]:
        """When each agreement ended, in Unix seconds: nothing became due after that."""
        times: dict[str, float] = {}
        for entry in self._entries:
            if entry["kind"] == "agreement_ended":
                times.setdefault(entry["agreement_id"], float(entry["unix_seconds"]))
        return times

    @property
    def opened_unix_seconds(self) -> float:
        """When the last allocation was asked for: no later agreement is older than that."""
        times = [
            float(entry["unix_seconds"])
            for entry in self._entries
            if entry["kind"] == "allocation_intended"
        ]
        return times[-1] if times else 0.0

    @property
    def summary(self) -> LedgerSummary:
        """The state of all accounts."""
        return summarize(self._entries)


@dataclass
class LedgerSummary:
    """What the ledger adds up to."""

    accepted_glm: dict[str, Decimal] = field(default_factory=dict)
    """Accepted so far, by agreement."""

    providers: dict[str, str] = field(default_factory=dict)
    """Provider name by agreement."""

    provider_ids: dict[str, str] = field(default_factory=dict)
    """Provider's node id by agreement."""

    open_agreements: set[str] = field(default_factory=set)
    open_allocations: set[str] = field(default_factory=set)
    intended_amounts: set[Decimal] = field(default_factory=set)
    """Exact amounts of allocations that were asked for and of which no id is known."""

    invoiced: set[str] = field(default_factory=set)
    """Agreements whose invoice was accepted: there is only one to an agreement."""

    refused: list[Mapping[str, Any]] = field(default_factory=list)
    failed_payments: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def refused_agreements(self) -> set[str]:
        """Agreements whose final invoice was refused or could not be paid."""
        bills = [*self.refused, *self.failed_payments]
        return {str(entry["agreement_id"]) for entry in bills if entry.get("bill") == "invoice"}

    node_id: str | None = None
    """The node that pays, as of the last session."""

    @property
    def is_open(self) -> bool:
        """True if something may still be held in the daemon."""
        return bool(self.open_agreements or self.open_allocations or self.intended_amounts)

    @property
    def total_glm(self) -> Decimal:
        """Sum of everything accepted."""
        return sum(self.accepted_glm.values(), Decimal(0))


def read_ledger(path: Path) -> LedgerSummary:
    """Return the summary of a ledger file; a missing file is an empty ledger."""
    return summarize(_read(path)[0])


def summarize(entries: Iterable[Mapping[str, Any]]) -> LedgerSummary:
    """Add the entries up. Accepting is idempotent: totals per agreement only ever grow."""
    summary = LedgerSummary()
    for entry in entries:
        kind = entry["kind"]
        agreement = entry.get("agreement_id", "")
        if kind == "allocation_intended":
            summary.intended_amounts.add(Decimal(entry["amount_glm"]))
            summary.node_id = entry.get("node_id")
        elif kind == "allocation_created":
            summary.open_allocations.add(entry["allocation_id"])
            summary.intended_amounts.discard(Decimal(entry["amount_glm"]))
        elif kind == "allocation_released":
            summary.open_allocations.discard(entry["allocation_id"])
            summary.intended_amounts.discard(Decimal(entry["amount_glm"]))
        elif kind == "agreement_approved":
            summary.open_agreements.add(agreement)
            summary.providers[agreement] = entry["provider_name"]
            summary.provider_ids[agreement] = entry["provider_id"]
        elif kind == "agreement_ended":
            summary.open_agreements.discard(agreement)
        elif kind in ("debit_note_accepted", "invoice_accepted"):
            before = summary.accepted_glm.get(agreement, Decimal(0))
            summary.accepted_glm[agreement] = max(before, Decimal(entry["total_glm"]))
            if kind == "invoice_accepted":
                summary.invoiced.add(agreement)
        elif kind == "bill_refused":
            summary.refused.append(entry)
        elif kind == "payment_failed":
            summary.failed_payments.append(entry)
    return summary


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
