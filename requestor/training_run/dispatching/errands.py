"""Orders that go out once more, to whoever may be a witness: leases take them between their items.

To a provider such an order is like any other: the same bytes, files and names, taken by an idle
lease while the budget allows it, and paid for. What comes back counts in no round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from provider_image.wire import WireError
from requestor.federation.rounds import WorkItem
from requestor.federation.screening import UpdateRejected
from requestor.marketplace.ports import (
    Job,
    Lease,
    LeaseInfo,
    LeaseLost,
    LeaseOver,
    OrderFailed,
)
from requestor.training_run import events
from requestor.training_run.orders.deliveries import Delivery, Source, source_of


class ErrandDesk(Protocol):
    """Makes jobs of work items, and reads results without keeping them."""

    def job(self, item: WorkItem, lease: str, attempt: int) -> Job:
        """Return the job of an item for one lease; output paths are used once."""
        ...

    def inspect(
        self, item: WorkItem, job: Job, claimed: Mapping[str, str], source: Source | None = None
    ) -> Delivery:
        """Read and check what a lease delivered, and who it was.

        Raises:
            WireError: a file is not what the format says.
            UpdateRejected: the content is not what was ordered.
        """
        ...

    def discard(self, job: Job) -> None:
        """Delete what a job left behind."""
        ...


@dataclass(eq=False)
class Errand:
    """An item to be done once more by one of those who suit.

    `taken_by` is the voice that has it, or had it; `answer` is None if that came to nothing.
    """

    item: WorkItem
    desk: ErrandDesk
    suits: Callable[[LeaseInfo], bool]
    answer: asyncio.Future[Delivery | None]
    taken_by: str = ""

    def settle(self, delivery: Delivery | None) -> None:
        """Answer, if anybody still listens."""
        if not self.answer.done():
            self.answer.set_result(delivery)


@dataclass
class Errands:
    """What waits to be done once more; a dispatcher opens it for its leases."""

    _waiting: list[Errand] = field(default_factory=list)
    _staff: Callable[[], Iterable[LeaseInfo]] = tuple
    _ring: Callable[[], object] = bool

    def open(self, staff: Callable[[], Iterable[LeaseInfo]], ring: Callable[[], object]) -> None:
        """Have errands done by `staff()`, those who may take orders now; `ring` wakes them."""
        self._staff, self._ring = staff, ring

    def close(self) -> None:
        """Send nothing out any more."""
        self._staff, self._ring = tuple, bool

    def post(self, item: WorkItem, desk: ErrandDesk, suits: Callable[[LeaseInfo], bool]) -> Errand:
        """Put an item up; `withdraw` it when nobody waits for it any more."""
        errand = Errand(item, desk, suits, asyncio.get_running_loop().create_future())
        self._waiting.append(errand)
        self._ring()
        return errand

    def withdraw(self, errand: Errand) -> None:
        """Wait for an errand no longer; who has it already may finish it."""
        if errand in self._waiting:
            self._waiting.remove(errand)
        errand.settle(None)

    def take(self, info: LeaseInfo) -> Errand | None:
        """Return the next errand for a lease, or None."""
        for errand in self._waiting:
            if errand.suits(info):
                self._waiting.remove(errand)
                errand.taken_by = info.voice
                return errand
        return None

    def has_hands(self, errand: Errand) -> bool:
        """Tell whether somebody is at work who may take an errand, or has it."""
        return bool(errand.taken_by) or any(errand.suits(info) for info in self._staff())

    def put_back(self, errand: Errand) -> None:
        """Put an errand up again that was taken and not tried."""
        errand.taken_by = ""
        if not errand.answer.done():
            self._waiting.append(errand)


@dataclass(frozen=True)
class ErrandRunner:
    """Has errands done by leases, and tells of it as of any order; `attempts` numbers these."""

    errands: Errands
    emit: Callable[[events.Event], None]
    clock: Callable[[], float]
    attempts: Iterator[int]

    async def run(self, errand: Errand, lease: Lease) -> Literal["counted", "failed"]:
        """Have one errand done; LeaseLost passes."""
        delivery: Delivery | None = None
        started = self.clock()
        try:
            delivery = await self._do(errand, lease)
        except LeaseOver as error:
            self._fail(errand, lease, error)
            self.errands.put_back(errand)
            raise
        except LeaseLost as error:
            lease.assess(0, self.clock() - started)
            self._fail(errand, lease, error)
            raise
        except OrderFailed as error:
            lease.assess(0, self.clock() - started)
            self._fail(errand, lease, error)
            return "failed"
        except (WireError, UpdateRejected) as error:
            lease.assess(0, self.clock() - started)
            item = errand.item
            self.emit(
                events.UpdateRejected(item.round, item.client, lease.info.id, reason=str(error))
            )
            lease.release(f"unusable result: {error}", avoid=True, failure="bad_result")
            raise LeaseLost(f"unusable result: {error}") from error
        finally:
            if errand.taken_by:
                errand.settle(delivery)
        return "counted"

    async def _do(self, errand: Errand, lease: Lease) -> Delivery | None:
        """Return what came of it; None if what its round began with is not there any more."""
        item, info = errand.item, lease.info
        job = errand.desk.job(item, info.id, next(self.attempts))
        if not all(path.exists() for path in job.inputs.values()):
            return None
        started = self.clock()
        self.emit(events.OrderSent(item.round, item.client, info.id, is_copy=False))
        try:
            claimed = await lease.execute(job)
            seconds = self.clock() - started
            delivery = errand.desk.inspect(item, job, claimed, source_of(info, seconds))
        finally:
            errand.desk.discard(job)
        lease.assess(item.local_steps, seconds)
        self.emit(
            events.OrderDone(
                round=item.round,
                client=item.client,
                lease=info.id,
                seconds=seconds,
                steps=item.local_steps,
                counts=False,
                metrics=delivery.metrics,
                is_audit=True,
            )
        )
        return delivery

    def _fail(self, errand: Errand, lease: Lease, error: Exception) -> None:
        item = errand.item
        self.emit(events.OrderFailed(item.round, item.client, lease.info.id, reason=str(error)))
