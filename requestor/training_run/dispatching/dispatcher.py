"""Gets one round's work items done by whichever leases there are.

Every lease has a driver task (`driver.py`): it pulls items from the round's queue, has them
executed, screens what comes back and pulls again. Drivers live as long as their leases, queues as
long as a round. When all is in, the reviewers look at it; what they object to is taken out and done
again. What none of those at work may do is done by this machine (`last_resort.py`).

Read next: `open_round.py`, then `driver.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from requestor.errors import Interrupted
from requestor.federation.rounds import RoundPlan
from requestor.marketplace.choice.failures import FailureKind
from requestor.marketplace.ports import Lease, LeaseLost, ProviderPool
from requestor.scheduling.work_queue import WorkQueue
from requestor.training_run import events
from requestor.training_run.dispatching.bell import Bell
from requestor.training_run.dispatching.crew import Crew
from requestor.training_run.dispatching.driver import Driver
from requestor.training_run.dispatching.errands import ErrandRunner, Errands
from requestor.training_run.dispatching.event_sink import EventSink
from requestor.training_run.dispatching.item_runner import ItemRunner
from requestor.training_run.dispatching.last_resort import LastResort
from requestor.training_run.dispatching.limits import (
    check_money,
    no_provider_came,
    nobody_may_go_on,
    quorum_missed,
)
from requestor.training_run.dispatching.open_round import OpenRound, OrderDesk
from requestor.training_run.dispatching.panel import Panel
from requestor.training_run.dispatching.reviewing import Reviewer
from requestor.training_run.dispatching.work_board import WorkBoard
from requestor.training_run.orders.deliveries import Harvest

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class DispatchOptions:
    """The parts of the config that steer dispatching.

    `holds_quorum`: rejected items that cannot be done again count towards the quorum as any that
    are missing; else as many as the plan says may be bad are done without.
    """

    max_attempts: int
    speculate: bool
    round_deadline_seconds: float
    startup_timeout_seconds: float
    holds_quorum: bool = False


class Dispatcher:
    """Runs rounds over the leases of a pool; use `async with`."""

    def __init__(
        self,
        pool: ProviderPool,
        options: DispatchOptions,
        *,
        emit: Callable[[events.Event], None],
        clock: Callable[[], float],
        stop_requested: asyncio.Event,
        reviewers: Sequence[Reviewer] = (),
        greet: Callable[[Lease], Awaitable[None]] | None = None,
        own_machine: Lease | None = None,
        errands: Errands | None = None,
    ) -> None:
        """Use the leases of `pool`; `clock` is monotone, in seconds. `reviewers` look in turn.

        Every lease is given to `greet` before its first order. `own_machine` does what none of
        those at work may do; without it that waits. `errands` are done beside the items.
        """
        errands = errands or Errands()
        self._pool = pool
        self._options = options
        self._clock = clock
        self._greet = greet
        self._errands = errands
        self._bell = Bell(stop_requested)
        self._sink = EventSink(emit, self._bell.ring)
        self._crew = Crew()
        self._panel = Panel(reviewers, self._crew, self._sink.emit)
        self._board = WorkBoard(pool, self._crew, self._bell, clock)
        attempts = itertools.count(1)
        items = ItemRunner(self._panel, self._sink, self._bell, clock, attempts)
        self._driver = Driver(
            self._crew,
            self._board,
            items,
            ErrandRunner(errands, self._sink.emit, clock, attempts),
            self._bell,
            clock,
        )
        self._last_resort = LastResort(
            own_machine,
            self._crew,
            items,
            sink=self._sink,
            bell=self._bell,
            clock=clock,
            startup_timeout_seconds=options.startup_timeout_seconds,
        )
        self._recruiter: asyncio.Task[None] | None = None
        self._no_lease_since = clock()

    async def __aenter__(self) -> Dispatcher:
        """Start to take leases."""
        self._no_lease_since = self._clock()
        self._recruiter = asyncio.create_task(self._recruit())
        self._errands.open(lambda: self._board.hands, self._bell.ring)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop all drivers; orders in flight are given up."""
        self._errands.close()
        tasks = [*self._crew.drivers, *([self._recruiter] if self._recruiter else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._last_resort.end()

    def dismiss(self, voice: str, reason: str, failure: FailureKind) -> None:
        """Let go of all leases of a voice; what they have in hand goes to others."""
        self._crew.dismiss(lambda info: info.voice == voice, reason, failure)
        self._bell.ring()

    async def run_round(self, plan: RoundPlan, desk: OrderDesk) -> Harvest:
        """Have the round's items done through `desk`, and reviewed; return what came in.

        That is at least the quorum, less what could not be done without being rejected, as far as
        that is tolerated.

        Raises:
            BudgetReached: the next order could cost more than is left.
            RunFailed: the quorum cannot be met, or no provider came.
            MarketplaceLost: the daemon is gone.
            Interrupted: the run is to stop.
        """
        state = self._open_round(plan, desk)
        try:
            await self._collect(state)
            while await self._panel.review(state, self._check_review):
                self._bell.ring()
                await self._collect(state)
        finally:
            self._board.take_down(state)
            await self._last_resort.end()
        if len(state.deliveries) < state.needed:
            raise quorum_missed(state)
        return state.harvest

    def _open_round(self, plan: RoundPlan, desk: OrderDesk) -> OpenRound:
        salvaged = {item: delivery for item in plan.items if (delivery := desk.salvage(item))}
        options, voices = self._options, plan.voices
        queue = WorkQueue(
            plan.items,
            max_attempts=options.max_attempts,
            speculate=options.speculate,
            typical_seconds=self._board.typical_seconds,
            most_items=voices.most_items if voices.faulty_voices else None,
            done={item: delivery.update.voice for item, delivery in salvaged.items()},
        )
        tolerated = 0 if options.holds_quorum else voices.faulty_items
        state = OpenRound(
            plan,
            desk,
            queue,
            dict(salvaged),
            tolerated=tolerated,
            has_resort=self._last_resort.is_there,
        )
        state.recall_rejections()
        for delivery in salvaged.values():
            self._panel.note(delivery)
        self._pool.review()
        self._sink.emit(events.RoundStarted(plan.round, len(plan.items), len(salvaged)))
        self._board.put_up(state)
        return state

    async def _collect(self, state: OpenRound) -> None:
        while not state.is_over(self._clock(), self._options.round_deadline_seconds):
            self._check_tasks()
            is_out = state.queue.running > 0
            may_go_on = is_out or self._board.may_dispatch
            check_money(self._pool, self._clock(), may_go_on=may_go_on)
            self._check_leases(state)
            self._check_stop()
            await self._bell.wait_for_news(LOOK_SECONDS)

    def _check_review(self) -> None:
        self._check_tasks()
        check_money(self._pool, self._clock(), may_go_on=True)
        self._check_stop()

    def _check_tasks(self) -> None:
        self._sink.check()
        if self._recruiter is not None and self._recruiter.done():
            self._recruiter.result()
        self._last_resort.check()

    def _check_stop(self) -> None:
        if self._bell.is_stopping:
            raise Interrupted("stopped on request", fix="`derl-request resume` goes on from here")

    def _check_leases(self, state: OpenRound) -> None:
        now, options = self._clock(), self._options
        if not self._crew:
            waited = now - self._no_lease_since
            if waited >= options.startup_timeout_seconds:
                raise no_provider_came(self._pool, waited)
            return
        self._no_lease_since = now
        stuck = state.stuck_seconds(self._crew.voices, now)
        if self._last_resort.is_there and stuck > 0.0:
            self._last_resort.consider(state, stuck, awaits_more=self._pool.awaits_more)
            return
        if stuck < options.startup_timeout_seconds:
            return
        started = state.started_seconds
        if started is not None and now - started < options.round_deadline_seconds:
            return
        if not state.leave_out_stranded():
            raise nobody_may_go_on(state, self._crew)

    async def _recruit(self) -> None:
        while True:
            lease = await self._pool.next_lease()
            info = lease.info
            self._sink.emit(
                events.LeaseOpened(info.id, info.provider_name, info.provider_id, info.agreement_id)
            )
            self._crew.join(lease, asyncio.create_task(self._employ(lease)))
            self._bell.ring()

    async def _employ(self, lease: Lease) -> None:
        """Let a lease work until it is lost, or the session is over."""
        reason = "the run is over"
        try:
            if self._greet is not None:
                await self._greet(lease)
            await self._driver.drive(lease)
        except LeaseLost as error:
            reason = str(error)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logger.exception("the driver of %s failed", lease.info.provider_name)
            reason = f"internal error: {error}"
            lease.release(reason, avoid=False)
        finally:
            self._crew.leave(lease.info.id)
            self._no_lease_since = self._clock()
            self._sink.emit(events.LeaseEnded(lease.info.id, lease.info.provider_name, reason))
            self._bell.ring()
