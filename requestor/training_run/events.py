"""What happens in a run, as frozen records: the log, the terminal and the metrics are all made
of these and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar


@dataclass(frozen=True)
class Event:
    """Base of all events; `kind` is its name in the log."""

    kind: ClassVar[str] = "event"
    registry: ClassVar[dict[str, type[Event]]] = {}

    def __init_subclass__(cls) -> None:
        """Register the event under its kind."""
        super().__init_subclass__()
        cls.kind = "".join(
            ("_" if i and c.isupper() else "") + c.lower() for i, c in enumerate(cls.__name__)
        )
        Event.registry[cls.kind] = cls


@dataclass(frozen=True)
class RunStarted(Event):
    """A process began to work on the run: anew, or resumed after `round` rounds."""

    run_id: str
    name: str
    rounds: int
    clients: int
    local_steps: int
    budget_glm: str
    round: int
    is_resumed: bool
    parameters: int
    target_return: float | None = None
    learner: str = ""
    learner_reason: str = ""


@dataclass(frozen=True)
class Notice(Event):
    """A line for the person at the terminal."""

    text: str


@dataclass(frozen=True)
class RentingStarted(Event):
    """We went to the market."""

    providers: int
    subnet: str
    payment_network: str


@dataclass(frozen=True)
class LeaseOpened(Event):
    """A provider is ready to work."""

    lease: str
    provider_name: str
    provider_id: str
    agreement_id: str


@dataclass(frozen=True)
class LeaseEnded(Event):
    """A provider works for us no more."""

    lease: str
    provider_name: str
    reason: str


@dataclass(frozen=True)
class RoundStarted(Event):
    """A round's orders may go out; `salvaged` clients' results were on the disk already."""

    round: int
    clients: int
    salvaged: int


@dataclass(frozen=True)
class OrderSent(Event):
    """A lease took a client's order."""

    round: int
    client: int
    lease: str
    is_copy: bool


@dataclass(frozen=True)
class OrderDone(Event):
    """A valid result came in; `counts` is False for a late copy, and for an audit of another's."""

    round: int
    client: int
    lease: str
    seconds: float
    steps: int
    counts: bool
    metrics: Mapping[str, float] = field(default_factory=dict)
    is_audit: bool = False


@dataclass(frozen=True)
class OrderFailed(Event):
    """A lease did not deliver."""

    round: int
    client: int
    lease: str
    reason: str


@dataclass(frozen=True)
class UpdateRejected(Event):
    """What a lease delivered is unusable."""

    round: int
    client: int
    lease: str
    reason: str


@dataclass(frozen=True)
class DeliveryRejected(Event):
    """A sound result was taken out again before the merge: `objection` is `screened` or `fraud`.

    `is_redone` tells whether its item is done again, or the round goes on without it.
    """

    round: int
    client: int
    lease: str
    provider_name: str
    provider_id: str
    objection: str
    reason: str
    is_redone: bool


@dataclass(frozen=True)
class WorkAudited(Event):
    """A client's work was done again.

    `outcome` is `verified`, `convicted`, `contradicted` (by two other providers) or `undecided`.
    """

    round: int
    client: int
    provider_name: str
    provider_id: str
    outcome: str
    reason: str
    seconds: float


@dataclass(frozen=True)
class ProviderConvicted(Event):
    """A provider has faked work: it is banned, and what it sent is done anew."""

    round: int
    client: int
    provider_name: str
    provider_id: str
    reason: str
    bills_refused: bool


@dataclass(frozen=True)
class RoundClosed(Event):
    """The round's updates were merged into a candidate.

    `left_out`: clients whose updates came in, and of which the merging rule kept nothing.
    """

    round: int
    merged_clients: tuple[int, ...]
    steps: int
    total_steps: int
    seconds: float
    left_out: tuple[int, ...] = ()


@dataclass(frozen=True)
class Evaluated(Event):
    """A model was judged on held-out episodes on our own machine."""

    round: int
    purpose: str
    episodes: int
    mean_return: float
    std_return: float
    mean_length: float
    seconds: float


@dataclass(frozen=True)
class ModelPublished(Event):
    """The candidate is the new global model."""

    round: int
    mean_difference: float
    is_best: bool


@dataclass(frozen=True)
class ModelRolledBack(Event):
    """The candidate was dropped; its parent stays. Without a difference if it never played."""

    round: int
    mean_difference: float | None
    reason: str


@dataclass(frozen=True)
class CheckpointWritten(Event):
    """Everything up to and including this round is safe."""

    round: int
    model_sha256: str


@dataclass(frozen=True)
class SpendingReported(Event):
    """The state of the money, in GLM as decimal strings.

    provider_glm: what is due to each provider (by node id) so far; empty where it is not told.
    """

    due_glm: str
    accepted_glm: str
    budget_glm: str
    provider_glm: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MarketplaceWentAway(Event):
    """The daemon was lost; the run tries to go on."""

    reason: str
    session: int


@dataclass(frozen=True)
class RunFinished(Event):
    """The process is done with the run; `outcome` is completed, target_reached, budget_reached,
    interrupted or failed. `provider_glm` is what was accepted, by provider (node id)."""

    outcome: str
    message: str
    rounds: int
    total_steps: int
    mean_return: float | None
    best_return: float | None
    cost_glm: str
    wall_seconds: float
    provider_glm: Mapping[str, str] = field(default_factory=dict)


def event_record(event: Event) -> dict[str, Any]:
    """Return the event as plain data with its kind."""
    return {"kind": event.kind, **asdict(event)}


def event_from_record(record: Mapping[str, Any]) -> Event | None:
    """Return the event of a log line; None for kinds or fields of another version."""
    kind = Event.registry.get(str(record.get("kind")))
    if kind is None:
        return None
    names = {f.name for f in fields(kind)}
    try:
        return kind(
            **{
                # JSON has no tuples
                name: tuple(value) if isinstance(value, list) else value
                for name, value in record.items()
                if name in names
            }
        )
    except TypeError:
        return None
