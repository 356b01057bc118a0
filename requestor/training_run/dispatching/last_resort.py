"""This machine as the provider of last resort: it does what none of those at work may do.

With robust merging a voice has its share of a round and no more, and nobody does an item again that
was taken back from him. When providers vanish or are convicted and the market has no others, the
rest of a round would wait for ever, so it is done by this machine (`own_machine.py`). It never
takes work from anybody at work, nor trains alone: without a single lease a round waits for one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from requestor.marketplace.ports import Lease, LeaseLost, LeaseOver
from requestor.training_run import events
from requestor.training_run.dispatching.bell import Bell
from requestor.training_run.dispatching.crew import Crew
from requestor.training_run.dispatching.event_sink import EventSink
from requestor.training_run.dispatching.item_runner import ItemRunner
from requestor.training_run.dispatching.open_round import OpenRound

logger = logging.getLogger(__name__)

GRACE_SECONDS = 2.0
GRACE_ITEMS = 2.0
"""A provider that may do the rest has so long to come, and as long as so many items take."""


def grace_seconds(typical_seconds: float | None) -> float:
    """Return for how long a round must be stuck before this machine does its work."""
    return max(GRACE_SECONDS, GRACE_ITEMS * (typical_seconds or 0.0))


class LastResort:
    """Waits whether somebody comes who may do the rest of a round; else has it done here."""

    def __init__(
        self,
        own_machine: Lease | None,
        crew: Crew,
        items: ItemRunner,
        *,
        sink: EventSink,
        bell: Bell,
        clock: Callable[[], float],
        startup_timeout_seconds: float,
    ) -> None:
        """Have items done by `own_machine`, if there is one, while `crew` may not do them.

        Providers that have never been at work have `startup_timeout_seconds` to come.
        """
        self._own_machine = own_machine
        self._crew = crew
        self._items = items
        self._sink = sink
        self._bell = bell
        self._clock = clock
        self._startup_timeout_seconds = startup_timeout_seconds
        self._work: asyncio.Task[None] | None = None
        self._waited_at: int | None = None

    @property
    def is_there(self) -> bool:
        """True if this machine can do work."""
        return self._own_machine is not None

    def consider(self, state: OpenRound, stuck_seconds: float, *, awaits_more: bool) -> None:
        """Begin with what is left of a round if it has been stuck for long enough.

        Where it was waited in vain, and nobody has come or gone since, it is not waited again.
        `awaits_more`: providers are still to come.
        """
        has_waited = self._waited_at == self._crew.changes
        if self._own_machine is None or self._is_at_work:
            return
        if has_waited or stuck_seconds >= self._grace_seconds(state, awaits_more):
            self._work = asyncio.create_task(self._do_stranded(state, self._own_machine))
            self._waited_at = self._crew.changes

    def check(self) -> None:
        """Raise what the work here has failed with."""
        if self._work is not None and self._work.done():
            self._work.result()

    async def end(self) -> None:
        """Give up what is going on; by now nobody waits for it."""
        task, self._work = self._work, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def _is_at_work(self) -> bool:
        return self._work is not None and not self._work.done()

    def _grace_seconds(self, state: OpenRound, awaits_more: bool) -> float:
        """Return for how long a round must be stuck; long, where providers are still awaited."""
        plan = state.plan
        are_few = len(self._crew.voices_seen) * plan.voices.most_items < len(plan.items)
        if are_few and awaits_more:
            return self._startup_timeout_seconds
        return grace_seconds(state.queue.typical_seconds)

    async def _do_stranded(self, state: OpenRound, lease: Lease) -> None:
        """Do what none of those at work may do, until there is no more of it."""
        info = lease.info
        name = info.provider_name
        reason = "released"
        try:
            while not self._bell.is_stopping:
                ticket = state.take_stranded(info, self._crew.voices, self._clock())
                if ticket is None:
                    break
                item = ticket.item
                text = "which none of the providers at work may do"
                self._sink.emit(
                    events.Notice(
                        f"round {item.round + 1}: {name} does client {item.client}'s work, {text}"
                    )
                )
                try:
                    await self._items.run(lease, state, ticket)
                except LeaseOver:
                    raise
                except LeaseLost as error:  # an unusable result: one attempt less
                    logger.info("%s: %s", name, error)
        except Exception as error:
            logger.exception("the driver of %s failed", name)
            reason = f"internal error: {error}"
            self._own_machine, state.has_resort = None, False
        finally:
            self._sink.emit(events.LeaseEnded(info.id, name, reason))
            self._bell.ring()
