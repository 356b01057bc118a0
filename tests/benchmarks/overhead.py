"""What renting itself costs: CPU of requestor and daemon per provider and round.

N mock providers do trivial work (a shell script that writes five bytes) for a real dispatcher,
through real yapapi and a real daemon process. After all providers are at work and some rounds to
warm up, seconds and CPU times are taken over so many rounds of N orders each. The CPU of what
runs on the providers' side, and of gftp, is counted apart: it is not overhead of ours.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import hashlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import psutil

from requestor.federation.rounds import ClientUpdate, RoundPlan, WorkItem
from requestor.marketplace.choice.history import ProviderHistory
from requestor.marketplace.golem.daemon.api import DaemonAddress
from requestor.marketplace.golem.daemon.preflight import prepend_path
from requestor.marketplace.golem.renting.rental import GolemMarketplace
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.ports import Job, OutputFile, Terms
from requestor.training_run import events
from requestor.training_run.dispatching.dispatcher import Dispatcher, DispatchOptions
from requestor.training_run.orders.deliveries import Delivery, Rejection, Source

INPUT, OUTPUT = "model.bin", "result.bin"
INPUT_BYTES = 40_000
"""About what a CartPole policy takes."""

RESULT = b"done\n"
ORDER = json.dumps(
    {"order_sha256": "0" * 64, "files": {OUTPUT: hashlib.sha256(RESULT).hexdigest()}}
)
WORKER = f"""#!/bin/sh
# every order is its own report
case "$1" in
start) echo ready ;;
work) echo done > {OUTPUT}; read -r report < order.json; echo "$report" ;;
esac
"""
IMAGE = "hash:sha3:" + "0" * 56 + ":http://127.0.0.1/provider-image.gvmi"
WARM_UP_ROUNDS = 3
START_SECONDS = 300.0


class TrivialDesk:
    """Orders with one input, new in each round, and one output."""

    def __init__(self, folder: Path, round_index: int) -> None:
        """Write the round's input into `folder`."""
        self._folder = folder
        self._model = folder / f"{round_index}.model"
        content = round_index.to_bytes(8, "big") * (INPUT_BYTES // 8)
        self._model.write_bytes(content)
        self._digest = hashlib.sha256(content).hexdigest()

    def job(self, item: WorkItem, lease: str, attempt: int) -> Job:
        """Return the job of an item."""
        output = self._folder / f"{item.round}-{item.client}-{attempt}.result"
        return Job(
            order=ORDER.encode(),
            inputs={INPUT: self._model},
            input_digests={INPUT: self._digest},
            outputs={OUTPUT: OutputFile(output, 100)},
            deadline_seconds=60.0,
        )

    def receive(
        self, item: WorkItem, job: Job, claimed: Mapping[str, str], source: Source | None = None
    ) -> Delivery:
        """Check the result."""
        digest = hashlib.sha256(job.outputs[OUTPUT].path.read_bytes()).hexdigest()
        if digest != claimed[OUTPUT]:
            raise ValueError("a result is not what its worker says")
        return Delivery(ClientUpdate(item, {}), {})

    def discard(self, job: Job) -> None:
        """Delete the result."""
        job.outputs[OUTPUT].path.unlink(missing_ok=True)

    def reject(self, item: WorkItem, rejection: Rejection) -> None:
        """Do nothing: nobody reviews."""

    def rejections(self, item: WorkItem) -> tuple[Rejection, ...]:
        """Return nothing: nobody reviews."""
        return ()

    def has_state(self, item: WorkItem) -> bool:
        """Return False: there are no states."""
        return False

    def leave_state_out(self, item: WorkItem) -> None:
        """Do nothing: there are no states."""

    def salvage(self, item: WorkItem) -> Delivery | None:
        """Return None: nothing is kept."""
        return None


@dataclass(frozen=True)
class CpuSeconds:
    """CPU seconds so far, by who spent them."""

    requestor: float
    daemon: float
    gftp: float
    providers: float

    def __sub__(self, other: CpuSeconds) -> CpuSeconds:
        """Return what was spent since."""
        return CpuSeconds(
            self.requestor - other.requestor,
            self.daemon - other.daemon,
            self.gftp - other.gftp,
            self.providers - other.providers,
        )


@dataclass(frozen=True)
class Measurement:
    """Means over the measured rounds."""

    providers: int
    rounds: int
    round_seconds: float
    median_round_seconds: float
    cpu: CpuSeconds

    def milliseconds(self, seconds: float) -> float:
        """Return CPU milliseconds per provider and round."""
        return 1000 * seconds / (self.providers * self.rounds)


def cpu_seconds(daemon: psutil.Process) -> CpuSeconds:
    """Take the CPU times of both processes and of everything that they have started."""
    own = psutil.Process()
    children = [child for child in own.children() if child.pid != daemon.pid]
    return CpuSeconds(
        requestor=_own_seconds(own),
        daemon=_own_seconds(daemon),
        gftp=sum(_tree_seconds(child) for child in children),
        providers=sum(_tree_seconds(child) for child in daemon.children()),
    )


def _own_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _tree_seconds(root: psutil.Process) -> float:
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


@asynccontextmanager
async def serve(
    folder: Path, providers: int, profile: Path | None
) -> AsyncIterator[tuple[DaemonAddress, psutil.Process]]:
    """Run a daemon process with so many providers."""
    binaries = folder / "bin"
    binaries.mkdir()
    worker = binaries / "derl-worker"
    worker.write_text(WORKER)
    worker.chmod(0o755)
    fleet = folder / "fleet.yaml"
    runtime = {"isolation": "process", "path": f"{binaries}:/usr/bin:/bin"}
    model = {"name": "oak", "count": providers}
    fleet.write_text(json.dumps({"runtime": runtime, "providers": [model]}))
    command = [sys.executable]
    if profile is not None:
        command += ["-m", "cProfile", "-o", str(profile)]
    command += ["-m", "requestor.mock_golem", "serve", "--json", "--stop-on-stdin-eof"]
    process = await asyncio.create_subprocess_exec(
        *[*command, "--fleet", str(fleet), "--state", str(folder / "state")],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        ready = json.loads(await process.stdout.readline())
        prepend_path(ready["gftp_directory"])
        address = DaemonAddress.from_environment(
            {"YAGNA_API_URL": ready["url"], "YAGNA_APPKEY": ready["app_key"]}
        )
        yield address, psutil.Process(process.pid)
    finally:
        process.stdin.close()
        await process.wait()


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def terms(providers: int) -> Terms:
    """Return the terms of the benchmark."""
    return Terms(
        run_id="benchmark",
        providers=providers,
        budget_glm=Decimal(100),
        ceilings=Prices(Decimal(1), Decimal(1), Decimal(1)),
        memory_gib=1.0,
        storage_gib=1.0,
        threads=1,
        image=IMAGE,
        image_url=None,
        subnet="public",
        payment_driver="erc20",
        payment_network="hoodi",
        expiration_seconds=3600.0,
        deploy_timeout_seconds=120.0,
        invoice_timeout_seconds=30.0,
    )


async def measure(
    providers: int, rounds: int, profile: cProfile.Profile | None, daemon_profile: Path | None
) -> Measurement:
    """Run one session and measure `rounds` rounds of one order per provider."""
    told: list[events.Event] = []
    with tempfile.TemporaryDirectory(prefix="derl-bench-") as name:
        folder = Path(name)
        async with serve(folder, providers, daemon_profile) as (address, daemon):
            ledger = Ledger(folder / "ledger.jsonl")
            history = ProviderHistory(folder / "providers.json", time.time)
            market = GolemMarketplace(address, ledger, history)
            async with market.rent(
                terms(providers), lambda text: print(text, file=sys.stderr)
            ) as pool:
                options = DispatchOptions(
                    max_attempts=3,
                    speculate=False,
                    round_deadline_seconds=600.0,
                    startup_timeout_seconds=START_SECONDS,
                )
                dispatcher = Dispatcher(
                    pool,
                    options,
                    emit=told.append,
                    clock=time.monotonic,
                    stop_requested=asyncio.Event(),
                )
                async with dispatcher:
                    async with asyncio.timeout(START_SECONDS):
                        while sum(isinstance(one, events.LeaseOpened) for one in told) < providers:
                            await asyncio.sleep(0.1)
                    for index in range(WARM_UP_ROUNDS):
                        await one_round(dispatcher, folder, index, providers)
                    if profile is not None:
                        profile.enable()
                    before = cpu_seconds(daemon)
                    times = [
                        await one_round(dispatcher, folder, WARM_UP_ROUNDS + index, providers)
                        for index in range(rounds)
                    ]
                    spent = cpu_seconds(daemon) - before
                    if profile is not None:
                        profile.disable()
            ledger.close()
    return Measurement(providers, rounds, statistics.fmean(times), statistics.median(times), spent)


async def one_round(
    dispatcher: Dispatcher, folder: Path, round_index: int, providers: int
) -> float:
    """Have one round done; return its seconds."""
    desk = TrivialDesk(folder, round_index)
    items = tuple(WorkItem(round_index, client, 1, 1, 0, 1) for client in range(providers))
    started = time.perf_counter()
    await dispatcher.run_round(RoundPlan(round_index, items, quorum=providers), desk)
    return time.perf_counter() - started


def describe_machine() -> str:
    """Return one line on the machine and the versions."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("yapapi", "aiohttp", "derl"))
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return f"{cores} cores (load {load:.1f}), Python {platform.python_version()}, {packages}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="scripts/bench overhead", description=__doc__)
    parser.add_argument("--providers", default="4,16,64", help="numbers of providers")
    parser.add_argument("--rounds", type=int, default=20, help="rounds to measure")
    parser.add_argument("--profile", type=Path, help="write a cProfile of the requestor here")
    parser.add_argument("--daemon-profile", type=Path, help="write one of the daemon here")
    given = parser.parse_args(arguments)
    print(describe_machine())
    print(
        "providers  s/round (median)   CPU-ms per provider and round: "
        "requestor  daemon | gftp  providers' side"
    )
    profile = cProfile.Profile() if given.profile else None
    for providers in map(int, given.providers.split(",")):
        found = asyncio.run(measure(providers, given.rounds, profile, given.daemon_profile))
        each = [
            found.milliseconds(seconds)
            for seconds in (
                found.cpu.requestor,
                found.cpu.daemon,
                found.cpu.gftp,
                found.cpu.providers,
            )
        ]
        print(
            f"{providers:9d}  {found.round_seconds:7.3f} ({found.median_round_seconds:6.3f})"
            f"{'':31}{each[0]:9.2f}  {each[1]:6.2f} | {each[2]:4.2f}  {each[3]:15.2f}",
            flush=True,
        )
    if profile is not None:
        profile.dump_stats(given.profile)


if __name__ == "__main__":
    main()
