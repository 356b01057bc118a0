"""Which bills of ended agreements are accepted, and what the ledger is told of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from decimal import Decimal

from requestor.marketplace.golem.daemon.api import DaemonApi, DaemonError
from requestor.marketplace.golem.paying.auditing import put_off_notice
from requestor.marketplace.golem.paying.payment_failures import lacks_funds, may_pass
from requestor.marketplace.money.bills import Bill, Parties, find_fault, read_bill
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.money.spending import ZERO, is_amount, presentable_glm

logger = logging.getLogger(__name__)

CLOCK_MARGIN_SECONDS = 86_400.0
"""Bills carry the time of a provider's clock: we look this much further back than the run."""

_PAID = ("ACCEPTED", "SETTLED")
_OPEN = ("ISSUED", "RECEIVED")


def unsettled(ledger: Ledger, agreements: Set[str]) -> set[str]:
    """Return those of some agreements of which no final bill was accepted or refused."""
    return set(agreements) - ledger.summary.invoiced - ledger.summary.refused_agreements


@dataclass
class Settlement:
    """Settles the accounts of the ended agreements that `node_id` pays for one run.

    budget_glm: all that is ever accepted for the run stays within this; None for the budget of
        the run's last session.
    """

    api: DaemonApi
    ledger: Ledger
    node_id: str
    notice: Callable[[str], None]
    unix_clock: Callable[[], float]
    budget_glm: Decimal | None = None
    over_budget: set[str] = field(default_factory=set)
    """Agreements whose invoice is here and finds no money now; it stays owed."""

    _warned: set[str] = field(default_factory=set)

    async def enter_debit_notes(self) -> None:
        """Enter what has been accepted without the ledger knowing."""
        summary = self.ledger.summary
        if not summary.providers:
            return
        found: dict[str, dict[str, Decimal]] = {}
        async for row in self.api.debit_notes(self._since_unix_seconds):
            note = read_bill("debit note", row)
            if not self._is_ours_to_pay(note) or row.get("status") not in _PAID:
                continue
            if is_amount(note.asked_glm):
                totals = found.setdefault(note.agreement_id, {})
                totals[note.activity_id] = max(note.asked_glm, totals.get(note.activity_id, ZERO))
        for agreement_id, totals in found.items():
            total = sum(totals.values(), ZERO)
            if summary.accepted_glm.get(agreement_id, Decimal(-1)) < total:
                self.ledger.write(
                    "debit_note_accepted", agreement_id=agreement_id, total_glm=f"{total:f}"
                )

    async def settle(self, allocations: Mapping[str, Decimal]) -> int:
        """Accept what is due, and enter what has been accepted without the ledger knowing.

        Returns how many invoices were accepted.
        """
        accepted = 0
        for bill in await self.open_invoices():
            if allocations and self.judge(bill):
                accepted += await self._accept(bill, allocations)
        return accepted

    async def open_invoices(self) -> list[Bill]:
        """Return the invoices of this run that wait for an answer; enter those that were paid.

        A second invoice of an agreement that is paid is refused here.
        """
        if not self.ledger.summary.providers:
            return []
        rows = await self.api.invoices(self._since_unix_seconds)
        bills = [(read_bill("invoice", row), str(row.get("status"))) for row in rows]
        strangers = sum(bill.agreement_id not in self.ledger.summary.providers for bill, _ in bills)
        if strangers:
            logger.info("%d invoices are for agreements that are not this run's", strangers)
        ours = [(bill, status) for bill, status in bills if self._is_ours_to_pay(bill)]
        for bill, status in ours:
            if status in _PAID:
                self._enter_accepted(bill)
        waiting = [bill for bill, status in ours if status in _OPEN]
        for bill in waiting:
            if bill.agreement_id in self.ledger.summary.invoiced:
                self._refuse(bill, ZERO, "it is the agreement's second", closes=False)
        return [bill for bill in waiting if unsettled(self.ledger, {bill.agreement_id})]

    def judge(self, bill: Bill) -> bool:
        """Say whether an invoice can be accepted; enter and tell why not."""
        summary = self.ledger.summary
        if not unsettled(self.ledger, {bill.agreement_id}):
            return False
        entry = summary.approvals[bill.agreement_id]
        parties = Parties(entry.provider_id, entry.payee, self.node_id, entry.platform)
        bound = summary.account(bill.agreement_id).bound_glm(self.unix_clock())
        fault = find_fault(bill, parties)
        if fault is not None or bill.asked_glm > bound:
            self._refuse(bill, bound, fault)
            return False
        return self._is_affordable(bill)

    def _is_ours_to_pay(self, bill: Bill) -> bool:
        known = self.ledger.summary
        is_known = bill.agreement_id in known.providers
        return is_known and known.payers.get(bill.agreement_id) == self.node_id

    @property
    def _since_unix_seconds(self) -> float:
        return (self.ledger.summary.first_unix_seconds or 0.0) - CLOCK_MARGIN_SECONDS

    def _enter_accepted(self, bill: Bill) -> None:
        if not is_amount(bill.asked_glm):
            return
        summary = self.ledger.summary
        known = summary.accepted_glm.get(bill.agreement_id, Decimal(-1))
        if bill.agreement_id not in summary.invoiced or known < bill.asked_glm:
            self._write_accepted(bill)

    def _write_accepted(self, bill: Bill) -> None:
        self.ledger.write(
            "invoice_accepted",
            agreement_id=bill.agreement_id,
            total_glm=f"{bill.asked_glm:f}",
            bill_id=bill.bill_id,
        )

    async def _accept(self, bill: Bill, allocations: Mapping[str, Decimal]) -> bool:
        for allocation_id in allocations:
            try:
                await self.api.accept_invoice(bill.bill_id, f"{bill.asked_glm:f}", allocation_id)
            except DaemonError as error:
                if error.is_unreachable:
                    raise
                self._note_failure(bill.agreement_id, error)
                if may_pass(error) and not lacks_funds(error):
                    return False
                continue
            self._write_accepted(bill)
            return True
        return False

    def _refuse(
        self, bill: Bill, bound: Decimal, fault: str | None, *, closes: bool | None = None
    ) -> None:
        if bill.bill_id and bill.key in self.ledger.summary.refused_bills:
            return
        asked = presentable_glm(bill.asked_glm)
        reason = fault or f"at most {bound:.9f} GLM can be due"
        self.ledger.write(
            "bill_refused",
            agreement_id=bill.agreement_id,
            bill="invoice",
            asked_glm=f"{asked:f}",
            bound_glm=f"{bound:f}",
            bill_id=bill.bill_id,
            reason=reason,
            closes=closes,
        )
        name = self.ledger.summary.providers[bill.agreement_id]
        comma = "," if fault is None else ":"
        self.notice(f"{name}: invoice over {asked:.9f} GLM refused{comma} {reason}")

    def _is_affordable(self, bill: Bill) -> bool:
        """Say whether the budget allows the payment; what it does not allow stays owed."""
        summary = self.ledger.summary
        budget = summary.budget_glm if self.budget_glm is None else self.budget_glm
        agreement_id = bill.agreement_id
        before = summary.accepted_glm.get(agreement_id, ZERO)
        if budget is None or summary.total_glm - before + max(before, bill.asked_glm) <= budget:
            self.over_budget.discard(agreement_id)
            return True
        self.over_budget.add(agreement_id)
        if summary.put_off_glm.get(agreement_id) != bill.asked_glm:
            self.ledger.write(
                "bill_put_off",
                agreement_id=agreement_id,
                asked_glm=f"{bill.asked_glm:f}",
                bill_id=bill.bill_id,
                reason="budget",
            )
            name = summary.providers[agreement_id]
            self.notice(put_off_notice(name, bill.asked_glm, budget))
        return False

    def _note_failure(self, agreement_id: str, error: DaemonError) -> None:
        """Enter a payment that failed; one that may work later, once."""
        passing = may_pass(error)
        if lacks_funds(error):
            self.over_budget.add(agreement_id)
        if passing and agreement_id in self._warned:
            return
        self._warned.add(agreement_id)
        self.ledger.write(
            "payment_failed",
            agreement_id=agreement_id,
            bill="invoice",
            reason=str(error),
            is_passing=passing,
        )
        later = " (it will be tried again)" if passing else ""
        name = self.ledger.summary.providers[agreement_id]
        self.notice(f"{name}: a bill could not be paid: {error}{later}")
