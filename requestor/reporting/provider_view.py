"""What is known of one provider and of one round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from requestor.reporting.wording import one_line
from requestor.training_run.events import Evaluated, OrderDone, OrderSent

ProviderState = Literal["working", "idle", "ended"]


@dataclass(frozen=True)
class Task:
    """The order that a lease is working on; `round` counts from 1."""

    round: int
    client: int
    is_copy: bool
    started_unix_seconds: float


@dataclass
class ProviderView:
    """One provider over all its leases; `busy_seconds` is the time its orders took, transfers
    included, as measured on our side. `late_steps` are those of `steps` that came in late
    copies, `audit_steps` those of items of others that were done again."""

    id: str
    name: str
    leases: dict[str, Task | None] = field(default_factory=dict)
    agreements: list[str] = field(default_factory=list)
    orders_done: int = 0
    wasted_copies: int = 0
    failures: int = 0
    rejections: int = 0
    steps: int = 0
    late_steps: int = 0
    audits: int = 0
    audit_steps: int = 0
    audit_seconds: float = 0.0
    busy_seconds: float = 0.0
    is_of_this_session: bool = False
    end_reason: str = ""
    last_failure: str = ""

    @property
    def state(self) -> ProviderState:
        """Whether it works for us at this moment."""
        if not self.leases:
            return "ended"
        return "working" if self.task else "idle"

    @property
    def task(self) -> Task | None:
        """What it is working on."""
        return next((task for task in self.leases.values() if task), None)

    @property
    def steps_per_second(self) -> float | None:
        """Environment steps per second of work; None before the first result."""
        return self.steps / self.busy_seconds if self.busy_seconds > 0 else None

    @property
    def audit_share(self) -> float:
        """The part of its orders' time that went into audits of others."""
        return self.audit_seconds / self.busy_seconds if self.busy_seconds > 0 else 0.0

    @property
    def useful_steps(self) -> int:
        """Steps of results that came in time."""
        return self.steps - self.late_steps - self.audit_steps

    @property
    def troubles(self) -> int:
        """Orders that it did not deliver or whose result was unusable."""
        return self.failures + self.rejections

    def open_lease(self, lease: str, agreement_id: str) -> None:
        """Note that a lease on it is ready."""
        self.leases[lease] = None
        self.agreements.append(agreement_id)
        self.is_of_this_session = True
        self.end_reason = ""
        self.last_failure = ""

    def end_lease(self, lease: str, reason: str) -> None:
        """Note that a lease on it is over."""
        self.leases.pop(lease, None)
        self.end_reason = one_line(reason)

    def leave_session(self, reason: str) -> None:
        """Note that the process ended, and all leases with it."""
        for lease in list(self.leases):
            self.end_lease(lease, reason)
        self.is_of_this_session = False

    def start(self, event: OrderSent, unix_seconds: float) -> None:
        """Note that it took an order."""
        self.leases[event.lease] = Task(event.round + 1, event.client, event.is_copy, unix_seconds)

    def finish(self, event: OrderDone) -> None:
        """Note a valid result."""
        self._free(event.lease)
        self.orders_done += event.counts
        self.wasted_copies += not event.counts and not event.is_audit
        self.audits += event.is_audit
        self.audit_seconds += event.seconds if event.is_audit else 0.0
        self.steps += event.steps
        self.late_steps += 0 if event.counts or event.is_audit else event.steps
        self.audit_steps += event.steps if event.is_audit else 0
        self.busy_seconds += event.seconds

    def fail(self, lease: str, reason: str, *, is_rejection: bool) -> None:
        """Note an order that brought nothing."""
        self._free(lease)
        self.rejections += is_rejection
        self.failures += not is_rejection
        self.last_failure = one_line(reason)

    def take_back(self, reason: str) -> None:
        """Note that a result that had counted was rejected."""
        self.rejections += 1
        self.last_failure = one_line(reason)

    def _free(self, lease: str) -> None:
        if lease in self.leases:
            self.leases[lease] = None


@dataclass
class RoundView:
    """One round; `number` counts from 1. `claimed` holds what the workers *say* of their own
    training, by client."""

    number: int
    clients: int = 0
    steps_by_client: dict[int, int] = field(default_factory=dict)
    claimed: dict[int, Mapping[str, float]] = field(default_factory=dict)
    salvaged: int = 0
    failed_orders: int = 0
    rejected: int = 0
    screened: int = 0
    """How many of the rejected were sound files, and rejected beside the others' or as fakes."""

    copies: int = 0
    provider_steps: dict[str, int] = field(default_factory=dict)
    provider_seconds: dict[str, float] = field(default_factory=dict)
    merged_clients: tuple[int, ...] | None = None
    steps: int = 0
    total_steps: int = 0
    seconds: float = 0.0
    evaluation: Evaluated | None = None
    is_published: bool | None = None
    is_best: bool = False
    is_checkpointed: bool = False

    @property
    def clients_done(self) -> int:
        """Clients whose results are in."""
        return min(self.clients, max(self.salvaged, len(self.steps_by_client)))

    def finish(self, event: OrderDone, provider: str) -> None:
        """Note a valid result of a provider (by its id)."""
        self.provider_steps[provider] = self.provider_steps.get(provider, 0) + event.steps
        seconds = self.provider_seconds.get(provider, 0.0)
        self.provider_seconds[provider] = seconds + event.seconds
        if event.counts:
            self.steps_by_client[event.client] = event.steps
            self.claimed[event.client] = event.metrics

    def reopen(self) -> None:
        """Forget how the round ended: a crash undid it. What its clients did is kept."""
        self.merged_clients = None
        self.evaluation = None
        self.is_published = None
        self.is_best = False
        self.is_checkpointed = False
