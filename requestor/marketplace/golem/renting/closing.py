"""The end of a session with the daemon: workers, bills, allocation, in this order.

Nothing here gives up on the rest because one step failed, and every step has its time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from yapapi import Golem
from yapapi.services import Cluster

from requestor.marketplace.choice.history import Suspicions
from requestor.marketplace.golem.daemon.api import DaemonApi, DaemonError
from requestor.marketplace.golem.daemon.failure_words import describe_failure
from requestor.marketplace.golem.daemon.presence import wait_present
from requestor.marketplace.golem.paying.bookkeeping import Bookkeeper
from requestor.marketplace.golem.paying.sweep import Sweep
from requestor.marketplace.golem.renting.engine import stop_engine, stop_paying, within
from requestor.marketplace.golem.renting.watching import read_failures
from requestor.marketplace.golem.renting.worker_service import WorkerService
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.ports import Terms

logger = logging.getLogger(__name__)

STOP_GRACE_SECONDS = 15.0
LOST_GRACE_SECONDS = 4.0


@dataclass
class Closing:
    """Ends what a pool has begun; `golem` and `cluster` are None if it never came that far."""

    api: DaemonApi
    ledger: Ledger
    books: Bookkeeper
    terms: Terms
    golem: Golem | None
    cluster: Cluster[WorkerService] | None
    notice: Callable[[str], None]
    told: set[tuple[str, str]]
    suspicions: Suspicions
    away_seconds: Callable[[], float]

    async def run(self, *, is_lost: bool) -> None:
        """Do everything that can be done.

        `is_lost` says that yapapi's engine has failed, so that it waits for no bills any more.
        """
        if self.cluster is not None:
            grace = LOST_GRACE_SECONDS if is_lost else STOP_GRACE_SECONDS
            await self._guard("stop the workers", self._terminate_cluster(self.cluster), grace)
        trouble = await self._trouble_with_daemon()
        self.suspicions.close(was_daemon_lost=is_lost or trouble is not None)
        if trouble is not None:
            self.notice(f"{trouble}; `derl-request resume` will clean up")
            await self._abandon_engine()
        elif self.golem is not None and not is_lost:
            await self._await_bills()
            await self._pay_what_is_owed(self.golem)
            await self._guard("stop the engine", stop_engine(self.golem), STOP_GRACE_SECONDS)
            await self._settle(0.0)
        else:
            # the engine has failed: bills are waited for here, before the allocation goes
            await self._settle(self.terms.invoice_timeout_seconds)
            await self._abandon_engine()

    async def run_again(self) -> None:
        """Do what the daemon's absence kept from being done; nothing is left of the engine."""
        await self._settle(self.terms.invoice_timeout_seconds)

    async def _pay_what_is_owed(self, golem: Golem) -> None:
        """Pay, while the allocation is open, what yapapi could not and what came too late."""
        wait_seconds = self.terms.invoice_timeout_seconds if self.books.put_off else 0.0
        patience = STOP_GRACE_SECONDS + wait_seconds
        await self._guard("stop paying", stop_paying(golem), LOST_GRACE_SECONDS)
        payment = self._sweep().pay(self.books.put_off, wait_seconds)
        await self._guard("pay what is owed", payment, patience)

    async def _settle(self, wait_seconds: float) -> None:
        patience = STOP_GRACE_SECONDS + wait_seconds
        await self._guard("settle the rest", self._sweep().run(wait_seconds), patience)

    def _sweep(self) -> Sweep:
        return Sweep(
            self.api,
            self.ledger,
            self.terms.run_id,
            self.notice,
            budget_glm=self.terms.budget_glm,
            told=self.told,
        )

    async def _abandon_engine(self) -> None:
        if self.golem is not None:
            try:
                await within(LOST_GRACE_SECONDS, stop_engine(self.golem))
            except Exception:
                logger.info("the engine did not stop in good order", exc_info=True)

    async def _trouble_with_daemon(self) -> str | None:
        try:
            await wait_present(self.api.identity(), LOST_GRACE_SECONDS, self.away_seconds)
        except TimeoutError:
            return "the daemon does not answer"
        except DaemonError as error:
            return f"the daemon is out of reach: {error}"
        return None

    async def _terminate_cluster(self, cluster: Any) -> None:
        try:
            await cluster.terminate()
        finally:
            read_failures(cluster)

    async def _await_bills(self) -> None:
        """Wait for invoices; a provider that died may never send one.

        (yapapi would wait 30 s for it in silence.)
        """
        started = time.monotonic() - self.away_seconds()
        told = False
        while self.books.unpaid():
            waited = time.monotonic() - self.away_seconds() - started
            if waited >= self.terms.invoice_timeout_seconds:
                names = ", ".join(sorted(self.books.unpaid()))
                self.notice(f"no invoice from {names}; what they are owed stays unpaid")
                return
            if waited > 2 and not told:
                told = True
                count = len(self.books.unpaid())
                self.notice(f"waiting for {count} invoice{'s' if count > 1 else ''}")
            await asyncio.sleep(0.05)

    async def _guard(self, what: str, step: Awaitable[Any], seconds: float) -> None:
        try:
            await within(seconds, step, self.away_seconds)
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:
            logger.warning("could not %s: %s", what, error, exc_info=True)
            reason = "no answer in time"
            if not isinstance(error, TimeoutError):
                reason = str(error) if isinstance(error, DaemonError) else describe_failure(error)
            with contextlib.suppress(Exception):
                self.notice(f"could not {what}: {reason}; `derl-request resume` will clean up")
