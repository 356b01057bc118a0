"""Renting on Golem: one yapapi service cluster, kept alive over all rounds.

`GolemMarketplace.rent` starts an engine, keeps N workers up, watches money and daemon, and on the
way out ends every agreement, waits for the bills and releases the allocation.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from yapapi import Golem, events
from yapapi.services import Cluster

from requestor.errors import BudgetReached, PreflightError
from requestor.marketplace.choice.history import ProviderHistory, Who
from requestor.marketplace.choice.selection import Offered, Selection
from requestor.marketplace.golem.daemon.api import DaemonAddress, DaemonApi, DaemonError
from requestor.marketplace.golem.daemon.patient_calls import PatientDaemonApi
from requestor.marketplace.golem.daemon.presence import DaemonGone, DaemonPresence
from requestor.marketplace.golem.paying.bookkeeping import Bookkeeper
from requestor.marketplace.golem.renting.best_offer import OfferDesk
from requestor.marketplace.golem.renting.closing import Closing
from requestor.marketplace.golem.renting.engine import make_engine, start_engine
from requestor.marketplace.golem.renting.lease import GolemLease
from requestor.marketplace.golem.renting.payload import ProviderImagePayload, build_payload
from requestor.marketplace.golem.renting.provider_records import ProviderRecords
from requestor.marketplace.golem.renting.reconnection import Crew, Reconnection
from requestor.marketplace.golem.renting.roster import LeaseRoster
from requestor.marketplace.golem.renting.strategy import CeilingStrategy
from requestor.marketplace.golem.renting.watching import (
    watch_ceiling,
    watch_engine,
    watch_market,
    watch_time,
    watch_usage,
)
from requestor.marketplace.golem.renting.worker_service import WorkerService
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.money.spending import SpendingGuard, marked_allocation_glm
from requestor.marketplace.ports import MarketplaceGone, MarketplaceLost, Terms
from requestor.marketplace.untrusted import printable

logger = logging.getLogger(__name__)

MIN_ALLOCATION_GLM = Decimal("1e-9")
"""Less than this buys nothing; an allocation's mark takes up to a thousandth of it."""

MAX_CLOSINGS = 3


class GolemMarketplace:
    """A Golem daemon as a marketplace (see `ports.Marketplace`)."""

    def __init__(self, address: DaemonAddress, ledger: Ledger, history: ProviderHistory) -> None:
        """Rent through the daemon at `address`, writing every payment to `ledger`."""
        self._address = address
        self._ledger = ledger
        self._history = history
        self._pool: GolemPool | None = None

    @property
    def offers(self) -> tuple[Offered, ...]:
        """What could be rented, as far as the last session has seen."""
        return () if self._pool is None else self._pool.offers

    def convict(self, who: Who, reason: str, *, refuse_bills: bool) -> None:
        """Ban a node and end its leases; see `ports.Sanctions`."""
        self._history.failed(who, "faked_work", reason)
        refused: list[str] = []
        if refuse_bills:
            refused = self._ledger.refuse_work(who.node_id, reason)
        if self._pool is not None:
            self._pool.convict(who, reason, refused)

    @asynccontextmanager
    async def rent(self, terms: Terms, notice: Callable[[str], None]) -> AsyncIterator[GolemPool]:
        """Open a pool; see `ports.Marketplace.rent`."""
        async with DaemonApi(self._address) as prober:
            pool = GolemPool(
                self._address, prober, self._ledger, self._history, terms=terms, notice=notice
            )
            self._pool = pool
            async with pool.reconnection, pool.api:
                try:
                    await pool.open()
                    yield pool
                finally:
                    await pool.close()


class GolemPool:
    """The leases of one session with the daemon (see `ports.ProviderPool`)."""

    def __init__(
        self,
        address: DaemonAddress,
        prober: DaemonApi,
        ledger: Ledger,
        history: ProviderHistory,
        *,
        terms: Terms,
        notice: Callable[[str], None],
    ) -> None:
        """Prepare a pool; nothing is rented before `open`."""
        self._address = address
        self._ledger = ledger
        self._terms = terms
        self._tell = notice
        self._spending = SpendingGuard(
            terms.budget_glm,
            spent_before_glm=ledger.summary.total_glm,
            owed_before_glm=ledger.summary.owed_glm(time.time()),
            spent_before_by_provider=ledger.summary.accepted_by_provider,
        )
        self._books = Bookkeeper(ledger, self._spending, self._notice)
        self.reconnection = Reconnection(
            prober,
            Crew(self._books.live_activities, self._books.name_of, self._part_with),
            terms.daemon_patience_seconds,
            notice=self._notice,
            declare_gone=self._declare_gone,
        )
        self.api = PatientDaemonApi(address, self.presence)
        self._selection = Selection(
            terms.preferences, terms.ceilings, history, time.monotonic, avoided=terms.avoided
        )
        self._records = ProviderRecords(self._selection, history, self._books, time.monotonic)
        self._desk = OfferDesk(
            self._selection, self._books, self._spending, terms.payment_platform, self._lose
        )
        self._roster = LeaseRoster(
            self._books,
            self._records,
            self.api,
            self.presence,
            end_agreement=self._desk.end,
            deploy_timeout_seconds=terms.deploy_timeout_seconds,
            notice=self._notice,
            learner=terms.learner,
        )
        self._lost: asyncio.Future[None] | None = None
        self._golem: Golem | None = None
        self._cluster: Cluster[WorkerService] | None = None
        self._monitors: list[asyncio.Task[None]] = []
        self._allocation_glm: Decimal | None = None
        self._told = {
            (terms.run_id, str(node)) for node in ledger.summary.open_payers()
        }  # whoever cleans up before a session has told of them
        self._expires_seconds = float("inf")

    @property
    def spending(self) -> SpendingGuard:
        """What is owed and what may still be spent."""
        return self._spending

    @property
    def presence(self) -> DaemonPresence:
        """Whether the daemon is there."""
        return self.reconnection.presence

    @property
    def seconds_left(self) -> float:
        """How long its agreements still run."""
        return self._expires_seconds - time.monotonic()

    @property
    def awaits_more(self) -> bool:
        """True while somebody else may come; see `ports.ProviderPool`."""
        rented = self._selection.rented
        is_preparing = any(one not in self._roster for one in rented)
        return is_preparing or (len(rented) < self._terms.providers and self._desk.may_agree())

    @property
    def market_view(self) -> str:
        """Return one line on what the market offered, for the message that nobody came."""
        return self._selection.view

    @property
    def at_work(self) -> int:
        """How many leases there are."""
        return len(list(self._roster))

    @property
    def offers(self) -> tuple[Offered, ...]:
        """The last offer of every provider that may be rented."""
        return tuple(self._selection.offers.values())

    def review(self) -> None:
        """Give up providers for which clearly better ones are there; see `ports.ProviderPool`."""
        offers = self._desk.in_hand()
        for agreement_id, lease in self._roster:
            better = self._selection.replaced_by(agreement_id, offers.values())
            if better is not None:
                self._notice(
                    f"{lease.info.provider_name} makes way for {better}: more steps for a GLM"
                )
                lease.release(f"{better} does more steps for a GLM", avoid=False)
                return

    def convict(self, who: Who, reason: str, refused: Sequence[str]) -> None:
        """Rent a node no more, end its leases, and accept no bills of the agreements `refused`."""
        self._records.convicted(who)
        for agreement_id in refused:
            self._books.bills.refuse_work(agreement_id)
        for _, lease in self._roster:
            if lease.info.provider_id == who.node_id:
                lease.release(reason, avoid=False, failure="faked_work")

    async def next_lease(self) -> GolemLease:
        """Wait for the next ready provider; see `ports.ProviderPool.next_lease`."""
        assert self._lost is not None
        lease = asyncio.ensure_future(self._roster.ready.get())
        waiting: set[asyncio.Future[Any]] = {lease, self._lost}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._lost.done():
                self._lost.result()
            return lease.result()
        finally:
            lease.cancel()

    # --- opening -------------------------------------------------------------------------------

    async def open(self) -> None:
        """Allocate the budget and start the cluster.

        Raises:
            PreflightError: the daemon refuses the allocation or the image can't be resolved.
            MarketplaceLost: the daemon does not answer.
        """
        self._lost = asyncio.get_running_loop().create_future()
        try:
            await self._open()
        except DaemonError as error:
            raise MarketplaceLost(str(error)) from error

    async def _open(self) -> None:
        left = self._terms.budget_glm - self._spending.spent_before_glm
        if left <= MIN_ALLOCATION_GLM:
            raise BudgetReached(
                f"the budget of {self._terms.budget_glm:f} GLM is spent",
                fix="`derl-request resume golem.budget_glm=…` goes on with a larger budget",
            )
        payload = await self._resolve_payload()
        self._allocation_glm = marked_allocation_glm(left, secrets.randbelow(10**6))
        self._ledger.write(
            "allocation_intended",
            amount_glm=f"{self._allocation_glm:f}",
            budget_glm=f"{self._terms.budget_glm:f}",
            node_id=await self.api.identity(),
        )
        self._golem = self._engine(self._allocation_glm)
        await start_engine(self._golem, self._allocation_glm)
        await self._find_allocation()
        expiration = datetime.now(UTC) + timedelta(seconds=self._terms.expiration_seconds)
        self._expires_seconds = time.monotonic() + self._terms.expiration_seconds
        self._cluster = await self._golem.run_service(
            WorkerService,
            instance_params=[{"keeper": self._roster} for _ in range(self._terms.providers)],
            payload=payload,
            expiration=expiration,
        )
        self._desk.take_over(self._cluster)
        self._start_monitors(self._golem, self._cluster)

    async def _resolve_payload(self) -> ProviderImagePayload:
        try:
            return await build_payload(self._terms)
        except Exception as error:
            said = printable(str(error), 400) or type(error).__name__
            where = self._terms.image_url or f"the registry {self._terms.registry_url}"
            raise PreflightError(
                f"the image {self._terms.image!r} can't be resolved: {where} says: {said}",
                fix="build it (`derl-image build`) and push it (`derl-image push`), check "
                "golem.image and golem.registry_url, or give golem.image_url beside the hash",
            ) from error

    def _engine(self, amount_glm: Decimal) -> Golem:
        strategy = CeilingStrategy(
            self._selection,
            self._terms.payment_platform,
            self._books.bills,
            self._terms.payment_interval_seconds,
        )
        return make_engine(
            self._address, self._terms, amount_glm, strategy, self._on_event, self.presence
        )

    async def _find_allocation(self) -> None:
        for row in await self.api.allocations():
            if Decimal(str(row.get("totalAmount", "NaN"))) == self._allocation_glm:
                self._ledger.write(
                    "allocation_created",
                    allocation_id=str(row["allocationId"]),
                    amount_glm=f"{self._allocation_glm:f}",
                    platform=str(row.get("paymentPlatform", "")),
                )
                return
        raise MarketplaceLost("the daemon does not list the allocation that it has just granted")

    def _notice(self, text: str) -> None:
        """Tell the person at the terminal; while closing, paying comes before telling."""
        try:
            self._tell(text)
        except Exception:
            if not self._roster.is_closing:
                raise
            logger.warning("could not tell: %s", text, exc_info=True)

    def _part_with(self, agreement_id: str, reason: str) -> None:
        self._roster.part(agreement_id, reason)

    # --- watching ------------------------------------------------------------------------------

    def _start_monitors(self, golem: Golem, cluster: Cluster[WorkerService]) -> None:
        def spawn(count: int) -> None:
            if not self._roster.is_closing:
                cluster.spawn_instances(instance_params=[{"keeper": self._roster}] * count)

        instances = self._terms.providers
        self._monitors = [
            asyncio.create_task(watch_engine(golem, cluster, spawn, self._declare_lost, instances)),
            asyncio.create_task(watch_time(self._terms.expiration_seconds, self._declare_lost)),
            asyncio.create_task(watch_usage(self.api, self._books)),
            asyncio.create_task(watch_market(self, instances, self._notice)),
        ]
        ceiling_glm = self._terms.preferences.agreement_ceiling_glm
        if ceiling_glm is not None:
            watch = watch_ceiling(self._spending, ceiling_glm, self._roster.at_ceiling)
            self._monitors.append(asyncio.create_task(watch))

    def _on_event(self, event: events.Event) -> None:
        self._books.on_event(event)
        if isinstance(event, events.AgreementTerminated):
            self._selection.ended(event.agreement.id)
            self._roster.terminated(event.agreement.id, event.reason)
        elif isinstance(event, events.AgreementRejected):
            self._selection.declined(str(event.agreement.details.raw_details.offer.provider_id))
        elif isinstance(event, events.ActivityCreateFailed):
            self._activity_failed(event.agreement)

    def _activity_failed(self, agreement: Any) -> None:
        if not self._roster.is_closing:
            self._roster.suspect(agreement.id, "no_activity", "the activity could not be created")
            self._desk.end(agreement.id)

    def _declare_lost(self, reason: str) -> None:
        self._lose(MarketplaceLost(reason))

    def _declare_gone(self, reason: str) -> None:
        self._lose(MarketplaceGone(reason))

    def _lose(self, error: MarketplaceLost | BudgetReached) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_exception(error)
            self._lost.exception()

    # --- closing -------------------------------------------------------------------------------

    async def close(self) -> None:
        """End everything: agreements, bills, allocation. Never raises for the daemon's sake."""
        self._roster.close()
        for monitor in self._monitors:
            monitor.cancel()
        self._desk.close()
        if self.presence.is_unsettled:
            await self._until_present()
        closing = Closing(
            api=self.api,
            ledger=self._ledger,
            books=self._books,
            terms=self._terms,
            golem=self._golem,
            cluster=self._cluster,
            notice=self._notice,
            told=self._told,
            suspicions=self._records.suspicions,
            away_seconds=lambda: self.presence.away_seconds,
        )
        await closing.run(is_lost=self._lost is not None and self._lost.done())
        self._records.note_bills(self._ledger.summary.refused)
        for _ in range(MAX_CLOSINGS):
            # the daemon was away meanwhile, and something could not be ended
            if not (self._ledger.summary.is_open and self.presence.is_unsettled):
                return
            if not await self._until_present():
                return
            await closing.run_again()

    async def _until_present(self) -> bool:
        """Wait for the daemon; False if it stays away."""
        try:
            await self.presence.until_present()
        except DaemonGone:
            return False
        return True
