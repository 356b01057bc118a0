"""Debts: invoices of ended sessions that were right and found no money in their time.

They are paid before anything new is rented, from an allocation of their own that lives as long as
that takes. (A daemon only pays from an allocation, and that of the session is gone.)
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from requestor.marketplace.golem.daemon.api import DaemonApi, DaemonError
from requestor.marketplace.golem.paying.settlement import Settlement
from requestor.marketplace.golem.paying.sweep import Sweep, SweepReport
from requestor.marketplace.money.bills import Bill
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.money.spending import GLM_QUANTUM, ZERO, marked_allocation_glm


@dataclass
class Debts:
    """Pays what one run owes of earlier sessions, within `budget_glm` over the whole run."""

    api: DaemonApi
    ledger: Ledger
    notice: Callable[[str], None]
    budget_glm: Decimal
    unix_clock: Callable[[], float] = time.time

    async def pay(self) -> int:
        """Accept what is owed and fits the budget; return how many invoices that were.

        Safe when the run is not renting and its agreements are ended.

        Raises:
            DaemonError: the daemon does not answer, or does not grant the allocation; what is
                held is in the ledger, and a sweep releases it.
        """
        node_id = await self.api.identity()
        settlement = Settlement(
            self.api, self.ledger, node_id, self.notice, self.unix_clock, self.budget_glm
        )
        due = [bill for bill in await settlement.open_invoices() if settlement.judge(bill)]
        amount = self._amount_glm(due)
        if not due or not self.ledger.summary.platform:
            return 0
        allocation_id = await self._allocate(amount, node_id)
        try:
            return await settlement.settle({allocation_id: amount})
        finally:
            await self._release(allocation_id, amount)

    def _amount_glm(self, due: list[Bill]) -> Decimal:
        """Return what the bills ask beyond what was accepted, as far as the budget has it left.

        A mark makes it recognisable.
        """
        accepted = self.ledger.summary.accepted_glm
        left = max(ZERO, self.budget_glm - self.ledger.summary.total_glm)
        asked = sum(
            (max(ZERO, bill.asked_glm - accepted.get(bill.agreement_id, ZERO)) for bill in due),
            ZERO,
        )
        most = 10**6
        # above the sum by less than a trillionth of a GLM, since the mark is taken away from it
        return marked_allocation_glm(min(asked, left) + GLM_QUANTUM * most, secrets.randbelow(most))

    async def _allocate(self, amount: Decimal, node_id: str) -> str:
        self.ledger.write(
            "allocation_intended",
            amount_glm=f"{amount:f}",
            budget_glm=f"{self.budget_glm:f}",
            node_id=node_id,
        )
        platform = self.ledger.summary.platform
        try:
            allocation_id = await self.api.create_allocation(f"{amount:f}", platform, node_id)
        except DaemonError as error:
            if not error.is_unreachable:
                self._enter_released("", amount)
            raise
        self.ledger.write(
            "allocation_created",
            allocation_id=allocation_id,
            amount_glm=f"{amount:f}",
            platform=platform,
        )
        return allocation_id

    async def _release(self, allocation_id: str, amount: Decimal) -> None:
        await self.api.release_allocation(allocation_id)
        self._enter_released(allocation_id, amount)

    def _enter_released(self, allocation_id: str, amount: Decimal) -> None:
        self.ledger.write(
            "allocation_released", allocation_id=allocation_id, amount_glm=f"{amount:f}"
        )


async def wind_up(sweep: Sweep, budget_glm: Decimal, wait_seconds: float) -> SweepReport:
    """Sweep after a run's dead sessions, then pay what they owe within `budget_glm`.

    Raises:
        DaemonError: the daemon does not answer.
    """
    report = await sweep.run(wait_seconds)
    debts = Debts(sweep.api, sweep.ledger, sweep.notice, budget_glm, sweep.unix_clock)
    try:
        report.invoices += await debts.pay()
    except DaemonError as error:
        if error.is_unreachable:
            raise
        sweep.notice(f"what earlier sessions owe is not paid now: {error}")
    return report
