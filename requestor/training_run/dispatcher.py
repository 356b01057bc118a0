"""Gets one round's work items done by whichever leases there are.

Every lease has a driver task: it pulls items from the round's queue, has them executed, screens
what comes back and pulls again. Drivers live as long as their leases, queues as long as a round.
When all is in, the reviewers look at it; what they object to is taken out and done again. What
none of those at work may do is done by this machine (`own_machine.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from provider_image.wire import WireError
from requestor.errors import Interrupted
from requestor.federation.rounds import RoundPlan, WorkItem
from requestor.federation.screening import UpdateRejected
from requestor.marketplace.choice.failures import FailureKind
from requestor.marketplace.ports import (
    Lease,
    LeaseInfo,
    LeaseLost,
    LeaseOver,
    OrderFailed,
    ProviderPool,
)
from requestor.scheduling.work_queue import Ticket, WorkQueue
from requestor.training_run import events
from requestor.training_run.crew import Crew
from requestor.training_run.errands import ErrandRunner, Errands
from requestor.training_run.limits import (
    check_money,
    no_provider_came,
    nobody_may_go_on,
    quorum_missed,
)
from requestor.training_run.open_round import (
    Delivery,
    Harvest,
    OpenRound,
    OrderDesk,
    source_of,
)
from requestor.training_run.own_machine import grace_seconds
from requestor.training_run.panel import Panel
from requestor.training_run.reviewing import Reviewer

logger = logging.getLogger(__name__)

DISPATCH_MARGIN_SECONDS = 1.0
"""Money for this much more of everybody's time must be left over when an order goes out."""

UNKNOWN_ITEM_SECONDS = 1.0
IDLE_SECONDS = 1.0
LOOK_SECONDS = 0.5
WASTED_IN_A_ROW = 3
ORDER_FAILURES_IN_A_ROW = 2


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
        self._pool = pool
        self._options = options
        self._report = emit
        self._fault: Exception | None = None
        self._clock = clock
        self._stop = stop_requested
        self._bell = asyncio.Event()
        self._news = asyncio.Event()
        self._round: OpenRound | None = None
        self._crew = Crew()
        self._panel = Panel(reviewers, self._crew, self._emit)
        self._recruiter: asyncio.Task[None] | None = None
        self._typical_seconds: float | None = None
        self._no_lease_since = clock()
        self._attempts = 0
        self._greet = greet
        self._own_machine = own_machine
        self._own_work: asyncio.Task[None] | None = None
        self._voices_seen: set[str] = set()
        self._was_waited_for = False
        self._errands = ErrandRunner(errands or Errands(), self._emit, clock)

    async def __aenter__(self) -> Dispatcher:
        """Start to take leases."""
        self._no_lease_since = self._clock()
        self._recruiter = asyncio.create_task(self._recruit())
        self._errands.errands.open(self._hands, self._ring)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop all drivers; orders in flight are given up."""
        self._errands.errands.close()
        tasks = [*self._crew.drivers, *([self._recruiter] if self._recruiter else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._end_own_work()

    def dismiss(self, voice: str, reason: str, failure: FailureKind) -> None:
        """Let go of all leases of a voice; what they have in hand goes to others."""
        self._crew.dismiss(lambda info: info.voice == voice, reason, failure)
        self._ring()

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
                self._ring()
                await self._collect(state)
        finally:
            self._round = None
            await self._end_own_work()
            self._typical_seconds = state.queue.typical_seconds
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
            typical_seconds=self._typical_seconds,
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
            has_resort=self._own_machine is not None,
        )
        state.recall_rejections()
        for delivery in salvaged.values():
            self._panel.note(delivery)
        self._pool.review()
        self._emit(events.RoundStarted(plan.round, len(plan.items), len(salvaged)))
        self._round = state
        self._ring()
        return state

    async def _collect(self, state: OpenRound) -> None:
        while not state.is_over(self._clock(), self._options.round_deadline_seconds):
            self._check_tasks()
            is_out = state.queue.running > 0
            check_money(self._pool, self._clock(), may_go_on=is_out or self._may_dispatch())
            self._check_leases(state)
            self._check_stop()
            self._news.clear()
            await self._wait(LOOK_SECONDS, self._news)

    def _check_review(self) -> None:
        self._check_tasks()
        check_money(self._pool, self._clock(), may_go_on=True)
        self._check_stop()

    def _emit(self, event: events.Event) -> None:
        """Tell of an event; if that fails (a full disk), the round ends with the error."""
        try:
            self._report(event)
        except Exception as error:
            self._fault = self._fault or error
            self._ring()

    def _check_tasks(self) -> None:
        if self._fault is not None:
            raise self._fault
        for task in (self._recruiter, self._own_work):
            if task is not None and task.done():
                task.result()

    def _check_stop(self) -> None:
        if self._stop.is_set():
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
        if self._own_machine is not None and stuck > 0.0:
            # nobody has come or gone since it was waited in vain: not again
            if self._was_waited_for or stuck >= self._grace_seconds(state):
                self._begin_own_work(state, self._own_machine)
            return
        if stuck < options.startup_timeout_seconds:
            return
        started = state.started_seconds
        if started is not None and now - started < options.round_deadline_seconds:
            return
        if not state.leave_out_stranded():
            raise nobody_may_go_on(state, self._crew)

    def _may_dispatch(self) -> bool:
        expected = 1.25 * (self._current_typical() or UNKNOWN_ITEM_SECONDS)
        left = self._pool.spending.may_spend_seconds(self._clock())
        return left >= expected + DISPATCH_MARGIN_SECONDS

    def _current_typical(self) -> float | None:
        if self._round is not None:
            return self._round.queue.typical_seconds
        return self._typical_seconds

    def _hands(self) -> Sequence[LeaseInfo]:
        """Return whose leases may take orders now."""
        return () if self._stop.is_set() or not self._may_dispatch() else self._crew.infos

    # --- this machine --------------------------------------------------------------------------

    def _grace_seconds(self, state: OpenRound) -> float:
        """Return for how long a round must be stuck; long, where providers are still awaited."""
        plan = state.plan
        are_few = len(self._voices_seen) * plan.voices.most_items < len(plan.items)
        if are_few and self._pool.awaits_more:
            return self._options.startup_timeout_seconds
        return grace_seconds(state.queue.typical_seconds)

    def _begin_own_work(self, state: OpenRound, lease: Lease) -> None:
        if self._own_work is None or self._own_work.done():
            self._own_work = asyncio.create_task(self._work_here(state, lease))
            self._was_waited_for = True

    async def _work_here(self, state: OpenRound, lease: Lease) -> None:
        """Do what none of those at work may do, until there is no more of it."""
        name = lease.info.provider_name
        reason = "released"
        try:
            while not self._stop.is_set():
                ticket = state.queue.take_stranded(lease.info.id, self._clock(), self._crew.voices)
                if ticket is None:
                    break
                item = ticket.item
                if state.started_seconds is None:
                    state.started_seconds = self._clock()
                text = "which none of the providers at work may do"
                self._emit(
                    events.Notice(
                        f"round {item.round + 1}: {name} does client {item.client}'s work, {text}"
                    )
                )
                try:
                    await self._do(lease, state, ticket)
                except LeaseOver:
                    raise
                except LeaseLost as error:  # an unusable result: one attempt less
                    logger.info("%s: %s", name, error)
        except Exception as error:
            logger.exception("the driver of %s failed", name)
            reason = f"internal error: {error}"
            self._own_machine, state.has_resort = None, False
        finally:
            self._emit(events.LeaseEnded(lease.info.id, name, reason))
            self._ring()

    async def _end_own_work(self) -> None:
        """Give up what this machine does; by now nobody waits for it."""
        task, self._own_work = self._own_work, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # --- drivers -------------------------------------------------------------------------------

    async def _recruit(self) -> None:
        while True:
            lease = await self._pool.next_lease()
            info = lease.info
            self._emit(
                events.LeaseOpened(info.id, info.provider_name, info.provider_id, info.agreement_id)
            )
            self._crew.join(lease, asyncio.create_task(self._drive(lease)))
            self._voices_seen.add(info.voice)
            self._was_waited_for = False
            self._ring()

    async def _drive(self, lease: Lease) -> None:
        reason = "the run is over"
        try:
            if self._greet is not None:
                await self._greet(lease)
            await self._work(lease)
            reason = "released"
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
            self._was_waited_for = False
            self._no_lease_since = self._clock()
            self._emit(events.LeaseEnded(lease.info.id, lease.info.provider_name, reason))
            self._ring()

    async def _work(self, lease: Lease) -> None:
        wasted = 0
        failed = 0
        while True:
            if (dismissal := self._crew.dismissal(lease.info.id)) is not None:
                raise LeaseLost(dismissal)
            state = self._round
            if self._stop.is_set() or not self._may_dispatch():
                await self._wait(IDLE_SECONDS)
                continue
            if (errand := self._errands.errands.take(lease.info)) is not None:
                self._attempts += 1
                is_failure = await self._errands.run(errand, lease, self._attempts) == "failed"
                failed = failed + 1 if is_failure else 0
                self._check_failures(lease, failed)
                continue
            if state is None:
                await self._wait(IDLE_SECONDS)
                continue
            ticket = state.queue.take(
                lease.info.id,
                self._clock(),
                provider=lease.info.voice,
                live_providers=self._crew.voices,
            )
            if ticket is None:
                await self._wait(self._idle_seconds(state, lease))
                continue
            if state.started_seconds is None:
                state.started_seconds = self._clock()
            outcome = await self._do(lease, state, ticket)
            if outcome != "doubtful":
                failed = failed + 1 if outcome == "failed" else 0
            if outcome != "wasted":
                wasted = 0
            elif not ticket.is_copy:
                wasted += 1
            self._check_failures(lease, failed)
            if wasted >= WASTED_IN_A_ROW and len(self._crew) > 1:
                lease.release("too slow", avoid=True, failure="slow")
                raise LeaseLost("too slow: others finish its work first")

    def _check_failures(self, lease: Lease, failed: int) -> None:
        if failed >= ORDER_FAILURES_IN_A_ROW:
            reason = "it fails one order after the other"
            lease.release(reason, avoid=True, failure="failed_orders")
            raise LeaseLost(reason)

    def _idle_seconds(self, state: OpenRound, lease: Lease) -> float:
        look = state.queue.next_look_seconds(lease.info.id, provider=lease.info.voice)
        return IDLE_SECONDS if look is None else min(IDLE_SECONDS, max(0.01, look - self._clock()))

    async def _do(self, lease: Lease, state: OpenRound, ticket: Ticket[WorkItem]) -> str:
        """Have one item executed; LeaseLost passes.

        Returns "counted", "wasted", "failed", or "doubtful": failed, perhaps by no fault of the
        lease.
        """
        item = ticket.item
        self._attempts += 1
        try:
            job = state.desk.job(item, lease.info.id, self._attempts)
        except Exception as error:
            self._fail(state, ticket, lease, error)
            raise
        self._emit(events.OrderSent(item.round, item.client, lease.info.id, is_copy=ticket.is_copy))
        try:
            claimed = await lease.execute(job)
            source = source_of(lease.info, self._clock() - ticket.started_seconds)
            delivery = state.desk.receive(item, job, claimed, source)
        except OrderFailed as error:
            return "doubtful" if self._fail(state, ticket, lease, error) else "failed"
        except (WireError, UpdateRejected) as error:
            self._fail(state, ticket, lease, error)
            lease.release(f"unusable result: {error}", avoid=True, failure="bad_result")
            raise LeaseLost(f"unusable result: {error}") from error
        except Exception as error:
            self._fail(state, ticket, lease, error)
            raise
        finally:
            state.desk.discard(job)
        return self._deliver(state, ticket, delivery, lease)

    def _fail(
        self, state: OpenRound, ticket: Ticket[WorkItem], lease: Lease, error: Exception
    ) -> bool:
        """Put an item back after a failure and tell of it; see `OpenRound.fail`."""
        item = ticket.item
        if not isinstance(error, LeaseOver):
            lease.assess(0, self._clock() - ticket.started_seconds)
        had_state = state.desk.has_state(item)
        is_doubtful = state.fail(ticket, lease.info, error)
        is_unusable = isinstance(error, WireError | UpdateRejected)
        kind = events.UpdateRejected if is_unusable else events.OrderFailed
        self._emit(kind(item.round, item.client, lease.info.id, reason=str(error)))
        if had_state and not state.desk.has_state(item):
            self._emit(
                events.Notice(
                    f"client {item.client}'s state of earlier rounds was refused by several "
                    "providers; its order goes out once more without it"
                )
            )
        self._ring()
        return is_doubtful

    def _deliver(
        self, state: OpenRound, ticket: Ticket[WorkItem], delivery: Delivery, lease: Lease
    ) -> str:
        item = ticket.item
        now = self._clock()
        was_typical_known = state.queue.typical_seconds is not None
        # the round may have been closed without this item
        counts = state.queue.finish(ticket, now) and state is self._round
        if counts:
            state.deliveries[item] = delivery
        self._show(state, delivery)
        if counts or not ticket.is_copy:  # a copy that came second was idle time anyway
            lease.assess(item.local_steps if counts else 0, now - ticket.started_seconds)
        self._emit(
            events.OrderDone(
                round=item.round,
                client=item.client,
                lease=lease.info.id,
                seconds=now - ticket.started_seconds,
                steps=item.local_steps,
                counts=counts,
                metrics=delivery.metrics,
            )
        )
        if was_typical_known:
            self._news.set()
        else:
            self._ring()  # from now on it can be told who is late
        return "counted" if counts else "wasted"

    def _show(self, state: OpenRound, delivery: Delivery) -> None:
        """Let the reviewers know; if one fails, so does the round."""
        first = state.deliveries.get(delivery.update.item)
        try:
            if first is delivery:
                self._panel.note(delivery)
            elif first is not None:
                self._panel.compare(first, delivery)
        except Exception as error:
            self._fault = self._fault or error

    def _ring(self) -> None:
        """Wake all drivers and the round; those who wait next get a bell of their own."""
        self._news.set()
        self._bell.set()
        self._bell = asyncio.Event()

    async def _wait(self, seconds: float, event: asyncio.Event | None = None) -> None:
        """Wait for `event`, by default the bell, at most `seconds`."""
        waiters: list[Awaitable[bool]] = [(event or self._bell).wait()]
        if not self._stop.is_set():
            waiters.append(self._stop.wait())
        tasks = [asyncio.ensure_future(waiter) for waiter in waiters]
        try:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
