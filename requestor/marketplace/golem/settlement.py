"""Which bills of ended agreements are accepted, and what the ledger is told of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from requestor.marketplace.golem.daemon_api import (
    DaemonApi,
    DaemonError,
    decimal_field,
    is_passing,
)
from requestor.marketplace.ledger import EntryKind, Ledger
from requestor.marketplace.spending import Account, Prices, is_amount, presentable_glm

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
    """Agreements whose invoice is here and does not fit into the budget; it stays owed."""

    _warned: set[str] = field(default_factory=set)

    def _is_ours_to_pay(self, bill: Mapping[str, Any]) -> bool:
        agreement_id = bill.get("agreementId")
        known = self.ledger.summary
        return agreement_id in known.providers and known.payers.get(agreement_id) == self.node_id

    @property
    def _since_unix_seconds(self) -> float:
        return (self.ledger.summary.first_unix_seconds or 0.0) - CLOCK_MARGIN_SECONDS

    async def enter_debit_notes(self) -> None:
        """Enter what has been accepted without the ledger knowing."""
        if not self.ledger.summary.providers:
            return
        async for note in self.api.debit_notes(self._since_unix_seconds):
            if self._is_ours_to_pay(note) and note.get("status") in _PAID:
                self._enter_accepted("debit_note_accepted", note, "totalAmountDue")

    async def settle(self, allocations: Mapping[str, Decimal]) -> int:
        """Accept what is due, and enter what has been accepted without the ledger knowing.

        Returns how many invoices were accepted.
        """
        if not self.ledger.summary.providers:
            return 0
        rows = await self.api.invoices(self._since_unix_seconds)
        invoices = [row for row in rows if self._is_ours_to_pay(row)]
        accepted = 0
        # paid ones first: a second invoice of the same agreement must not be paid as well
        for invoice in sorted(invoices, key=lambda row: row.get("status") not in _PAID):
            if invoice.get("status") in _PAID:
                self._enter_accepted("invoice_accepted", invoice, "amount")
            elif invoice.get("status") in _OPEN and allocations:
                accepted += await self._accept(invoice, allocations)
        return accepted

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
    ) -> bool:
        agreement_id = str(invoice["agreementId"])
        if not unsettled(self.ledger, {agreement_id}):
            return False
        amount = decimal_field(invoice, "amount")
        bound = self._bound_glm(agreement_id)
        if not is_amount(amount) or amount > bound:
            self._refuse(agreement_id, presentable_glm(amount), bound)
            return False
        if not self._is_affordable(agreement_id, amount):
            return False
        for allocation_id in allocations:
            try:
                await self.api.accept_invoice(
                    str(invoice["invoiceId"]), str(invoice["amount"]), allocation_id
                )
            except DaemonError as error:
                if error.is_unreachable:
                    raise
                self._note_failure(agreement_id, error)
                if is_passing(error):
                    return False
                continue
            total = f"{amount:f}"
            self.ledger.write("invoice_accepted", agreement_id=agreement_id, total_glm=total)
            return True
        return False

    def _refuse(self, agreement_id: str, asked: Decimal, bound: Decimal) -> None:
        self.ledger.write(
            "bill_refused",
            agreement_id=agreement_id,
            bill="invoice",
            asked_glm=f"{asked:f}",
            bound_glm=f"{bound:f}",
        )
        self.notice(
            f"{self.ledger.summary.providers[agreement_id]}: invoice over {asked:.9f} GLM refused, "
            f"at most {bound:.9f} GLM can be due"
        )

    def _is_affordable(self, agreement_id: str, amount: Decimal) -> bool:
        """Say whether the budget allows the payment; what it does not allow stays owed."""
        summary = self.ledger.summary
        budget = summary.budget_glm if self.budget_glm is None else self.budget_glm
        before = summary.accepted_glm.get(agreement_id, Decimal(0))
        if budget is None or summary.total_glm - before + max(before, amount) <= budget:
            self.over_budget.discard(agreement_id)
            return True
        if agreement_id not in self.over_budget:
            self.over_budget.add(agreement_id)
            self.notice(
                f"{summary.providers[agreement_id]}: invoice over {amount:.9f} GLM stays unpaid: "
                f"it does not fit into the budget of {budget:f} GLM any more"
            )
        return False

    def _note_failure(self, agreement_id: str, error: DaemonError) -> None:
        """Enter a payment that failed; one that may work later, once."""
        passing = is_passing(error)
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

    def _bound_glm(self, agreement_id: str) -> Decimal:
        """Return the most an agreement of a dead process can cost, by the clock on the wall."""
        entry = self.ledger.approvals[agreement_id]
        ends = (self.ledger.endings.get(agreement_id), entry.get("expires_unix_seconds"))
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
            ended_seconds=min((float(end) for end in ends if end is not None), default=None),
        )
        return account.bound_glm(self.unix_clock())
