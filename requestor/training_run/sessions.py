"""One session: providers are rented, do rounds, and are given back.

Agreements cost while a model is judged. After the last round, and when the budget would not last,
they are ended first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from requestor.errors import BudgetReached
from requestor.marketplace.ports import Marketplace, ProviderPool
from requestor.training_run import events
from requestor.training_run.auditing.run_audits import RunAudits
from requestor.training_run.deciding import Decider
from requestor.training_run.dispatching.dispatcher import Dispatcher
from requestor.training_run.dispatching.limits import STOP_MARGIN_SECONDS
from requestor.training_run.progress import Progress
from requestor.training_run.round_making import RoundMaker
from requestor.training_run.settings import RunSettings
from requestor.training_run.spending_reports import SpendingReporter

EXPIRY_SHARE = 0.2
"""No round begins in this last part of the agreements' time; new ones are made instead."""

MONEY_WATCH_SECONDS = 0.5


@dataclass(frozen=True)
class Sessions:
    """Rents, session by session; `staff` gives a pool its dispatcher."""

    settings: RunSettings
    marketplace: Marketplace
    staff: Callable[[ProviderPool], Dispatcher]
    maker: RoundMaker
    decider: Decider
    audits: RunAudits
    progress: Progress
    emit: Callable[[events.Event], None]
    clock: Callable[[], float]
    stop_requested: asyncio.Event

    async def hold(self) -> None:
        """Rent and do rounds until the run is done or the agreements are about to expire.

        Raises:
            BudgetReached: the money does not carry another round.
            MarketplaceLost: the daemon is gone.
            DerlError: a round cannot be done, or the run is to stop.
        """
        terms = self.settings.terms
        self.emit(events.RentingStarted(terms.providers, terms.subnet, terms.payment_network))
        decision: asyncio.Task[None] | None = None
        is_affordable = True
        try:
            async with self.marketplace.rent(terms, self._notice) as pool:
                spending = SpendingReporter(pool, self.emit)
                reporter = asyncio.create_task(spending.run())
                try:
                    async with self.staff(pool) as dispatcher:
                        while self._may_begin(pool):
                            self._go_back_if_due()
                            closed = await self.maker.make(
                                self.progress.checkpoint, dispatcher, spending
                            )
                            decision = asyncio.create_task(self.decider.decide(closed))
                            if closed.candidate.round == self.settings.federation.rounds:
                                break
                            is_affordable = await self._lasts(pool, decision)
                            if not decision.done():
                                break
                            decision.result()
                        await self.audits.drain_bought()
                    await self.audits.drain()  # before bills are settled
                finally:
                    reporter.cancel()
            if decision is not None:
                await decision
            self._go_back_if_due()
        finally:
            if decision is not None:
                decision.cancel()
                await asyncio.gather(decision, return_exceptions=True)
        if not is_affordable and not self.progress.is_done:
            raise BudgetReached(
                f"the budget of {terms.budget_glm:f} GLM does not carry another round",
                fix="`derl-request resume golem.budget_glm=…` goes on with a larger budget",
            )

    def _may_begin(self, pool: ProviderPool) -> bool:
        expiry_seconds = EXPIRY_SHARE * self.settings.terms.expiration_seconds
        return not self.progress.is_done and pool.seconds_left > expiry_seconds

    def _go_back_if_due(self) -> None:
        records = self.audits.records
        if records.is_to_go_back:
            self.progress.go_back(records.go_back())

    async def _lasts(self, pool: ProviderPool, decision: asyncio.Task[None]) -> bool:
        """Wait for a decision; False if the budget, and with it the wait, ends before it is made.

        A request to stop ends the wait too.
        """
        while not decision.done() and not self.stop_requested.is_set():
            if pool.spending.may_spend_seconds(self.clock()) < STOP_MARGIN_SECONDS:
                return False
            await asyncio.wait({decision}, timeout=MONEY_WATCH_SECONDS)
        return True

    def _notice(self, text: str) -> None:
        self.emit(events.Notice(text))
