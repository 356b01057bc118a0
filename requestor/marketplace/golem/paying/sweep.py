"""End what a dead run left behind in the daemon: agreements, bills, allocations.

All of it can be found again: agreements by the run's mark in their demand, allocations by the id
or the exact amount that the ledger holds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from requestor.marketplace.golem.daemon.answers import decimal_field
from requestor.marketplace.golem.daemon.api import DaemonApi, DaemonError
from requestor.marketplace.golem.paying.settlement import (
    CLOCK_MARGIN_SECONDS,
    Settlement,
    unsettled,
)
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.offers.offer_terms import (
    OfferUnusable,
    clean_name,
    read_expiry,
    read_offer,
)
from requestor.marketplace.ports import RUN_PROPERTY

POLL_SECONDS = 0.2
TERMINATE_SECONDS = 5.0
QUIET_SECONDS = 1.0


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
    """Cleans up after one run in the daemon of one node; what other nodes hold it leaves alone.

    budget_glm: all that is ever accepted for the run stays within this; None for the budget of
        the run's last session.
    told: runs and nodes of which a person was told already that they hold something elsewhere.
    """

    api: DaemonApi
    ledger: Ledger
    run_id: str
    notice: Callable[[str], None]
    unix_clock: Callable[[], float] = time.time
    budget_glm: Decimal | None = None
    told: set[tuple[str, str]] = field(default_factory=set)
    _node: str = ""

    async def run(self, wait_seconds: float) -> SweepReport:
        """End the run's agreements, accept what is due, release its allocations.

        Safe at any time at which the run itself is not renting. Waits at most `wait_seconds` for
        invoices of agreements of the last session.

        Raises:
            DaemonError: the daemon does not answer; what is left is still in the ledger.
        """
        report = SweepReport()
        if not await self._is_payer():
            return report
        await self._take_back_demands()
        await self._end_agreements(report)
        allocations = await self._own_allocations()
        awaited = frozenset(self.ledger.summary.sessions[self._node].agreements)
        await self._settle(allocations, awaited, wait_seconds, report)
        await self._release(allocations, report)
        return report

    async def pay(self, awaited: Set[str], wait_seconds: float) -> SweepReport:
        """Accept what is due of ended agreements, late invoices of earlier sessions among it.

        For the end of a session: when all its agreements have ended, and nobody else accepts
        invoices, but its allocation is still open. Waits at most `wait_seconds` until the
        invoices of the agreements `awaited` are paid.

        Raises:
            DaemonError: the daemon does not answer; what is left is still in the ledger.
        """
        report = SweepReport()
        if await self._is_payer():
            allocations = await self._own_allocations()
            await self._settle(allocations, awaited, wait_seconds, report)
        return report

    async def _is_payer(self) -> bool:
        """Say whether the daemon's node ever paid for the run; tell of others that hold something.

        An agreement and an allocation can only be ended by the node that made them.
        """
        summary = self.ledger.summary
        if summary.node_id is None and not summary.sessions:
            return False
        self._node = await self.api.identity()
        for node in sorted(str(name) for name in summary.open_payers() - {self._node}):
            if (self.run_id, node) not in self.told:
                self.told.add((self.run_id, node))
                self.notice(f"what node {node} still holds can only be ended on its own daemon")
        return self._node in summary.sessions

    async def _settle(
        self,
        allocations: Mapping[str, Decimal],
        awaited: Set[str],
        wait_seconds: float,
        report: SweepReport,
    ) -> None:
        """Settle accounts again and again, until those `awaited` are or the time is over."""
        started = asyncio.get_running_loop().time()
        is_told = False
        accounts = Settlement(
            self.api, self.ledger, self._node, self.notice, self.unix_clock, self.budget_glm
        )
        await accounts.enter_debit_notes()
        while True:
            report.invoices += await accounts.settle(allocations)
            waited = asyncio.get_running_loop().time() - started
            owed = unsettled(self.ledger, awaited) - accounts.over_budget
            if waited >= wait_seconds or not allocations or not owed:
                return
            if waited > QUIET_SECONDS and not is_told:
                is_told = True
                self.notice(
                    f"waiting up to {wait_seconds:g} s for the invoices of "
                    f"{len(owed)} ended agreements"
                )
            await asyncio.sleep(POLL_SECONDS)

    async def _take_back_demands(self) -> None:
        for demand in await self.api.demands():
            if self._is_ours({"demand": demand}):
                await self.api.unsubscribe_demand(str(demand.get("demandId")))

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
        still_open = known.paid_by(self._node, known.open_agreements)
        for agreement_id in sorted(set(ours) - standing):
            self.ledger.write("agreement_ended", agreement_id=agreement_id)
        await self._enter_endings(still_open - set(ours))

    async def _enter_endings(self, agreements: Set[str]) -> None:
        """Enter the ends of agreements that are not in force any more and that nobody entered.

        What became due after an end is nobody's claim, so that its time matters; the daemon knows
        it, unless the agreement just expired.
        """
        if not agreements:
            return
        since = (self.ledger.summary.first_unix_seconds or 0.0) - CLOCK_MARGIN_SECONDS
        endings = await self.api.agreement_endings(since)
        for agreement_id in sorted(agreements):
            self.ledger.write(
                "agreement_ended",
                agreement_id=agreement_id,
                ended_unix_seconds=endings.get(agreement_id),
            )

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
        demand = agreement.get("demand")
        demand = demand if isinstance(demand, dict) else {}
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
            approved_unix_seconds=self.ledger.summary.sessions[self._node].opened_unix_seconds,
            expires_unix_seconds=read_expiry(demand.get("properties")),
            node_id=self._node,
        )

    async def _own_allocations(self) -> dict[str, Decimal]:
        known = self.ledger.summary
        ids = known.paid_by(self._node, known.open_allocations)
        amounts = known.paid_by(self._node, known.intended_amounts)
        own: dict[str, Decimal] = {}
        if not ids and not amounts:
            return own
        for row in await self.api.allocations():
            allocation_id = str(row.get("allocationId", ""))
            amount = decimal_field(row, "totalAmount")
            if allocation_id in ids or amount in amounts:
                own[allocation_id] = amount
        return own

    async def _release(self, allocations: Mapping[str, Decimal], report: SweepReport) -> None:
        for allocation_id, amount in allocations.items():
            await self.api.release_allocation(allocation_id)
            report.allocations += 1
            self._enter_released(allocation_id, amount)
        known = self.ledger.summary
        for allocation_id in known.paid_by(self._node, known.open_allocations):
            self._enter_released(allocation_id, Decimal(0))
        for amount in known.paid_by(self._node, known.intended_amounts):
            self._enter_released("", amount)

    def _enter_released(self, allocation_id: str, amount: Decimal) -> None:
        self.ledger.write(
            "allocation_released", allocation_id=allocation_id, amount_glm=f"{amount:f}"
        )
