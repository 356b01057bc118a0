"""A pool, leases and a desk in memory, and a dispatcher over them in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from provider_image.wire import (
    ClientStateMetadata,
    EnvironmentSpec,
    FileRef,
    LearnerSpec,
    ModelMetadata,
    NormalizeSpec,
    StateRules,
    Tensors,
    TrainOrder,
    TrainResult,
    WireError,
    decode_order,
    order_digest,
    specs_of,
    write_bundle,
)
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
from requestor.training_run.deliveries import Delivery, Rejection, Source
from requestor.training_run.dispatcher import Dispatcher, DispatchOptions
from requestor.training_run.errands import Errands
from requestor.training_run.order_desk import RoundDesk
from requestor.training_run.reviewing import Reviewer
from requestor.training_run.round_files import RESULT_NAME, STATE_OUTPUT_NAME, RoundFiles
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


@pytest.fixture(scope="session")
def theatre() -> Theatre:
    return Theatre(FakePool, FakeLease, Stage, plan, delivery, UNUSABLE)


# --- a desk ----------------------------------------------------------------------------------

KEPT = StateRules(optimizer="reset", replay="kept")
ITEM = plan_round(FederationSettings(1, 10, 3, 64, 3), 2).items[1]
"""The item that the office's jobs are of."""


class Office:
    """A desk over a model of two arrays, and a provider that fills its orders."""

    def __init__(self, folder: Path, rules: StateRules = StateRules()) -> None:  # noqa: B008
        self.inbox = folder / "inbox"
        self.inbox.mkdir()
        self.folder = folder
        model = folder / "model-00002.safetensors"
        tensors: Tensors = {
            "policy/weight": np.zeros((4, 2), np.float32),
            "normalizer/observation/mean": np.zeros(3),
            "normalizer/observation/var": np.ones(3),
            "normalizer/observation/count": np.array(1e-4),
        }
        metadata = ModelMetadata(
            algorithm="dqn", environment_id="E", observation_space="", action_space=""
        )
        self.files = RoundFiles(
            run_id="run-1",
            environment=EnvironmentSpec("E", n_envs=2, normalize=NormalizeSpec(rewards=False)),
            learner=LearnerSpec("dqn"),
            rules=rules,
            model=write_bundle(model, tensors, metadata),
            model_path=model,
            model_specs=specs_of(tensors),
            client_states={},
            inbox=self.inbox,
            order_timeout_seconds=77.0,
        )
        self.desk = RoundDesk(self.files)
        self._attempts = 0

    def job(self, item: WorkItem = ITEM) -> Job:
        """A new job for an item."""
        self._attempts += 1
        return self.desk.job(item, "lease", self._attempts)

    def deliver(
        self,
        job: Job,
        *,
        fill: float = 0.5,
        order_sha256: str | None = None,
        steps: int = 64,
        rows: int = 32,
    ) -> dict[str, str]:
        """Put what an honest provider would send in place; return the digests it claims."""
        order = decode_order(job.order)
        assert isinstance(order, TrainOrder)
        tensors: Tensors = {
            "policy/weight": np.full((4, 2), fill, np.float32),
            "moments/observation/mean": np.zeros(3),
            "moments/observation/var": np.ones(3),
            "moments/observation/count": np.array(66.0),
        }
        metadata = TrainResult(
            order_sha256=order_sha256 or order_digest(order),
            steps=steps,
            episodes=1,
            metrics={"train/loss": 0.25},
            wall_seconds=1.0,
            cpu_seconds=1.0,
        )
        claimed = {
            RESULT_NAME: write_bundle(job.outputs[RESULT_NAME].path, tensors, metadata).sha256
        }
        if STATE_OUTPUT_NAME in job.outputs:
            path = job.outputs[STATE_OUTPUT_NAME].path
            claimed[STATE_OUTPUT_NAME] = write_state(path, fill, rows).sha256
        return claimed

    def names(self) -> list[str]:
        """What is in the inbox."""
        return sorted(path.name for path in self.inbox.iterdir())

    def refuses(self, job: Job, claimed: dict[str, str], message: str) -> None:
        """The desk refuses what was delivered, and nothing of it is kept."""
        with pytest.raises((WireError, UpdateRejected), match=message):
            self.desk.receive(ITEM, job, claimed)
        self.desk.discard(job)
        assert self.names() == []
        assert self.desk.salvage(ITEM) is None

    def with_state(self, rows: int) -> Office:
        """Give the client a state from earlier rounds."""
        path = self.folder / "client-001-00002.safetensors"
        state = write_state(path, 3.0, rows)
        self.files = replace(self.files, client_states={1: (state, path)})
        self.desk = RoundDesk(self.files)
        return self


def replay(rows: int, fill: float = 0.0) -> Tensors:
    """The replay buffer of two environments, not yet full."""
    return {
        "replay/observations": np.full((rows, 2, 3), fill, np.float32),
        "replay/next_observations": np.full((rows, 2, 3), fill, np.float32),
        "replay/actions": np.zeros((rows, 2, 1), np.int64),
        "replay/rewards": np.full((rows, 2), fill, np.float32),
        "replay/dones": np.zeros((rows, 2), np.float32),
        "replay/timeouts": np.zeros((rows, 2), np.float32),
        "replay/position": np.array(rows),
        "replay/full": np.array(False),
    }


def write_state(path: Path, fill: float, rows: int = 32) -> FileRef:
    """A client's state."""
    metadata = ClientStateMetadata(run_id="run-1", client=1, round=2, algorithm="dqn")
    return write_bundle(path, replay(rows, fill), metadata)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


@pytest.fixture
def keeping(tmp_path: Path) -> Office:
    return Office(tmp_path, KEPT)
