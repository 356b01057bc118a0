"""A round while its items are being done: what is in, what is out, who refused what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from requestor.federation.rounds import ClientUpdate, RoundPlan, WorkItem
from requestor.marketplace.ports import Job, LeaseInfo, LeaseOver, OrderFailed
from requestor.scheduling.work_queue import Ticket, WorkQueue

REFUSALS_TO_BLAME_THE_STATE = 2
"""So many providers must have refused an item before its client's state may be at fault."""


@dataclass(frozen=True)
class Source:
    """Who delivered a result, under which agreement, and how long the order took."""

    lease: str
    provider_id: str
    provider_name: str
    agreement_id: str
    wallet: str | None
    seconds: float

    @property
    def voice(self) -> str:
        """Who it counts as where providers are counted: all nodes of a wallet are one."""
        return self.wallet or self.provider_id


@dataclass(frozen=True)
class Delivery:
    """A screened result: the update, the claimed metrics, and what its sender is committed to.

    `order_sha256` is the order's digest, `result_sha256` that of the update as it was decoded
    (`wire.tensors_digest`), `links` the hash chain that came with it. `source` is who sent it;
    None where that is not known.
    """

    update: ClientUpdate
    metrics: Mapping[str, float]
    order_sha256: str = ""
    result_sha256: str = ""
    links: tuple[str, ...] = ()
    source: Source | None = None


class OrderDesk(Protocol):
    """Makes jobs of work items, and updates of results."""

    def job(self, item: WorkItem, lease: str, attempt: int) -> Job:
        """Return the job of an item for one lease; output paths are used once."""
        ...

    def receive(self, item: WorkItem, job: Job, claimed: Mapping[str, str]) -> Delivery:
        """Read, check and keep what a lease delivered.

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

    def has_state(self, item: WorkItem) -> bool:
        """Tell whether the item's order hands its client a state from an earlier round."""
        ...

    def leave_state_out(self, item: WorkItem) -> None:
        """Order the item without its client's state from now on, until the round is closed."""
        ...


@dataclass
class OpenRound:
    """The plan of a round, its queue, and what came in; `started_seconds` is its first order's."""

    plan: RoundPlan
    desk: OrderDesk
    queue: WorkQueue[WorkItem]
    deliveries: dict[WorkItem, Delivery] = field(default_factory=dict)
    started_seconds: float | None = None
    _refusers: dict[WorkItem, set[str]] = field(default_factory=dict)

    def is_over(self, now_seconds: float, deadline_seconds: float) -> bool:
        """Tell whether every item is done or given up, or the deadline found a quorum."""
        if self.queue.is_settled:
            return True
        if self.started_seconds is None:
            return False
        is_late = now_seconds - self.started_seconds >= deadline_seconds
        return is_late and len(self.deliveries) >= self.plan.quorum

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
            f"{len(self.plan.items)} clients' results came in, the quorum is {self.plan.quorum}"
        ]
        for item, reasons in self.queue.abandoned.items():
            lines.append(f"  client {item.client} was given up after: {'; '.join(reasons)}")
        return "\n".join(lines)
