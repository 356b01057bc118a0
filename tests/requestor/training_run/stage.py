"""A pool, leases and a desk in memory, and a dispatcher over them in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import numpy as np

from requestor.federation.rounds import (
    ClientUpdate,
    FederationSettings,
    RoundPlan,
    WorkItem,
    plan_round,
)
from requestor.federation.screening import UpdateRejected
from requestor.federation.voices import TRUSTING, VoicePlan
from requestor.marketplace.choice.failures import FailureKind
from requestor.marketplace.money.spending import Prices, SpendingGuard
from requestor.marketplace.ports import (
    Job,
    LeaseInfo,
    LeaseOver,
    OutputFile,
)
from requestor.training_run import events
from requestor.training_run.dispatching.dispatcher import Dispatcher, DispatchOptions
from requestor.training_run.dispatching.errands import Errands
from requestor.training_run.dispatching.reviewing import Reviewer
from requestor.training_run.orders.deliveries import Delivery, Rejection, Source
from requestor.trust.provenance import OWN_MACHINE

UNUSABLE = "unusable"
OPTIONS = DispatchOptions(
    max_attempts=3, speculate=True, round_deadline_seconds=600.0, startup_timeout_seconds=60.0
)

Act = Exception | str | float | None
"""What a lease does with an order: an error, `UNUSABLE`, a duration in seconds, or as usual."""


class FakeLease:
    """A lease that takes `seconds` for an order and follows `script` for its first ones."""

    def __init__(
        self,
        name: str,
        seconds: float = 1.0,
        script: Iterable[Act] = (),
        wallet: str | None = None,
        is_own: bool = False,
    ) -> None:
        self.name = name
        self.is_own = is_own
        self.wallet = wallet
        self.seconds = seconds
        self.script = list(script)
        self.orders: list[bytes] = []
        self.releases: list[tuple[str, bool]] = []
        self.failures: list[FailureKind] = []
        self.assessed: list[tuple[int, float]] = []
        self.is_over = False

    @property
    def info(self) -> LeaseInfo:
        if self.is_own:
            return LeaseInfo(OWN_MACHINE, OWN_MACHINE, "", "", Prices())
        name, node = f"node {self.name}", f"0x{self.name}"
        return LeaseInfo(self.name, name, node, "g", Prices(), self.wallet)

    async def execute(self, job: Job) -> Mapping[str, str]:
        if self.is_over or self.releases:
            raise LeaseOver("it is over")
        act = self.script[len(self.orders)] if len(self.orders) < len(self.script) else None
        self.orders.append(job.order)
        await asyncio.sleep(act if isinstance(act, float) else self.seconds)
        if isinstance(act, Exception):
            raise act
        return {"result": act if isinstance(act, str) else "sound"}

    def assess(self, useful_steps: int, seconds: float) -> None:
        self.assessed.append((useful_steps, seconds))

    def release(self, reason: str, *, avoid: bool, failure: FailureKind = "other") -> None:
        if self.is_own:
            return
        self.releases.append((reason, avoid))
        self.failures.append(failure)


class FakePool:
    """Leases come when a test hands them in."""

    seconds_left = float("inf")
    awaits_more = True
    market_view = "7 offers seen; refused: above the price ceilings (7)"

    def __init__(self, *leases: FakeLease, budget: Decimal = Decimal(10**6)) -> None:
        self.spending = SpendingGuard(budget)
        self.reviews = 0
        self._arrivals: asyncio.Queue[FakeLease | Exception] = asyncio.Queue()
        for lease in leases:
            self._arrivals.put_nowait(lease)

    def arrive(self, lease: FakeLease | Exception) -> None:
        """A provider becomes ready, or the marketplace is lost."""
        self._arrivals.put_nowait(lease)

    def review(self) -> None:
        self.reviews += 1

    async def next_lease(self) -> FakeLease:
        arrival = await self._arrivals.get()
        if isinstance(arrival, Exception):
            raise arrival
        return arrival


@dataclass
class FakeDesk:
    """Results are pure functions of their items; every job must be discarded exactly once."""

    kept: dict[WorkItem, Delivery] = field(default_factory=dict)
    receive_errors: list[Exception] = field(default_factory=list)
    open_jobs: set[bytes] = field(default_factory=set)
    states: set[int] = field(default_factory=set)
    rejected: dict[WorkItem, list[Rejection]] = field(default_factory=dict)

    def job(self, item: WorkItem, lease: str, attempt: int) -> Job:
        state = " with state" if self.has_state(item) else ""
        order = f"{item.round}/{item.client}/{attempt}{state}".encode()
        assert order not in self.open_jobs
        self.open_jobs.add(order)
        outputs = {"result": OutputFile(Path(order.decode()), 100)}
        return Job(order, {}, {}, outputs, deadline_seconds=60.0)

    def receive(
        self, item: WorkItem, job: Job, claimed: Mapping[str, str], source: Source | None = None
    ) -> Delivery:
        if self.receive_errors:
            raise self.receive_errors.pop()
        if claimed["result"] == UNUSABLE:
            raise UpdateRejected("policy/weight has values that are not finite")
        made = delivery(item)
        voice = source.voice if source is not None else ""
        return replace(
            made,
            update=replace(made.update, voice=voice),
            source=source,
            result_sha256=claimed["result"],
        )

    def reject(self, item: WorkItem, rejection: Rejection) -> None:
        self.rejected.setdefault(item, []).append(rejection)

    def rejections(self, item: WorkItem) -> tuple[Rejection, ...]:
        return tuple(self.rejected.get(item, ()))

    def discard(self, job: Job) -> None:
        self.open_jobs.remove(job.order)

    def has_state(self, item: WorkItem) -> bool:
        return item.client in self.states

    def leave_state_out(self, item: WorkItem) -> None:
        self.states.remove(item.client)

    def salvage(self, item: WorkItem) -> Delivery | None:
        return self.kept.get(item)


def delivery(item: WorkItem) -> Delivery:
    """The one right result of an item."""
    return Delivery(
        ClientUpdate(item, {"policy/weight": np.array([item.seed], np.float32)}), {"x": 1.0}
    )


def plan(
    clients: int, quorum: int | None = None, round_index: int = 0, voices: VoicePlan = TRUSTING
) -> RoundPlan:
    """A round of `clients` items."""
    settings = FederationSettings(3, 100, clients, 10, quorum or clients, voices=voices)
    return plan_round(settings, round_index)


class Stage:
    """A dispatcher with everything around it; make it inside a running loop."""

    def __init__(
        self,
        pool: FakePool,
        *,
        reviewers: Sequence[Reviewer] = (),
        own_machine: FakeLease | None = None,
        errands: Errands | None = None,
        **options: float,
    ) -> None:
        self.pool = pool
        self.desk = FakeDesk()
        self.log: list[tuple[float, events.Event]] = []
        self.full_at: type[events.Event] | None = None
        self.stop = asyncio.Event()
        self.dispatcher = Dispatcher(
            pool,
            replace(OPTIONS, **options),  # type: ignore[arg-type]
            emit=self._report,
            clock=asyncio.get_running_loop().time,
            stop_requested=self.stop,
            reviewers=reviewers,
            own_machine=own_machine,
            errands=errands,
        )

    def _report(self, event: events.Event) -> None:
        if self.full_at is not None and isinstance(event, self.full_at):
            raise OSError(28, "No space left on device")
        self.log.append((self.now, event))

    @property
    def now(self) -> float:
        """Seconds on the loop's clock."""
        return asyncio.get_running_loop().time()

    async def run(self, what: RoundPlan) -> list[int]:
        """Run a round; return the clients whose results came back, each checked."""
        self.harvest = await self.dispatcher.run_round(what, self.desk)
        deliveries = self.harvest.deliveries
        for made in deliveries:
            assert made.update.tensors == delivery(made.update.item).update.tensors
        return [made.update.item.client for made in deliveries]

    def events(self, kind: type[events.Event]) -> list[events.Event]:
        """The events of one kind, in order."""
        return [event for _, event in self.log if isinstance(event, kind)]

    def counted(self) -> list[tuple[int, int]]:
        """(round, client) of every result that counted, in order of arrival."""
        return [
            (event.round, event.client)
            for _, event in self.log
            if isinstance(event, events.OrderDone) and event.counts
        ]


@dataclass(frozen=True)
class Theatre:
    """What the tests of the dispatcher work with."""

    pool: type[FakePool]
    lease: type[FakeLease]
    stage: type[Stage]
    plan: Callable[..., RoundPlan]
    delivery: Callable[[WorkItem], Delivery]
    unusable: str
