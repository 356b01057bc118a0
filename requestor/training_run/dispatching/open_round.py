"""A round while its items are being done: what is in, what is out, who refused what."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from requestor.federation.rounds import RoundPlan, WorkItem
from requestor.marketplace.ports import Job, LeaseInfo, LeaseOver, OrderFailed
from requestor.scheduling.work_queue import Ticket, WorkQueue
from requestor.training_run.orders.deliveries import Delivery, Harvest, Rejection, Source

REFUSALS_TO_BLAME_THE_STATE = 2
"""So many providers must have refused an item before its client's state may be at fault."""


class OrderDesk(Protocol):
    """Makes jobs of work items, and updates of results."""

    def job(self, item: WorkItem, lease: str, attempt: int) -> Job:
        """Return the job of an item for one lease; output paths are used once."""
        ...

    def receive(
        self,
        item: WorkItem,
        job: Job,
        claimed: Mapping[str, str],
        source: Source | None = None,
    ) -> Delivery:
        """Read, check and keep what a lease delivered, and who it was.

        Raises:
            WireError: a file is not what the format says.
            UpdateRejected: the content is not what was ordered.
        """
        ...

    def discard(self, job: Job) -> None:
        """Delete what a job left behind."""
        ...

    def salvage(self, item: WorkItem) -> Delivery | None:
        """Return the result of an item if a run before a crash has kept it."""
        ...

    def reject(self, item: WorkItem, rejection: Rejection) -> None:
        """Drop the kept result of an item; keep, beyond a crash, that it was rejected, and why."""
        ...

    def rejections(self, item: WorkItem) -> Sequence[Rejection]:
        """Return what was rejected of an item in this round, before a crash too."""
        ...

    def has_state(self, item: WorkItem) -> bool:
        """Tell whether the item's order hands its client a state from an earlier round."""
        ...

    def leave_state_out(self, item: WorkItem) -> None:
        """Order the item without its client's state from now on, until the round is closed."""
        ...


@dataclass
class OpenRound:
    """The plan of a round, its queue, and what came in; `started_seconds` is its first order's.

    `tolerated`: so many items that were rejected, and cannot be done, do not count towards the
    quorum. `has_resort`: this machine does what nobody else may. `is_closed`: what comes in now
    does not count any more.
    """

    plan: RoundPlan
    desk: OrderDesk
    queue: WorkQueue[WorkItem]
    deliveries: dict[WorkItem, Delivery] = field(default_factory=dict)
    rejections: dict[WorkItem, tuple[Rejection, ...]] = field(default_factory=dict)
    tolerated: int = 0
    has_resort: bool = False
    is_closed: bool = False
    started_seconds: float | None = None
    _refusers: dict[WorkItem, set[str]] = field(default_factory=dict)
    _reviewed: set[WorkItem] = field(default_factory=set)
    _stuck_since_seconds: float | None = None

    @property
    def missing(self) -> list[WorkItem]:
        """Items of which something was rejected, and nothing is in."""
        items = self.rejections.keys() - self.deliveries.keys()
        return [item for item in self.plan.items if item in items]

    @property
    def left_out(self) -> list[WorkItem]:
        """The missing items that nobody does again."""
        over = {*self.queue.withdrawn, *self.queue.abandoned}
        return [item for item in self.missing if item in over]

    @property
    def needed(self) -> int:
        """How many deliveries it takes: the quorum, less what may be left out."""
        return self.plan.quorum - min(len(self.left_out), self.tolerated)

    @property
    def harvest(self) -> Harvest:
        """What is in, in client order."""
        return Harvest(
            tuple(self.deliveries[item] for item in self.plan.items if item in self.deliveries),
            dict(self.rejections),
        )

    def is_over(self, now_seconds: float, deadline_seconds: float) -> bool:
        """Tell whether every item is done or given up, or the deadline found a quorum."""
        if self.queue.is_settled:
            return True
        if self.started_seconds is None:
            return False
        is_late = now_seconds - self.started_seconds >= deadline_seconds
        return is_late and len(self.deliveries) >= self.needed

    def take(
        self, info: LeaseInfo, live_voices: Collection[str], now_seconds: float
    ) -> Ticket[WorkItem] | None:
        """Hand an item to a lease; None if there is none for it."""
        ticket = self.queue.take(
            info.id, now_seconds, provider=info.voice, live_providers=live_voices
        )
        return self._started(ticket, now_seconds)

    def take_stranded(
        self, info: LeaseInfo, live_voices: Collection[str], now_seconds: float
    ) -> Ticket[WorkItem] | None:
        """Hand out an item that none of those at work may do; None if there is none."""
        return self._started(
            self.queue.take_stranded(info.id, now_seconds, live_voices), now_seconds
        )

    def _started(
        self, ticket: Ticket[WorkItem] | None, now_seconds: float
    ) -> Ticket[WorkItem] | None:
        if ticket is not None and self.started_seconds is None:
            self.started_seconds = now_seconds
        return ticket

    def take_in(self, ticket: Ticket[WorkItem], delivery: Delivery, now_seconds: float) -> bool:
        """Take in what came of a ticket; False if it does not count.

        Another one was first, or the round was closed without the item.
        """
        counts = self.queue.finish(ticket, now_seconds) and not self.is_closed
        if counts:
            self.deliveries[ticket.item] = delivery
        return counts

    def has_news(self) -> bool:
        """Tell whether anything came in since the last call."""
        is_new = bool(self.deliveries.keys() - self._reviewed)
        self._reviewed |= self.deliveries.keys()
        return is_new

    def recall_rejections(self) -> None:
        """Take up what was rejected before a crash, as if the process had gone on."""
        for item in self.plan.items:
            rejections = tuple(self.desk.rejections(item))
            if not rejections:
                continue
            self.rejections[item] = rejections
            if item not in self.deliveries:
                for rejection in rejections:
                    self.queue.reject(item, _described(rejection), rejection.voice)
        self.settle_rejections()

    def reject(self, delivery: Delivery, rejection: Rejection) -> None:
        """Take a delivery out; `settle_rejections` says whether its item is done again."""
        item = delivery.update.item
        if self.deliveries.get(item) is not delivery:
            return  # somebody else objected to it first
        del self.deliveries[item]
        self._reviewed.discard(item)
        self.rejections[item] = (*self.rejections.get(item, ()), rejection)
        self.desk.reject(item, rejection)
        self.queue.reject(item, _described(rejection), rejection.voice)

    def settle_rejections(self) -> None:
        """Have what was rejected done again: by others, else by this machine.

        An item whose right result is rejected stays out if the quorum can bear it.
        """
        withdrawn = [item for item in self.missing if item in self.queue.withdrawn]
        hopeless = [item for item in withdrawn if self._is_hopeless(item)]
        bears_it = self._bears_without(hopeless)
        for item in withdrawn:
            if bears_it and item in hopeless:
                continue
            is_disputed = item in self.queue.abandoned or self._is_agreed(item)
            if self.has_resort and is_disputed and item not in hopeless:
                self.queue.entrust(item)
            else:
                self.queue.reopen(item)

    def leave_out_stranded(self) -> bool:
        """Go on without what was rejected and waits for nobody; False if that is not enough."""
        stranded = [item for item in self.missing if item in self.queue.waiting]
        is_all = len(stranded) == len(self.queue.waiting)
        if not is_all or not self._bears_without([*stranded, *self.left_out]):
            return False
        for item in stranded:
            self.queue.withdraw(item)
        return True

    def _bears_without(self, items: Collection[WorkItem]) -> bool:
        """Tell whether as many are left as it takes, if nobody does `items`."""
        lost = {*items, *self.queue.abandoned}
        for_others = {item for item in self.queue.withdrawn if item not in items}
        return len(self.plan.items) - len(lost - for_others) >= self.plan.quorum - self.tolerated

    def _is_hopeless(self, item: WorkItem) -> bool:
        """Tell whether the right result of an item is rejected: this machine's own was, or, if it
        does none, what two voices agree on."""
        screened = self._screened(item)
        is_own = any(one.source is not None and one.source.is_own for one in screened)
        return is_own or (not self.has_resort and self._is_agreed(item))

    def _is_agreed(self, item: WorkItem) -> bool:
        """Tell whether two voices have delivered the same, and it was screened out."""
        voices: dict[str, set[str]] = {}
        for one in self._screened(item):
            voices.setdefault(one.result_sha256, set()).add(one.voice)
        return any(digest and len(found) > 1 for digest, found in voices.items())

    def _screened(self, item: WorkItem) -> list[Rejection]:
        return [one for one in self.rejections[item] if one.kind == "screened"]

    def stuck_seconds(self, live_voices: Collection[str], now_seconds: float) -> float:
        """Return for how long none of those at work may do what is left: 0.0 if one may."""
        if not self.queue.is_stuck(live_voices):
            self._stuck_since_seconds = None
            return 0.0
        if self._stuck_since_seconds is None:
            self._stuck_since_seconds = now_seconds
        return now_seconds - self._stuck_since_seconds

    def fail(self, ticket: Ticket[WorkItem], lease: LeaseInfo, error: Exception) -> bool:
        """Put an item back after a failure; a lease that was over before costs no attempt.

        An item that would be given up now, after several providers refused it, is queued once more
        without its client's state: that state may have been made up by whoever had the item
        before. While any attempt is left the state stays, so that providers that merely fail
        change nothing of the outcome.

        Returns True if the client's state may be at fault rather than the lease.
        """
        item = ticket.item
        if isinstance(error, LeaseOver):
            self.queue.give_back(ticket)
        else:
            self.queue.fail(ticket, f"{lease.provider_name}: {error}")
        refusers = self._refusers.setdefault(item, set())
        if isinstance(error, OrderFailed):
            refusers.add(lease.voice)
        if len(refusers) < REFUSALS_TO_BLAME_THE_STATE or not self.desk.has_state(item):
            return False
        if item in self.queue.abandoned:
            self.desk.leave_state_out(item)
            self.queue.renew(item)
        return True

    @property
    def quorum_message(self) -> str:
        """Why the quorum was not met."""
        lines = [
            f"round {self.plan.round + 1}: only {len(self.deliveries)} of "
            f"{len(self.plan.items)} clients' results came in, the quorum is {self.needed}"
        ]
        for item, reasons in self.queue.abandoned.items():
            lines.append(f"  client {item.client} was given up after: {'; '.join(reasons)}")
        for item in self.missing:
            if item not in self.queue.abandoned:
                reasons = tuple(map(_described, self.rejections[item]))
                lines.append(f"  client {item.client} was rejected: {'; '.join(reasons)}")
        return "\n".join(lines)


def _described(rejection: Rejection) -> str:
    name = rejection.source.provider_name if rejection.source else "somebody"
    return f"{name}: {rejection.reason}"
