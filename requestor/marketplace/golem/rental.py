"""Renting on Golem: one yapapi service cluster, kept alive over all rounds.

`GolemMarketplace.rent` starts an engine, keeps N workers up, watches money and daemon, and on the
way out ends every agreement, waits for the bills and releases the allocation.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from ya_payment.exceptions import ApiException
from yapapi import Golem
from yapapi.config import ApiConfig
from yapapi.services import Cluster

from requestor.errors import PreflightError
from requestor.marketplace.golem.bookkeeping import Bookkeeper
from requestor.marketplace.golem.daemon_api import DaemonAddress, DaemonApi, DaemonError
from requestor.marketplace.golem.offer_terms import clean_name
from requestor.marketplace.golem.payload import ProviderImagePayload, build_payload
from requestor.marketplace.golem.strategy import CeilingStrategy
from requestor.marketplace.golem.sweep import Sweep
from requestor.marketplace.golem.worker_service import GolemLease, WorkerService
from requestor.marketplace.history import ProviderHistory
from requestor.marketplace.ledger import Ledger
from requestor.marketplace.ports import LeaseInfo, MarketplaceLost, Terms
from requestor.marketplace.spending import SpendingGuard, marked_allocation_glm

logger = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
USAGE_SECONDS = 0.5
DAEMON_PATIENCE_SECONDS = 3.0
STOP_GRACE_SECONDS = 15.0
FAILURES_UNTIL_BARRED = 2


class GolemMarketplace:
    """A Golem daemon as a marketplace (see `ports.Marketplace`)."""

    def __init__(self, address: DaemonAddress, ledger: Ledger, history: ProviderHistory) -> None:
        """Rent through the daemon at `address`, writing every payment to `ledger`."""
        self._address = address
        self._ledger = ledger
        self._history = history

    @asynccontextmanager
    async def rent(self, terms: Terms, notice: Callable[[str], None]) -> AsyncIterator[GolemPool]:
        """Open a pool; see `ports.Marketplace.rent`."""
        async with DaemonApi(self._address) as api:
            pool = GolemPool(
                self._address, api, self._ledger, self._history, terms=terms, notice=notice
            )
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
        api: DaemonApi,
        ledger: Ledger,
        history: ProviderHistory,
        *,
        terms: Terms,
        notice: Callable[[str], None],
    ) -> None:
        """Prepare a pool; nothing is rented before `open`."""
        self._address = address
        self._api = api
        self._ledger = ledger
        self._history = history
        self._terms = terms
        self._notice = notice
        spent = ledger.summary.total_glm
        self._spending = SpendingGuard(terms.budget_glm, spent_before_glm=spent)
        self._books = Bookkeeper(ledger, self._spending, notice)
        self._ready: asyncio.Queue[GolemLease] = asyncio.Queue()
        self._leases: dict[str, GolemLease] = {}
        self._failures: Counter[str] = Counter()
        self._refusals: dict[str, str] = {}
        self._offers_seen: set[str] = set()
        self._avoided = terms.avoided | history.avoided()
        self._lost: asyncio.Future[None] | None = None
        self._golem: Golem | None = None
        self._cluster: Cluster[WorkerService] | None = None
        self._monitors: list[asyncio.Task[None]] = []
        self._allocation_glm: Decimal | None = None
        self._allocation_id: str | None = None
        self.deploy_timeout_seconds = terms.deploy_timeout_seconds
        self.is_closing = False

    @property
    def spending(self) -> SpendingGuard:
        """What is owed and what may still be spent."""
        return self._spending

    @property
    def market_view(self) -> str:
        """Return one line on what the market offered, for the message that nobody came."""
        text = f"{len(self._offers_seen)} offers seen"
        if self._refusals:
            reasons = Counter(self._refusals.values())
            text += "; refused: " + ", ".join(f"{why} ({n})" for why, n in reasons.most_common(4))
        return text

    async def next_lease(self) -> GolemLease:
        """Wait for the next ready provider; see `ports.ProviderPool.next_lease`."""
        assert self._lost is not None
        lease = asyncio.ensure_future(self._ready.get())
        waiting: set[asyncio.Future[Any]] = {lease, self._lost}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._lost.done():
                self._lost.result()
            return lease.result()
        finally:
            lease.cancel()

    async def lost(self) -> None:
        """Wait until the daemon is lost, then raise `MarketplaceLost`."""
        assert self._lost is not None
        await asyncio.shield(self._lost)

    # --- opening -------------------------------------------------------------------------------

    async def open(self) -> None:
        """Allocate the budget and start the cluster.

        Raises:
            PreflightError: the daemon refuses the allocation or the image can't be resolved.
            MarketplaceLost: the daemon does not answer.
        """
        self._lost = asyncio.get_running_loop().create_future()
        payload = await self._resolve_payload()
        self._allocation_glm = marked_allocation_glm(
            self._terms.budget_glm - self._spending.spent_before_glm, secrets.randbelow(10**6)
        )
        self._ledger.write(
            "allocation_intended",
            amount_glm=f"{self._allocation_glm:f}",
            budget_glm=f"{self._terms.budget_glm:f}",
            node_id=await self._api.identity(),
        )
        self._golem = self._engine(self._allocation_glm)
        await self._start_engine(self._golem)
        expiration = datetime.now(UTC) + timedelta(seconds=self._terms.expiration_seconds)
        self._cluster = await self._golem.run_service(
            WorkerService,
            instance_params=[{"keeper": self} for _ in range(self._terms.providers)],
            payload=payload,
            expiration=expiration,
        )
        self._monitors = [
            asyncio.create_task(self._watch_engine()),
            asyncio.create_task(self._watch_daemon()),
            asyncio.create_task(self._watch_usage()),
        ]

    async def _resolve_payload(self) -> ProviderImagePayload:
        try:
            return await build_payload(self._terms)
        except Exception as error:
            raise PreflightError(
                f"the image {self._terms.image!r} can't be resolved: {error}",
                fix="check golem.image, or give golem.image_url beside the hash",
            ) from error

    def _engine(self, amount_glm: Decimal) -> Golem:
        strategy = CeilingStrategy(
            self._terms.ceilings,
            standing=self._standing,
            acceptable=self._books.acceptable_glm,
            on_bill=self._books.bill_refused,
            on_offer=self._note_offer,
        )
        return Golem(
            budget=amount_glm,
            strategy=strategy,
            subnet_tag=self._terms.subnet,
            payment_driver=self._terms.payment_driver,
            payment_network=self._terms.payment_network,
            event_consumer=self._books.on_event,
            api_config=ApiConfig(
                app_key=self._address.app_key,
                api_url=self._address.url,
                market_url=self._address.market_url,
                payment_url=self._address.payment_url,
                activity_url=self._address.activity_url,
            ),
        )

    async def _start_engine(self, golem: Golem) -> None:
        # yapapi starts gftp in our process group: without this, Ctrl-C would kill it too
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            await golem.start()
        except ApiException as error:
            raise PreflightError(
                f"the daemon refuses an allocation of {self._allocation_glm:f} GLM: "
                f"{_refusal(error)}",
                fix="lower golem.budget_glm or fund the account: `yagna payment fund` (testnets), "
                "`yagna payment status`",
            ) from error
        except (OSError, ValueError, RuntimeError, AttributeError) as error:
            raise MarketplaceLost(f"the engine does not start: {error}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        await self._find_allocation()

    async def _find_allocation(self) -> None:
        for row in await self._api.allocations():
            if Decimal(str(row.get("totalAmount", "NaN"))) == self._allocation_glm:
                self._allocation_id = str(row["allocationId"])
                self._ledger.write(
                    "allocation_created",
                    allocation_id=self._allocation_id,
                    amount_glm=f"{self._allocation_glm:f}",
                    platform=str(row.get("paymentPlatform", "")),
                )
                return
        raise MarketplaceLost("the daemon does not list the allocation that it has just granted")

    # --- what the services tell us (worker_service.LeaseKeeper) --------------------------------

    def open_lease(self, service: WorkerService) -> GolemLease:
        """Make a lease of a service whose worker is ready."""
        agreement_id = service.agreement_id
        account = self._books.account_of(agreement_id)
        info = LeaseInfo(
            id=agreement_id[:12],
            provider_name=clean_name(service.provider_name),
            provider_id=str(service.provider_id),
            agreement_id=agreement_id,
            prices=account.prices,
        )
        lease = GolemLease(info, self._released)
        self._leases[agreement_id] = lease
        self._ready.put_nowait(lease)
        return lease

    def lease_closed(self, lease: GolemLease, reason: str) -> None:
        """Note the end of a lease; unless we are closing, its provider failed us."""
        info = lease.info
        self._leases.pop(info.agreement_id, None)
        if lease.orders_done:
            self._history.succeeded(info.provider_id, info.provider_name, lease.orders_done)
        if not self.is_closing and not lease.was_released:
            self._blame(info.provider_id, info.provider_name, reason)

    def start_failed(self, service: WorkerService, reason: str) -> None:
        """Note that a provider never became ready."""
        if not self.is_closing:
            name = clean_name(service.provider_name)
            self._notice(f"{name}: {reason}")
            self._blame(str(service.provider_id), name, reason)

    def _released(self, lease: GolemLease, reason: str, avoid: bool) -> None:
        if avoid:
            self._blame(lease.info.provider_id, lease.info.provider_name, reason)

    def _blame(self, node_id: str, name: str, reason: str) -> None:
        self._failures[node_id] += 1
        self._history.failed(node_id, name, reason)

    def _standing(self, node_id: str) -> str:
        if self._failures[node_id] >= FAILURES_UNTIL_BARRED:
            return "barred"
        if self._failures[node_id] or node_id in self._avoided:
            return "doubtful"
        return "good"

    def _note_offer(self, node_id: str, refusal: str | None) -> None:
        self._offers_seen.add(node_id)
        if refusal is None:
            self._refusals.pop(node_id, None)
        else:
            self._refusals[node_id] = refusal

    # --- watching ------------------------------------------------------------------------------

    async def _watch_engine(self) -> None:
        """Replace instances whose task died, and notice when yapapi's own loops did.

        yapapi lets a cancelled worker take its instance along, and goes on without offers or
        payments when one of its loops has failed; neither shows in its interface.
        """
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            assert self._cluster is not None and self._golem is not None
            runner: Any = self._cluster.service_runner
            engine: Any = self._golem._engine
            loops = {*engine._services, *getattr(runner, "_ServiceRunner__services", ())}
            dead = [task for task in loops if task.done()]
            if dead:
                self._declare_lost(f"yapapi stopped serving us: {_why(dead[0])}")
                return
            alive = sum(not task.done() for task in runner._instance_tasks)
            if alive < self._terms.providers and not self.is_closing:
                missing = self._terms.providers - alive
                logger.warning("%d service instances died; starting others", missing)
                self._cluster.spawn_instances(instance_params=[{"keeper": self}] * missing)

    async def _watch_daemon(self) -> None:
        unreachable_since: float | None = None
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                await self._api.version()
                unreachable_since = None
            except DaemonError as error:
                now = time.monotonic()
                unreachable_since = unreachable_since or now
                if now - unreachable_since >= DAEMON_PATIENCE_SECONDS:
                    self._declare_lost(f"the daemon is gone: {error}")
                    return

    async def _watch_usage(self) -> None:
        while True:
            await asyncio.sleep(max(USAGE_SECONDS, len(self._leases) / 16))
            for agreement_id, activity_id in self._books.live_activities():
                try:
                    usage = await self._api.usage(activity_id)
                except DaemonError as error:
                    logger.debug("no usage of %s: %s", activity_id, error)
                else:
                    self._books.usage_reported(agreement_id, usage)

    def _declare_lost(self, reason: str) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_exception(MarketplaceLost(reason))
            self._lost.exception()

    # --- closing -------------------------------------------------------------------------------

    async def close(self) -> None:
        """End everything: agreements, bills, allocation. Never raises for the daemon's sake."""
        self.is_closing = True
        for monitor in self._monitors:
            monitor.cancel()
        for lease in list(self._leases.values()):
            lease.release("the run is over", avoid=False)
        if self._cluster is not None:
            await self._guard("stop the workers", self._terminate_cluster(self._cluster))
        if self._golem is not None:
            await self._await_bills()
            await self._guard("stop the engine", self._stop_engine(self._golem))
        rest = Sweep(self._api, self._ledger, self._terms.run_id, self._notice)
        await self._guard("settle the rest", rest.run(wait_seconds=0.0))

    async def _terminate_cluster(self, cluster: Any) -> None:
        await cluster.terminate()

    async def _stop_engine(self, golem: Golem) -> None:
        # without payments to wait for, yapapi forgets to end this loop and waits 10 s for it
        invoices = golem._engine._process_invoices_job
        if invoices is not None:
            invoices.cancel()
        await golem.stop(wait_for_payments=False)

    async def _await_bills(self) -> None:
        """Wait for invoices; a provider that died may never send one.

        (yapapi would wait 30 s for it in silence.)
        """
        started = time.monotonic()
        told = False
        while self._books.unpaid() and self._is_daemon_here():
            waited = time.monotonic() - started
            if waited >= self._terms.invoice_timeout_seconds:
                names = ", ".join(sorted(self._books.unpaid()))
                self._notice(f"no invoice from {names}; what they are owed stays unpaid")
                return
            if waited > 2 and not told:
                told = True
                self._notice(f"waiting for invoices of {len(self._books.unpaid())} agreements")
            await asyncio.sleep(0.05)

    def _is_daemon_here(self) -> bool:
        return self._lost is None or not self._lost.done()

    async def _guard(self, what: str, step: Any) -> None:
        try:
            async with asyncio.timeout(STOP_GRACE_SECONDS):
                await step
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:
            logger.warning("could not %s: %s", what, error, exc_info=True)
            with contextlib.suppress(Exception):
                self._notice(f"could not {what}: {error}; `derl-request resume` will clean up")


def _refusal(error: ApiException) -> str:
    """Return what the daemon said, which is JSON with a `detail` if it is yagna."""
    body = str(getattr(error, "body", None) or error)
    try:
        answer = json.loads(body)
        return str(answer["detail"])[:300]
    except (ValueError, KeyError, TypeError):
        return body[:300]


def _why(task: asyncio.Task[Any]) -> str:
    if task.cancelled():
        return "a loop was cancelled"
    error = task.exception()
    return "a loop ended" if error is None else f"{type(error).__name__}: {error}"
