"""Requestor and daemon die at random instants: nothing is lost, left, or paid twice.

The same on the mock Golem and on real yagna (marked `testnet`). The instants of a seed are in the
test's name and in what it prints when it fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Finished, Reference, RunFolder, Workbench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Settled = Callable[[Decimal, dict[str, Any]], None]
ROOT = Path(__file__).parents[2]
SEEDS = range(int(os.environ.get("DERL_KILL_SEEDS", "10")))
LINES_OF_A_RUN = 50
"""A clean run of the tiny config writes a few more lines than this into events.jsonl."""

REQUESTS_OF_A_RUN = 130
"""And no fewer calls to the daemon."""

ON_A_DAEMON = (
    "golem.mode=yagna",
    "golem.budget_glm=1",
    "golem.image=hash:sha3:" + "0" * 56 + ":http://127.0.0.1/image.gvmi",
)


@dataclass(frozen=True)
class Instant:
    """Some time after the `line`-th line of events.jsonl."""

    line: int
    delay_seconds: float

    @classmethod
    def drawn(cls, draw: random.Random) -> Instant:
        return cls(draw.randint(1, LINES_OF_A_RUN), round(draw.uniform(0.0, 0.8), 2))

    def await_in(self, bench: Workbench, process: subprocess.Popen[str]) -> bool:
        """Wait for it; False if the program ended before."""
        if not bench.follow(process, "events.jsonl", lambda lines: len(lines) >= self.line):
            return False
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self.delay_seconds)
        return process.poll() is None


@dataclass(frozen=True)
class Daemon:
    """A daemon that outlives runs, seen through its REST alone: the same for mock and yagna."""

    process: psutil.Popen
    ready: dict[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "YAGNA_APPKEY": self.ready["app_key"],
            "YAGNA_API_URL": self.ready["url"],
            "PATH": f"{self.ready['gftp_directory']}:{os.environ['PATH']}",
        }

    def kill_yagna(self) -> None:
        """`kill -9` of the daemon; `mock-golem testnet` starts it again, with its data."""
        killed = 0
        for one in self.process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if one.name() == "yagna":
                    one.send_signal(signal.SIGKILL)
                    killed += 1
        assert killed, "no yagna runs"

    def get(self, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self.ready['app_key']}"}
        request = urllib.request.Request(self.ready["url"] + path, headers=headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def agreements(self, run_id: str) -> dict[str, str]:
        """State of each of a run's agreements, by id."""
        rows = [one for one in self.get("/market-api/v1/agreements") if is_requestors(one)]
        whole = [self.get(f"/market-api/v1/agreements/{one['id']}") for one in rows]
        mark = "golem.srv.app.derl.run"
        return {
            str(one["agreementId"]): str(one["state"])
            for one in whole
            if one["demand"]["properties"].get(mark) == run_id
        }

    def invoices(self, agreements: dict[str, str]) -> list[dict[str, Any]]:
        rows = self.get("/payment-api/v1/invoices?maxItems=1000")
        return [row for row in rows if row["agreementId"] in agreements]

    def activity_states(self, agreements: dict[str, str]) -> list[str]:
        path = "/activity-api/v1/activity"
        found = [self.get(f"{path}?agreementId={name}") for name in agreements]
        return [
            self.get(f"{path}/{activity}/state")["state"][0] for some in found for activity in some
        ]


def is_requestors(row: dict[str, Any]) -> bool:
    return str(row.get("role", "Requestor")) == "Requestor"


def assert_nothing_open(daemon: Daemon, run: RunFolder) -> str:
    """Nothing of the run is open in the daemon; return what the daemon still knows of it."""
    agreements = daemon.agreements(json.loads((run.path / "run.json").read_text())["run_id"])
    invoices = daemon.invoices(agreements)
    states = Counter(agreements.values())
    activities = Counter(daemon.activity_states(agreements))
    bills = Counter(str(invoice["status"]) for invoice in invoices)
    kept = f"agreements {dict(states)}, activities {dict(activities)}, invoices {dict(bills)}"
    assert daemon.get("/payment-api/v1/allocations") == []
    assert daemon.get("/market-api/v1/demands") == []
    told = " ".join(event["text"] for event in run.events("notice"))
    standing = states["Approved"]
    assert told.count("the agreement can't be ended, it ends by itself") >= standing, kept
    assert set(activities) <= {"Terminated"}, kept
    assert set(bills) <= {"ACCEPTED", "SETTLED"}, kept
    per_agreement = Counter(invoice["agreementId"] for invoice in invoices)
    assert set(per_agreement.values()) <= {1}, kept
    paid = sum((Decimal(str(invoice["amount"])) for invoice in invoices), Decimal(0))
    assert run.spent_glm == paid, kept
    return kept


def assert_done(done: Finished, bench: Workbench, reference: Reference, told: str) -> None:
    """The run is what it would have been had nobody died."""
    assert done.code == 0, f"{told}: {done.text}"
    assert bench.run.weights == reference.run.weights, told
    assert bench.run.events("run_finished")[-1]["outcome"] == "completed", told


def serve(bench: Workbench, *command: str) -> Iterator[Daemon]:
    """Run a daemon of four providers until the tests that share it are done."""
    fleet = ROOT / "configs" / "fleets" / "four.yaml"
    start = [sys.executable, "-m", "requestor.mock_golem", *command, "--json"]
    process = psutil.Popen(
        [*start, "--stop-on-stdin-eof", "--fleet", str(fleet), "--state", str(bench.folder / "s")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=bench.environment(),
        text=True,
    )
    try:
        yield Daemon(process, json.loads(process.stdout.readline()))
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory, make_bench: Any) -> Iterator[Daemon]:
    yield from serve(make_bench(tmp_path_factory.mktemp("mock")), "serve")


@pytest.fixture(scope="module")
def yagna(tmp_path_factory: pytest.TempPathFactory, make_bench: Any) -> Iterator[Daemon]:
    yield from serve(make_bench(tmp_path_factory.mktemp("yagna")), "testnet")


@pytest.fixture(params=["mock", pytest.param("yagna", marks=pytest.mark.testnet)])
def daemon(request: pytest.FixtureRequest) -> Daemon:
    """Either daemon."""
    found: Daemon = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_the_requestor_dies(
    bench: Workbench, reference: Reference, daemon: Daemon, seed: int
) -> None:
    """At a random instant; `resume` finishes the run on the daemon that lived on."""
    instant = Instant.drawn(random.Random(f"requestor {seed}"))
    process = bench.start("run", bench.config, *ON_A_DAEMON, **daemon.environment)
    if instant.await_in(bench, process):
        bench.kill(process)
        done = bench.derl("resume", "last", **daemon.environment)
    else:
        done = bench.finish(process)
    assert_done(done, bench, reference, f"seed {seed}: {instant}")
    print(f"seed {seed}: {instant}: {assert_nothing_open(daemon, bench.run)}")


@pytest.mark.testnet
@pytest.mark.parametrize("seed", SEEDS)
def test_the_real_daemon_dies(
    bench: Workbench, reference: Reference, yagna: Daemon, seed: int
) -> None:
    """At a random instant, and comes back; the run goes on by itself."""
    instant = Instant.drawn(random.Random(f"daemon {seed}"))
    process = bench.start("run", bench.config, *ON_A_DAEMON, **yagna.environment)
    was_killed = instant.await_in(bench, process)
    if was_killed:
        yagna.kill_yagna()
    done = bench.finish(process)
    told = f"seed {seed}: {instant}{'' if was_killed else ' (too late)'}"
    assert_done(done, bench, reference, told)
    print(f"{told}: {notices(bench.run)} {assert_nothing_open(yagna, bench.run)}")


RESTARTING = """
providers: [{name: willow}, {name: alder}, {name: rowan}]
daemon_faults: [{kind: daemon_restart, after_requests: REQUESTS, times: 1, down_seconds: DOWN}]
"""


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mock_daemon_restarts(
    bench: Workbench, reference: Reference, settled: Settled, seed: int
) -> None:
    """In a random request, whose answer is lost."""
    draw = random.Random(f"restart {seed}")
    requests, down_seconds = draw.randint(3, REQUESTS_OF_A_RUN), round(draw.uniform(0.1, 4.0), 1)
    text = RESTARTING.replace("REQUESTS", str(requests)).replace("DOWN", str(down_seconds))
    done = bench.derl("run", bench.config, f"golem.fleet={bench.write('fleet.yaml', text)}")
    told = f"seed {seed}: in request {requests}, for {down_seconds} s"
    assert_done(done, bench, reference, told)
    settled(bench.run.spent_glm, bench.run.books)
    print(f"{told}: {notices(bench.run)}")


def notices(run: RunFolder) -> list[str]:
    return [event["text"] for event in run.events("notice")]
