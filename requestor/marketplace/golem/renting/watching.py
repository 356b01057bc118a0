"""What is watched while a session with the daemon lasts: yapapi's own loops, time, usage.

None of this shows in yapapi's interface: it goes on without offers or payments when one of its
loops has failed, and does not begin again with an instance that was cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Protocol

from yapapi import Golem
from yapapi.services import Cluster

from requestor.marketplace.golem.daemon.api import DaemonApi, DaemonError
from requestor.marketplace.golem.daemon.failure_words import describe_failure
from requestor.marketplace.golem.paying.bookkeeping import Bookkeeper
from requestor.marketplace.golem.renting.worker_service import WorkerService
from requestor.marketplace.money.spending import SpendingGuard

logger = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
SETTLED_LOOKS = 3
"""A market that had nobody else so many times in a row is taken to have nobody else."""

CEILING_SECONDS = 0.5
CEILING_MARGIN_SECONDS = 2.0
"""An agreement takes so long to end."""

USAGE_SECONDS = 0.5
USAGE_CALLS_PER_SECOND = 16

USED_SHARE = 0.98
"""How much of the agreed time is used."""


async def watch_time(seconds: float, declare_lost: Callable[[str], None]) -> None:
    """Call it a day shortly before all agreements expire: yapapi finds no new ones then."""
    await asyncio.sleep(USED_SHARE * seconds)
    declare_lost(f"the time agreed upon is over after {seconds / 60:.0f} minutes")


async def watch_usage(api: DaemonApi, books: Bookkeeper) -> None:
    """Keep the books' knowledge of usage fresh, at a bounded number of calls a second."""
    while True:
        activities = list(books.live_activities())
        await asyncio.sleep(max(USAGE_SECONDS, len(activities) / USAGE_CALLS_PER_SECOND))
        for agreement_id, activity_id in activities:
            try:
                async with asyncio.timeout(USAGE_SECONDS):
                    usage = await api.usage(activity_id)
            except (DaemonError, TimeoutError) as error:
                logger.debug("no usage of %s: %s", activity_id, error)
            else:
                books.usage_reported(agreement_id, usage)


class Scarce(Protocol):
    """A pool, as far as it is known whether it will have as many providers as were asked for."""

    @property
    def at_work(self) -> int:
        """How many leases there are."""
        ...

    @property
    def awaits_more(self) -> bool:
        """True while somebody else may come."""
        ...

    @property
    def market_view(self) -> str:
        """One line on what the market offered."""
        ...


async def watch_market(pool: Scarce, wanted: int, notice: Callable[[str], None]) -> None:
    """Say once if the market has fewer providers than are wanted."""
    settled = 0
    while settled < SETTLED_LOOKS:
        await asyncio.sleep(WATCH_SECONDS)
        settled = settled + 1 if pool.at_work and not pool.awaits_more else 0
    if (here := pool.at_work) < wanted:
        notice(
            f"the market has {here} of the {wanted} providers that golem.providers asks for "
            f"({pool.market_view}); the run goes on with {here}, and takes who comes later"
        )


async def watch_ceiling(
    spending: SpendingGuard, ceiling_glm: Decimal, end: Callable[[str], None]
) -> None:
    """Have agreements ended before they can have cost more than `ceiling_glm`."""
    while True:
        await asyncio.sleep(CEILING_SECONDS)
        now = time.monotonic()
        for agreement_id, account in list(spending.accounts.items()):
            soon = account.bound_glm(now + CEILING_SECONDS, CEILING_MARGIN_SECONDS)
            if account.ended_seconds is None and soon > ceiling_glm:
                end(agreement_id)


async def watch_engine(
    golem: Golem,
    cluster: Cluster[WorkerService],
    spawn: Callable[[int], None],
    declare_lost: Callable[[str], None],
    instances: int,
) -> None:
    """Notice when one of yapapi's loops died; keep so many instances at work with `spawn`."""
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        dead = [task for task in _loops(golem, cluster) if task.done()]
        if dead:
            declare_lost(f"yapapi stopped serving us: {_why(dead[0])}")
            return
        if _gftp_ended(golem):
            declare_lost("gftp has ended: no files travel to and from providers any more")
            return
        runner: Any = cluster.service_runner
        missing = instances - sum(not task.done() for task in runner._instance_tasks)
        if missing > 0:
            read_failures(cluster)
            logger.warning("%d service instances have ended; starting others", missing)
            spawn(missing)


def read_failures(cluster: Cluster[WorkerService]) -> None:
    """Log why instances ended; errors nobody has read would be printed on the terminal."""
    runner: Any = cluster.service_runner
    for task in runner._instance_tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            logger.debug("an instance ended: %s", describe_failure(error))


def _loops(golem: Golem, cluster: Cluster[WorkerService]) -> set[asyncio.Task[Any]]:
    engine: Any = golem._engine
    runner: Any = cluster.service_runner
    return {*engine._services, *getattr(runner, "_ServiceRunner__services", ())}


def _gftp_ended(golem: Golem) -> bool:
    engine: Any = golem._engine
    process: Any = engine._storage_manager._process._proc
    return process is None or process.returncode is not None


def _why(task: asyncio.Task[Any]) -> str:
    if task.cancelled():
        return "a loop was cancelled"
    error = task.exception()
    return "a loop ended" if error is None else describe_failure(error)
