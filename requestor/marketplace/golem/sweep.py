"""End what a dead run left behind in the daemon: agreements, bills, allocations.

All of it can be found again: agreements by the run's mark in their demand, allocations by the id
or the exact amount that the ledger holds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from requestor.marketplace.golem.daemon_api import DaemonApi, DaemonError, decimal_field
from requestor.marketplace.golem.offer_terms import OfferUnusable, clean_name, read_offer
from requestor.marketplace.golem.payload import RUN_PROPERTY
from requestor.marketplace.ledger import EntryKind, Ledger
from requestor.marketplace.spending import Account, Prices

POLL_SECONDS = 0.2
TERMINATE_SECONDS = 5.0
QUIET_SECONDS = 1.0
_PAID = ("ACCEPTED", "SETTLED")
_OPEN = ("ISSUED", "RECEIVED")


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


@dataclass
class Sweep:
    """Cleans up after one run; safe at any time at which the run itself is not renting."""

    api: DaemonApi
    ledger: Ledger
    run_id: str
    notice: Callable[[str], None]
    unix_clock: Callable[[], float] = time.time

    async def run(self, wait_seconds: float) -> SweepReport:
        """End the run's agreements, accept what is due, release its allocations.

        Waits at most `wait_seconds` for invoices of agreements of the last session.

        Raises:
            DaemonError: the daemon does not answer; what is left is still in the ledger.
        """
        report = SweepReport()
        payer = self.ledger.summary.node_id
        if payer is None or payer != await self.api.identity():
            if self.ledger.summary.is_open:
                self.notice(f"what node {payer} still holds can only be ended on its own daemon")
            return report
        await self._end_agreements(report)
        allocations = await self._own_allocations()
        started = asyncio.get_running_loop().time()
        is_told = False
        while True:
            await self._settle(allocations, report)
            waited = asyncio.get_running_loop().time() - started
            if waited >= wait_seconds or not allocations or not self._owed():
                break
            if waited > QUIET_SECONDS and not is_told:
                is_told = True
                self.notice(
                    f"waiting up to {wait_seconds:g} s for the invoices of "
                    f"{len(self._owed())} ended agreements"
                )
            await asyncio.sleep(POLL_SECONDS)
        await self._release(allocations, report)
        return report

    def _owed(self) -> set[str]:
        """Return the last session's agreements of which no final bill has been seen."""
        summary = self.ledger.summary
        return self.ledger.session_agreements - summary.invoiced - summary.refused_agreements

    async def _end_agreements(self, report: SweepReport) -> None:
        known = self.ledger.summary
        ours = []
        for agreement_id in await self.api.approved_agreements():
            agreement = await self.api.agreement(agreement_id)
            if self._is_ours(agreement):
                ours.append(agreement_id)
                if agreement_id not in known.providers:
                    self._enter_unknown(agreement_id, agreement)
        # all at once: a provider that does not answer must not hold up the others
        ended = await asyncio.gather(*(self._end_agreement(agreement_id) for agreement_id in ours))
        report.agreements += sum(ended)
        standing = {name for name, is_ended in zip(ours, ended, strict=True) if not is_ended}
        for agreement_id in sorted((known.open_agreements | set(ours)) - standing):
            self.ledger.write("agreement_ended", agreement_id=agreement_id)

    async def _end_agreement(self, agreement_id: str) -> bool:
        """End an agreement; say whether that worked. It needs the provider, which may be gone."""
        try:
            async with asyncio.timeout(TERMINATE_SECONDS):
                await self.api.terminate_agreement(agreement_id, "cleaning up after a crash")
        except (DaemonError, TimeoutError) as error:
            name = self.ledger.summary.providers[agreement_id]
            reason = error.message if isinstance(error, DaemonError) else "no answer"
            self.notice(f"{name}: the agreement can't be ended, it ends by itself: {reason}")
            return False
        return True

    def _is_ours(self, agreement: Mapping[str, Any]) -> bool:
        demand = agreement.get("demand")
        properties = demand.get("properties") if isinstance(demand, dict) else None
        return isinstance(properties, dict) and properties.get(RUN_PROPERTY) == self.run_id

    def _enter_unknown(self, agreement_id: str, agreement: Mapping[str, Any]) -> None:
        """Enter an agreement that was approved in the instant the run died."""
        offer = agreement.get("offer")
        offer = offer if isinstance(offer, dict) else {}
        try:
            terms = read_offer(offer.get("properties") or {})
            prices, threads, name = terms.prices, terms.threads, terms.provider_name
        except OfferUnusable:
            prices, threads, name = Prices(), 1, clean_name(None)
        self.ledger.approve(
            agreement_id,
            provider_id=str(offer.get("providerId", "")),
            provider_name=name,
            threads=threads,
            prices=prices,
            approved_unix_seconds=self.ledger.opened_unix_seconds,
        )

    async def _own_allocations(self) -> dict[str, Decimal]:
        known = self.ledger.summary
        own: dict[str, Decimal] = {}
        if not known.open_allocations and not known.intended_amounts:
            return own
        for row in await self.api.allocations():
            allocation_id = str(row.get("allocationId", ""))
            amount = decimal_field(row, "totalAmount")
            if allocation_id in known.open_allocations or amount in known.intended_amounts:
                own[allocation_id] = amount
        return own

    async def _settle(self, allocations: Mapping[str, Decimal], report: SweepReport) -> None:
        """Accept what is due, and enter what has been accepted without the ledger knowing."""
        providers = set(self.ledger.summary.providers)
        if not providers:
            return
        for note in await self.api.debit_notes():
            if note.get("agreementId") in providers and note.get("status") in _PAID:
                self._enter_accepted("debit_note_accepted", note, "totalAmountDue")
        invoices = [row for row in await self.api.invoices() if row.get("agreementId") in providers]
        # paid ones first: a second invoice of the same agreement must not be paid as well
        for invoice in sorted(invoices, key=lambda row: row.get("status") not in _PAID):
            if invoice.get("status") in _PAID:
                self._enter_accepted("invoice_accepted", invoice, "amount")
            elif invoice.get("status") in _OPEN and allocations:
                await self._accept(invoice, allocations, report)

    def _enter_accepted(self, kind: EntryKind, bill: Mapping[str, Any], field: str) -> None:
        agreement_id = str(bill["agreementId"])
        total = decimal_field(bill, field)
        summary = self.ledger.summary
        is_new_invoice = kind == "invoice_accepted" and agreement_id not in summary.invoiced
        if is_new_invoice or summary.accepted_glm.get(agreement_id, Decimal(-1)) < total:
            self.ledger.write(kind, agreement_id=agreement_id, total_glm=f"{total:f}")

    async def _accept(
        self,
        invoice: Mapping[str, Any],
        allocations: Mapping[str, Decimal],
        report: SweepReport,
    ) -> None:
        agreement_id = str(invoice["agreementId"])
        summary = self.ledger.summary
        if agreement_id in summary.refused_agreements | summary.invoiced:
            return
        name = summary.providers[agreement_id]
        amount = decimal_field(invoice, "amount")
        bound = self._bound_glm(agreement_id)
        if not Decimal(0) <= amount <= bound:
            self.ledger.write(
                "bill_refused",
                agreement_id=agreement_id,
                bill="invoice",
                asked_glm=f"{amount:f}",
                bound_glm=f"{bound:f}",
            )
            self.notice(
                f"{name}: invoice over {amount:.9f} GLM refused, at most {bound:.9f} GLM can be due"
            )
            return
        for allocation_id in allocations:
            try:
                await self.api.accept_invoice(
                    str(invoice["invoiceId"]), str(invoice["amount"]), allocation_id
                )
            except DaemonError as error:
                if error.is_unreachable:
                    raise
                self.ledger.write(
                    "payment_failed", agreement_id=agreement_id, bill="invoice", reason=str(error)
                )
                self.notice(f"{name}: a bill could not be paid: {error}")
                continue
            total = f"{amount:f}"
            self.ledger.write("invoice_accepted", agreement_id=agreement_id, total_glm=total)
            report.invoices += 1
            return

    def _bound_glm(self, agreement_id: str) -> Decimal:
        """Return the most an agreement of a dead process can cost, by the clock on the wall."""
        entry = self.ledger.approvals[agreement_id]
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
            ended_seconds=self.ledger.endings.get(agreement_id),
        )
        return account.bound_glm(self.unix_clock())

    async def _release(self, allocations: Mapping[str, Decimal], report: SweepReport) -> None:
        for allocation_id, amount in allocations.items():
            await self.api.release_allocation(allocation_id)
            report.allocations += 1
            self._enter_released(allocation_id, amount)
        summary = self.ledger.summary
        for allocation_id in summary.open_allocations - set(allocations):
            self._enter_released(allocation_id, Decimal(0))
        for amount in summary.intended_amounts - set(allocations.values()):
            self._enter_released("", amount)

    def _enter_released(self, allocation_id: str, amount: Decimal) -> None:
        self.ledger.write(
            "allocation_released", allocation_id=allocation_id, amount_glm=f"{amount:f}"
        )
