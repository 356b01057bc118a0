"""Drives one lease: it pulls work, has it done and pulls again, until the lease is not worth it.

Read next: `item_runner.py`, by which one item is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from requestor.marketplace.ports import Lease, LeaseLost
from requestor.training_run.dispatching.bell import Bell
from requestor.training_run.dispatching.crew import Crew
from requestor.training_run.dispatching.errands import ErrandRunner
from requestor.training_run.dispatching.item_runner import ItemRunner, Outcome
from requestor.training_run.dispatching.work_board import WorkBoard

IDLE_SECONDS = 1.0
SHORTEST_IDLE_SECONDS = 0.01
WASTED_IN_A_ROW = 3
ORDER_FAILURES_IN_A_ROW = 2


@dataclass
class _Record:
    """What has lately become of a lease's orders."""

    failed: int = 0
    wasted: int = 0

    def note_errand(self, *, is_failure: bool) -> None:
        self.failed = self.failed + 1 if is_failure else 0

    def note_item(self, outcome: Outcome, *, is_copy: bool) -> None:
        if outcome != "doubtful":
            self.failed = self.failed + 1 if outcome == "failed" else 0
        if outcome != "wasted":
            self.wasted = 0
        elif not is_copy:
            self.wasted += 1


@dataclass(frozen=True)
class Driver:
    """Drives the leases of a session, each in a task of its own."""

    crew: Crew
    board: WorkBoard
    items: ItemRunner
    errands: ErrandRunner
    bell: Bell
    clock: Callable[[], float]

    async def drive(self, lease: Lease) -> None:
        """Have a lease do what there is to do.

        Raises:
            LeaseLost: it is gone, or was sent away.
        """
        record = _Record()
        info = lease.info
        while True:
            if (dismissal := self.crew.dismissal(info.id)) is not None:
                raise LeaseLost(dismissal)
            if not self.board.hands_out:
                await self.bell.wait(IDLE_SECONDS)
            elif (errand := self.errands.errands.take(info)) is not None:
                outcome = await self.errands.run(errand, lease)
                record.note_errand(is_failure=outcome == "failed")
                self._part_with_the_faulty(lease, record)
            elif (state := self.board.open_round) is None:
                await self.bell.wait(IDLE_SECONDS)
            elif (ticket := state.take(info, self.crew.voices, self.clock())) is None:
                look = state.queue.next_look_seconds(info.id, provider=info.voice)
                await self.bell.wait(self._idle_seconds(look))
            else:
                done = await self.items.run(lease, state, ticket)
                record.note_item(done, is_copy=ticket.is_copy)
                self._part_with_the_faulty(lease, record)
                self._part_with_the_slow(lease, record)

    def _idle_seconds(self, look_seconds: float | None) -> float:
        """Return how long a lease waits that has nothing to do until then."""
        if look_seconds is None:
            return IDLE_SECONDS
        return min(IDLE_SECONDS, max(SHORTEST_IDLE_SECONDS, look_seconds - self.clock()))

    def _part_with_the_faulty(self, lease: Lease, record: _Record) -> None:
        if record.failed >= ORDER_FAILURES_IN_A_ROW:
            reason = "it fails one order after the other"
            lease.release(reason, avoid=True, failure="failed_orders")
            raise LeaseLost(reason)

    def _part_with_the_slow(self, lease: Lease, record: _Record) -> None:
        if record.wasted >= WASTED_IN_A_ROW and len(self.crew) > 1:
            lease.release("too slow", avoid=True, failure="slow")
            raise LeaseLost("too slow: others finish its work first")
