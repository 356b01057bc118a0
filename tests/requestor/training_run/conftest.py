"""A pool, leases and a desk in memory, and a dispatcher over them in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from requestor.federation.rounds import (
    ClientUpdate,
    FederationSettings,
    RoundPlan,
    WorkItem,
    plan_round,
)
from requestor.federation.screening import UpdateRejected
from requestor.marketplace.ports import (
    Job,
    LeaseInfo,
    LeaseOver,
    OutputFile,
)
from requestor.marketplace.spending import Prices, SpendingGuard
from requestor.training_run import events
from requestor.training_run.dispatcher import Dispatcher, DispatchOptions
from requestor.training_run.open_round import Delivery

UNUSABLE = "unusable"
OPTIONS = DispatchOptions(
    max_attempts=3, speculate=True, round_deadline_seconds=600.0, startup_timeout_seconds=60.0
)

Act = Exception | str | float | None
"""What a lease does with an order: an error, `UNUSABLE`, a duration in seconds, or as usual."""


class FakeLease:
    """A lease that takes `seconds` for an order and follows `script` for its first ones."""

    def __init__(self, name: str, seconds: float = 1.0, script: Iterable[Act] = ()) -> None:
        self.name = name
        self.seconds = seconds
        self.script = list(script)
        self.orders: list[bytes] = []
        self.releases: list[tuple[str, bool]] = []
        self.is_over = False

    @property
    def info(self) -> LeaseInfo:
        return LeaseInfo(self.name, f"node {self.name}", f"0x{self.name}", "g", Prices())

    async def execute(self, job: Job) -> Mapping[str, str]:
        if self.is_over or self.releases:
            raise LeaseOver("it is over")
        act = self.script[len(self.orders)] if len(self.orders) < len(self.script) else None
        self.orders.append(job.order)
        await asyncio.sleep(act if isinstance(act, float) else self.seconds)
        if isinstance(act, Exception):
            raise act
        return {"result": act if isinstance(act, str) else "sound"}

    def release(self, reason: str, *, avoid: bool) -> None:
        self.releases.append((reason, avoid))


class FakePool:
    """Leases come when a test hands them in."""

    seconds_left = float("inf")
    market_view = "7 offers seen; refused: above the price ceilings (7)"

    def __init__(self, *leases: FakeLease, budget: Decimal = Decimal(10**6)) -> None:
        self.spending = SpendingGuard(budget)
        self._arrivals: asyncio.Queue[FakeLease | Exception] = asyncio.Queue()
        for lease in leases:
            self._arrivals.put_nowait(lease)

    def arrive(self, lease: FakeLease | Exception) -> None:
        """A provider becomes ready, or the marketplace is lost."""
        self._arrivals.put_nowait(lease)

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

    def job(self, item: WorkItem, lease: str, attempt: int) -> Job:
        state = " with state" if self.has_state(item) else ""
        order = f"{item.round}/{item.client}/{attempt}{state}".encode()
        assert order not in self.open_jobs
        self.open_jobs.add(order)
        outputs = {"result": OutputFile(Path(order.decode()), 100)}
        return Job(order, {}, {}, outputs, deadline_seconds=60.0)

    def receive(self, item: WorkItem, job: Job, claimed: Mapping[str, str]) -> Delivery:
        if self.receive_errors:
            raise self.receive_errors.pop()
        if claimed["result"] == UNUSABLE:
            raise UpdateRejected("policy/weight has values that are not finite")
        return delivery(item)

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


def plan(clients: int, quorum: int | None = None, round_index: int = 0) -> RoundPlan:
    """A round of `clients` items."""
    settings = FederationSettings(3, 100, clients, 10, quorum or clients)
    return plan_round(settings, round_index)


class Stage:
    """A dispatcher with everything around it; make it inside a running loop."""

    def __init__(self, pool: FakePool, **options: float) -> None:
        self.pool = pool
        self.desk = FakeDesk()
        self.log: list[tuple[float, events.Event]] = []
        self.stop = asyncio.Event()
        self.dispatcher = Dispatcher(
            pool,
            replace(OPTIONS, **options),  # type: ignore[arg-type]
            emit=lambda event: self.log.append((self.now, event)),
            clock=asyncio.get_running_loop().time,
            stop_requested=self.stop,
        )

    @property
    def now(self) -> float:
        """Seconds on the loop's clock."""
        return asyncio.get_running_loop().time()

    async def run(self, what: RoundPlan) -> list[int]:
        """Run a round; return the clients whose results came back, each checked."""
        deliveries = await self.dispatcher.run_round(what, self.desk)
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


@pytest.fixture(scope="session")
def theatre() -> Theatre:
    return Theatre(FakePool, FakeLease, Stage, plan, delivery, UNUSABLE)
