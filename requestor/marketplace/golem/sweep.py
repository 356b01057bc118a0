"""End what a dead run left behind in the daemon: agreements, bills, allocations.

All of it can be found again: agreements by the run's mark in their demand, allocations by the id
or the exact amount that the ledger holds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from requestor.marketplace.golem.daemon_api import DaemonApi, DaemonError, decimal_field
from requestor.marketplace.golem.offer_terms import OfferUnusable, clean_name, read_offer
from requestor.marketplace.golem.payload import RUN_PROPERTY
from requestor.marketplace.ledger import Ledger
from requestor.marketplace.spending import Account, Prices

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
_PAID = ("ACCEPTED", "SETTLED")


@dataclass
class SweepReport:
    """What was found and done."""

    agreements: int = 0
    invoices: int = 0
    allocations: int = 0

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"{self.agreements} agreements ended, {self.invoices} invoices accepted, "
            f"{self.allocations} allocations released"
        )

    @property
    def is_empty(self) -> bool:
        """True if there was nothing to do."""
        return not (self.agreements or self.invoices or self.allocations)


async def sweep(
    api: DaemonApi,
    ledger: Ledger,
    run_id: str,
    notice: Callable[[str], None],
    *,
    wait_seconds: float = 10.0,
    unix_clock: Callable[[], float] = time.time,
) -> SweepReport:
    """End the run's agreements, accept what is due, release its allocations.

    Safe to call at any time and any number of times while the run itself is not renting. Waits at
    most `wait_seconds` for invoices of agreements that it ended or found unbilled.

    Raises:
        DaemonError: the daemon does not answer; what is left is still in the ledger.
    """
    report = SweepReport()
    mine = await _end_agreements(api, ledger, run_id, report)
    allocations = await _own_allocations(api, ledger)
    books = _Accounts(ledger, unix_clock)
    deadline = asyncio.get_running_loop().time() + wait_seconds
    while True:
        unbilled = await _settle(api, ledger, books, allocations, report, notice)
        waiting = unbilled & mine
        if not waiting or asyncio.get_running_loop().time() >= deadline:
            break
        await asyncio.sleep(POLL_SECONDS)
    await _release(api, ledger, allocations, report)
    return report


async def _end_agreements(
    api: DaemonApi, ledger: Ledger, run_id: str, report: SweepReport
) -> set[str]:
    known = ledger.summary
    ended: set[str] = set()
    for agreement_id in await api.approved_agreements():
        agreement = await api.agreement(agreement_id)
        demand = agreement.get("demand")
        properties = demand.get("properties") if isinstance(demand, dict) else None
        if not isinstance(properties, dict) or properties.get(RUN_PROPERTY) != run_id:
            continue
        if agreement_id not in known.providers:
            _record_unknown(ledger, agreement_id, agreement)
        await api.terminate_agreement(agreement_id, "the requestor is cleaning up after a crash")
        report.agreements += 1
        ended.add(agreement_id)
        ledger.write("agreement_ended", agreement_id=agreement_id)
    for agreement_id in known.open_agreements - ended:
        ledger.write("agreement_ended", agreement_id=agreement_id)
    return ended | (known.open_agreements - ended)


def _record_unknown(ledger: Ledger, agreement_id: str, agreement: dict[str, Any]) -> None:
    """Enter an agreement that was approved in the instant the run died."""
    offer = agreement.get("offer")
    offer = offer if isinstance(offer, dict) else {}
    try:
        terms = read_offer(offer.get("properties") or {})
        prices, threads, name = terms.prices, terms.threads, terms.provider_name
    except OfferUnusable:
        prices, threads, name = Prices(), 1, clean_name(None)
    ledger.write(
        "agreement_approved",
        agreement_id=agreement_id,
        provider_id=str(offer.get("providerId", "")),
        provider_name=name,
        threads=threads,
        start_glm=f"{prices.start_glm:f}",
        cpu_hour_glm=f"{prices.cpu_hour_glm:f}",
        hour_glm=f"{prices.hour_glm:f}",
        approved_unix_seconds=ledger.opened_unix_seconds,
    )


async def _own_allocations(api: DaemonApi, ledger: Ledger) -> dict[str, Decimal]:
    known = ledger.summary
    own: dict[str, Decimal] = {}
    if not known.open_allocations and not known.intended_amounts:
        return own
    for row in await api.allocations():
        allocation_id = str(row.get("allocationId", ""))
        amount = decimal_field(row, "totalAmount")
        if allocation_id in known.open_allocations or amount in known.intended_amounts:
            own[allocation_id] = amount
    return own


class _Accounts:
    """What each agreement of the ledger can cost at most, by the clock on the wall."""

    def __init__(self, ledger: Ledger, unix_clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._unix_clock = unix_clock

    def bound_glm(self, agreement_id: str) -> Decimal:
        entry = self._ledger.approvals.get(agreement_id)
        if entry is None:
            return Decimal(0)
        account = Account(
            agreement_id=agreement_id,
            provider_id=str(entry["provider_id"]),
            prices=Prices(
                Decimal(entry["start_glm"]),
                Decimal(entry["cpu_hour_glm"]),
                Decimal(entry["hour_glm"]),
            ),
            threads=int(entry["threads"]),
            approved_seconds=float(entry["approved_unix_seconds"]),
        )
        return account.bound_glm(self._unix_clock())


async def _settle(
    api: DaemonApi,
    ledger: Ledger,
    books: _Accounts,
    allocations: dict[str, Decimal],
    report: SweepReport,
    notice: Callable[[str], None],
) -> set[str]:
    """Accept what is due, enter what was accepted before; return agreements without an invoice."""
    known = ledger.summary
    billed: set[str] = set()
    if not known.providers:
        return billed
    for note in await api.debit_notes():
        agreement_id = str(note.get("agreementId", ""))
        if agreement_id in known.providers and note.get("status") in _PAID:
            _enter(ledger, "debit_note_accepted", agreement_id, note, "totalAmountDue")
    invoices = [row for row in await api.invoices() if row.get("agreementId") in known.providers]
    for invoice in sorted(invoices, key=lambda row: row.get("status") not in _PAID):
        agreement_id = str(invoice["agreementId"])
        billed.add(agreement_id)
        status = invoice.get("status")
        if status in _PAID:
            _enter(ledger, "invoice_accepted", agreement_id, invoice, "amount")
        elif status in ("ISSUED", "RECEIVED") and allocations:
            await _accept(api, ledger, books, allocations, invoice, report, notice)
    return set(known.providers) - billed


def _enter(
    ledger: Ledger, kind: Any, agreement_id: str, bill: dict[str, Any], field: str
) -> None:
    total = decimal_field(bill, field)
    summary = ledger.summary
    is_new_invoice = kind == "invoice_accepted" and agreement_id not in summary.invoiced
    if is_new_invoice or summary.accepted_glm.get(agreement_id, Decimal(-1)) < total:
        ledger.write(kind, agreement_id=agreement_id, total_glm=f"{total:f}")


async def _accept(
    api: DaemonApi,
    ledger: Ledger,
    books: _Accounts,
    allocations: dict[str, Decimal],
    invoice: dict[str, Any],
    report: SweepReport,
    notice: Callable[[str], None],
) -> None:
    agreement_id = str(invoice["agreementId"])
    summary = ledger.summary
    if agreement_id in summary.refused_agreements | summary.invoiced:
        return
    name = summary.providers[agreement_id]
    amount = decimal_field(invoice, "amount")
    bound = books.bound_glm(agreement_id)
    if not Decimal(0) <= amount <= bound:
        ledger.write(
            "bill_refused",
            agreement_id=agreement_id,
            bill="invoice",
            asked_glm=f"{amount:f}",
            bound_glm=f"{bound:f}",
        )
        notice(f"{name}: invoice over {amount:.9f} GLM refused, at most {bound:.9f} GLM can be due")
        return
    for allocation_id in allocations:
        try:
            await api.accept_invoice(str(invoice["invoiceId"]), f"{amount:f}", allocation_id)
        except DaemonError as error:
            if error.is_unreachable:
                raise
            ledger.write("payment_failed", agreement_id=agreement_id, reason=str(error))
            notice(f"{name}: a bill could not be paid: {error}")
            continue
        ledger.write("invoice_accepted", agreement_id=agreement_id, total_glm=f"{amount:f}")
        report.invoices += 1
        return


async def _release(
    api: DaemonApi, ledger: Ledger, allocations: dict[str, Decimal], report: SweepReport
) -> None:
    for allocation_id, amount in allocations.items():
        await api.release_allocation(allocation_id)
        report.allocations += 1
        _released(ledger, allocation_id, amount)
    summary = ledger.summary
    for allocation_id in summary.open_allocations - set(allocations):
        _released(ledger, allocation_id, None)
    for amount in summary.intended_amounts - set(allocations.values()):
        _released(ledger, "", amount)


def _released(ledger: Ledger, allocation_id: str, amount: Decimal | None) -> None:
    ledger.write(
        "allocation_released",
        allocation_id=allocation_id,
        amount_glm=f"{amount:f}" if amount is not None else "0",
    )
