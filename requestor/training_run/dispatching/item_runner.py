"""Has one item done by one lease: the order out, the result in, and what came of it told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from provider_image.wire import WireError
from requestor.federation.rounds import WorkItem
from requestor.federation.screening import UpdateRejected
from requestor.marketplace.ports import Lease, LeaseLost, LeaseOver, OrderFailed
from requestor.scheduling.work_queue import Ticket
from requestor.training_run import events
from requestor.training_run.dispatching.bell import Bell
from requestor.training_run.dispatching.event_sink import EventSink
from requestor.training_run.dispatching.open_round import OpenRound
from requestor.training_run.dispatching.panel import Panel
from requestor.training_run.orders.deliveries import Delivery, source_of

Outcome = Literal["counted", "wasted", "failed", "doubtful"]
"""`doubtful`: failed, perhaps by no fault of the lease."""


@dataclass(frozen=True)
class ItemRunner:
    """Has items of rounds done by leases; `attempts` numbers the orders of a session."""

    panel: Panel
    sink: EventSink
    bell: Bell
    clock: Callable[[], float]
    attempts: Iterator[int]

    async def run(self, lease: Lease, state: OpenRound, ticket: Ticket[WorkItem]) -> Outcome:
        """Have one item executed; LeaseLost passes."""
        item = ticket.item
        try:
            job = state.desk.job(item, lease.info.id, next(self.attempts))
        except Exception as error:
            self._fail(state, ticket, lease, error)
            raise
        self.sink.emit(
            events.OrderSent(item.round, item.client, lease.info.id, is_copy=ticket.is_copy)
        )
        try:
            claimed = await lease.execute(job)
            source = source_of(lease.info, self.clock() - ticket.started_seconds)
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
            lease.assess(0, self.clock() - ticket.started_seconds)
        had_state = state.desk.has_state(item)
        is_doubtful = state.fail(ticket, lease.info, error)
        is_unusable = isinstance(error, WireError | UpdateRejected)
        kind = events.UpdateRejected if is_unusable else events.OrderFailed
        self.sink.emit(kind(item.round, item.client, lease.info.id, reason=str(error)))
        if had_state and not state.desk.has_state(item):
            self.sink.emit(
                events.Notice(
                    f"client {item.client}'s state of earlier rounds was refused by several "
                    "providers; its order goes out once more without it"
                )
            )
        self.bell.ring()
        return is_doubtful

    def _deliver(
        self, state: OpenRound, ticket: Ticket[WorkItem], delivery: Delivery, lease: Lease
    ) -> Outcome:
        item = ticket.item
        now = self.clock()
        was_typical_known = state.queue.typical_seconds is not None
        counts = state.take_in(ticket, delivery, now)
        self._show(state, delivery)
        if counts or not ticket.is_copy:  # a copy that came second was idle time anyway
            lease.assess(item.local_steps if counts else 0, now - ticket.started_seconds)
        self.sink.emit(
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
            self.bell.tell_round()
        else:
            self.bell.ring()  # from now on it can be told who is late
        return "counted" if counts else "wasted"

    def _show(self, state: OpenRound, delivery: Delivery) -> None:
        """Let the reviewers know; if one fails, so does the round."""
        first = state.deliveries.get(delivery.update.item)
        try:
            if first is delivery:
                self.panel.note(delivery)
            elif first is not None:
                self.panel.compare(first, delivery)
        except Exception as error:
            self.sink.fault(error)
