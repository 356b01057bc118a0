"""The real mock daemon, real yapapi, and a worker that is a shell script of a few lines.

The script copies an input to its output, so that results are well-formed bundles, and does as
the order says where it names a behaviour.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from provider_image.wire import (
    TensorSpec,
    bundle_bytes,
    check_tensors,
    read_bundle,
    sha256_file,
    write_bundle,
)
from requestor.federation.rounds import ClientUpdate, RoundPlan, WorkItem
from requestor.marketplace.choice.history import ProviderHistory
from requestor.marketplace.golem.daemon.api import DaemonAddress, DaemonApi
from requestor.marketplace.golem.paying.sweep import Sweep
from requestor.marketplace.golem.renting.rental import GolemMarketplace, GolemPool
from requestor.marketplace.money.ledger import Ledger, LedgerSummary, read_ledger
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.ports import Job, OutputFile, ProviderPool, Terms
from requestor.mock_golem.books import Books, read_books
from requestor.mock_golem.clock import SystemClock
from requestor.mock_golem.daemon import DaemonSettings, MockDaemon
from requestor.mock_golem.fleet import parse_fleet
from requestor.mock_golem.money import add, cost
from requestor.training_run import events
from requestor.training_run.dispatching.dispatcher import Dispatcher, DispatchOptions
from requestor.training_run.orders.deliveries import Delivery, Rejection, Source

INPUT, OUTPUT = "model.safetensors", "result.safetensors"
IMAGE = "hash:sha3:" + "0" * 56 + ":http://127.0.0.1/provider-image.gvmi"
PATIENCE_SECONDS = 30.0

WORKER = f"""#!/bin/sh
digest() {{ sha256sum "$1" | cut -c 1-64; }}
case "$1" in
start)
    echo '{{"format": 3, "packages": {{}}, "threads": 1}}' ;;
work)
    if grep -q poison order.json; then echo 'order.json: no such environment' >&2; exit 3; fi
    if grep -q silent order.json; then exit 0; fi
    if grep -q 'half a second' order.json; then sleep 0.5; fi
    cp {INPUT} {OUTPUT}
    printf '{{"order_sha256": "%s", "files": {{"{OUTPUT}": "%s"}}}}' \
        $(digest order.json) $(digest {OUTPUT}) ;;
esac
"""


class Note(msgspec.Struct, frozen=True):
    """The metadata of the files that travel."""

    tag: str = "note"


TENSORS = {"policy/weight": np.arange(4096, dtype=np.float32).reshape(64, 64)}
SPECS = {"policy/weight": TensorSpec("float32", (64, 64))}


class CopyDesk:
    """Orders that ask for a copy of the input; results are read as real ones are."""

    def __init__(self, folder: Path, behaviour: str, deadline_seconds: float) -> None:
        self.model = folder / INPUT
        write_bundle(self.model, TENSORS, Note())
        self._digest = sha256_file(self.model, 1 << 20)
        self._folder = folder
        self._behaviour = behaviour
        self._deadline_seconds = deadline_seconds
        self.largest_output_bytes = 0

    def job(self, item: WorkItem, lease: str, attempt: int) -> Job:
        order = {"behaviour": self._behaviour}
        output = self._folder / f"{item.round}-{item.client}-{lease}-{attempt}"
        return Job(
            order=json.dumps(order).encode(),
            inputs={INPUT: self.model},
            input_digests={INPUT: self._digest},
            outputs={OUTPUT: OutputFile(output, bundle_bytes(SPECS))},
            deadline_seconds=self._deadline_seconds,
        )

    def receive(
        self, item: WorkItem, job: Job, claimed: Mapping[str, str], source: Source | None = None
    ) -> Delivery:
        output = job.outputs[OUTPUT]
        bundle = read_bundle(output.path, max_bytes=output.max_bytes, sha256=claimed[OUTPUT])
        check_tensors(bundle.tensors, SPECS)
        return Delivery(ClientUpdate(item, bundle.tensors), {})

    def discard(self, job: Job) -> None:
        path = job.outputs[OUTPUT].path
        if path.exists():
            blocks = path.stat().st_blocks * 512
            self.largest_output_bytes = max(self.largest_output_bytes, blocks)
            path.unlink()

    def reject(self, item: WorkItem, rejection: Rejection) -> None:
        raise AssertionError("nobody reviews")

    def rejections(self, item: WorkItem) -> tuple[Rejection, ...]:
        return ()

    def has_state(self, item: WorkItem) -> bool:
        return False

    def leave_state_out(self, item: WorkItem) -> None:
        raise AssertionError("there are no states")

    def salvage(self, item: WorkItem) -> Delivery | None:
        return None


@dataclass
class Work:
    """What came of a round, and everything the dispatcher told."""

    deliveries: Sequence[Delivery]
    told: list[events.Event]
    desk: CopyDesk

    def of(self, kind: type[Any]) -> list[Any]:
        """Return the events of one kind."""
        return [event for event in self.told if isinstance(event, kind)]

    @property
    def leases(self) -> list[events.LeaseOpened]:
        """The leases in the order in which they came."""
        return self.of(events.LeaseOpened)

    @property
    def reasons(self) -> str:
        """Why leases ended and orders failed or were rejected, in one text."""
        kinds = (events.LeaseEnded, events.OrderFailed, events.UpdateRejected)
        return "\n".join(event.reason for event in self.told if isinstance(event, kinds))

    def reasons_by_provider(self) -> dict[str, str]:
        """Return the same for each provider's name."""
        names = {event.lease: event.provider_name for event in self.of(events.LeaseOpened)}
        reasons = dict.fromkeys(names.values(), "")
        for event in self.told:
            if isinstance(event, events.OrderFailed | events.UpdateRejected):
                reasons[names[event.lease]] += f"{event.reason}\n"
        return reasons


@dataclass
class Market:
    """One daemon with its fleet, and the requestor's files."""

    folder: Path
    address: DaemonAddress
    daemon: MockDaemon | None = None
    notices: list[str] = field(default_factory=list)
    rounds: int = 0

    def terms(self, **changes: Any) -> Terms:
        """Return usual terms, with short timeouts."""
        usual: dict[str, Any] = {
            "run_id": "run-1",
            "providers": 1,
            "budget_glm": Decimal(1),
            "ceilings": Prices(Decimal(1), Decimal(1), Decimal(1)),
            "memory_gib": 1.0,
            "storage_gib": 1.0,
            "threads": 1,
            "image": IMAGE,
            "image_url": None,
            "subnet": "public",
            "payment_driver": "erc20",
            "payment_network": "hoodi",
            "expiration_seconds": 3600.0,
            "deploy_timeout_seconds": 3.0,
            "invoice_timeout_seconds": 5.0,
            "daemon_patience_seconds": 3.0,
        }
        return Terms(**{**usual, **changes})

    @asynccontextmanager
    async def rent(self, **changes: Any) -> AsyncIterator[GolemPool]:
        """Open a pool."""
        ledger = Ledger(self.folder / "ledger.jsonl")
        market = GolemMarketplace(self.address, ledger, self.history)
        try:
            async with market.rent(self.terms(**changes), self.notices.append) as pool:
                yield pool
        finally:
            ledger.close()

    async def work(
        self, pool: ProviderPool, items: int = 3, *, desk: CopyDesk | None = None, **options: Any
    ) -> Work:
        """Have a round done by a real dispatcher."""
        told: list[events.Event] = []
        settings: dict[str, Any] = {
            "max_attempts": 6,
            "speculate": False,
            "round_deadline_seconds": PATIENCE_SECONDS,
            "startup_timeout_seconds": PATIENCE_SECONDS,
        }
        self.rounds += 1
        plan = RoundPlan(
            self.rounds,
            tuple(WorkItem(self.rounds, client, 1, 1, 0, 1) for client in range(items)),
            quorum=items,
        )
        desk = desk or self.desk()
        dispatcher = Dispatcher(
            pool,
            DispatchOptions(**{**settings, **options}),
            emit=told.append,
            clock=time.monotonic,
            stop_requested=asyncio.Event(),
        )
        async with dispatcher, asyncio.timeout(PATIENCE_SECONDS):
            harvest = await dispatcher.run_round(plan, desk)
            return Work(harvest.deliveries, told, desk)

    async def sweep(self, wait_seconds: float = 5.0) -> str:
        """Clean up as a resumed run does; return the report."""
        ledger = Ledger(self.folder / "ledger.jsonl")
        try:
            async with DaemonApi(self.address) as api:
                sweep = Sweep(api, ledger, "run-1", self.notices.append)
                return str(await sweep.run(wait_seconds))
        finally:
            ledger.close()

    @property
    def history(self) -> ProviderHistory:
        """What is remembered of providers across runs."""
        return ProviderHistory(self.folder / "providers.json", time.time)

    @property
    def ledger(self) -> LedgerSummary:
        """The requestor's books."""
        return read_ledger(self.folder / "ledger.jsonl")

    @property
    def books(self) -> Books:
        """The daemon's books."""
        return read_books(self.folder / "state", SystemClock())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                await asyncio.sleep(0.02)

    def desk(self, behaviour: str = "copy", deadline_seconds: float = 4.0) -> CopyDesk:
        """Return a desk whose orders ask for a behaviour."""
        return CopyDesk(self.folder, behaviour, deadline_seconds)

    def item(self, client: int = 0) -> WorkItem:
        """Return a work item."""
        return WorkItem(round=0, client=client, seed=1, local_steps=1, steps_done=0, steps_total=1)

    def job(self) -> Job:
        """Return the job of a work item."""
        return self.desk().job(self.item(), "lease", 1)

    def environment(self) -> dict[str, str]:
        """Return what finds the daemon, for another process."""
        found = {"YAGNA_API_URL": self.address.url, "YAGNA_APPKEY": self.address.app_key}
        return {**os.environ, **found}

    def states(self) -> dict[str, list[str]]:
        """Return the states of each provider's agreements, oldest first."""
        states: dict[str, list[str]] = {}
        for agreement in self.books.agreements.values():
            states.setdefault(agreement.provider_name, []).append(agreement.state)
        return states

    def paid(self) -> set[str]:
        """Return the names of providers of whom an invoice was accepted."""
        books = self.books
        return {
            books.agreements[invoice.agreement_id].provider_name
            for invoice in books.invoices.values()
            if invoice.status == "ACCEPTED"
        }

    def check_books(self, *, approved: frozenset[str] = frozenset()) -> None:
        """Hold the daemon's books against the ledger: all closed, the same to the last digit.

        `approved` names providers whose agreement cannot be ended by us.
        """
        books, ledger, now = self.books, self.ledger, SystemClock().now()
        assert not [one for one in books.allocations.values() if one.is_open(now)]
        still = {one.provider_name for one in books.agreements.values() if one.state == "Approved"}
        assert still == approved
        lost = {name for name, one in books.agreements.items() if one.provider_name in approved}
        running = [one for one in books.activities.values() if one.ended_at is None]
        assert not [one for one in running if one.agreement_id not in lost]
        assert ledger.open_agreements <= lost
        assert not ledger.open_allocations
        assert not ledger.intended_amounts
        charged = {name: books.charged_for(name) for name in books.agreements}
        assert ledger.accepted_glm == {name: glm for name, glm in charged.items() if glm}
        assert ledger.total_glm == books.spent_glm()
        for name, agreement in books.agreements.items():
            due = add(
                *(cost(agreement.coefficients, one.usage) for one in books.activities_of(name))
            )
            assert charged[name] <= due


class OpenMarket(Protocol):
    """Starts a daemon with a fleet."""

    async def __call__(self, providers: str, daemon_faults: str = "") -> Market:
        """Start a daemon of these providers and faults (YAML, in flow style)."""
        ...


class ServeMarket(Protocol):
    """Starts a daemon as a process of its own."""

    def __call__(self, providers: str) -> AbstractAsyncContextManager[tuple[Market, Process]]:
        """Start a daemon of these providers; its books are those of the last one."""
        ...


@pytest.fixture
def worker_path(tmp_path: Path) -> str:
    """The PATH of commands on providers, with the worker on it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "derl-worker"
    program.write_text(WORKER)
    program.chmod(0o755)
    return f"{folder}:/usr/local/bin:/usr/bin:/bin"


@pytest.fixture
def market_at() -> Callable[[Path, DaemonAddress], Market]:
    """Make a market of a folder and the address of a daemon that runs there."""
    return Market


@pytest_asyncio.fixture
async def open_market(
    tmp_path: Path, worker_path: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OpenMarket]:
    """Start one daemon in this process; it is stopped at the end."""
    async with AsyncExitStack() as stack:

        async def start(providers: str, daemon_faults: str = "") -> Market:
            fleet = parse_fleet(
                f"runtime: {{isolation: process, path: '{worker_path}'}}\n"
                f"providers: [{providers}]\ndaemon_faults: [{daemon_faults}]\n"
            )
            daemon = MockDaemon(DaemonSettings(fleet, state_directory=tmp_path / "state"))
            at = await daemon.start()
            stack.push_async_callback(daemon.stop)
            # yapapi finds gftp on PATH
            monkeypatch.setenv("PATH", f"{at.gftp_directory}:{os.environ['PATH']}")
            address = DaemonAddress.from_environment(
                {"YAGNA_API_URL": at.url, "YAGNA_APPKEY": at.app_key}
            )
            return Market(tmp_path, address, daemon)

        yield start


@pytest.fixture
def serve_market(tmp_path: Path, worker_path: str, monkeypatch: pytest.MonkeyPatch) -> ServeMarket:
    """Start a daemon as a process, for tests that stop or kill it."""

    @asynccontextmanager
    async def serve(providers: str) -> AsyncIterator[tuple[Market, Process]]:
        fleet = tmp_path / "fleet.yaml"
        runtime = f"runtime: {{isolation: process, path: '{worker_path}'}}"
        fleet.write_text(f"{runtime}\nproviders: [{providers}]\n")
        command = [sys.executable, "-m", "requestor.mock_golem", "serve", "--json"]
        command += ["--fleet", str(fleet), "--state", str(tmp_path / "state")]
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        try:
            assert process.stdout is not None
            ready = json.loads(await process.stdout.readline())
            monkeypatch.setenv("PATH", f"{ready['gftp_directory']}:{os.environ['PATH']}")
            address = DaemonAddress.from_environment(
                {"YAGNA_API_URL": ready["url"], "YAGNA_APPKEY": ready["app_key"]}
            )
            yield Market(tmp_path, address), process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                await process.wait()

    return serve
