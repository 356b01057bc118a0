"""`kill -9` of the requestor at any instant, then `resume`: nothing lost, nothing left."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Reference, Workbench

pytestmark = pytest.mark.timeout(300)  # several whole runs in a test; machines may be busy

Settled = Callable[[Decimal, dict[str, Any]], None]
ROOT = Path(__file__).parents[2]
YAGNA = (
    "golem.mode=yagna",
    "golem.budget_glm=1",
    "golem.image=hash:sha3:" + "0" * 56 + ":http://127.0.0.1/image.gvmi",
)


@dataclass(frozen=True)
class Instant:
    """Right after the `count`-th line of `kind` (any, if empty) in a file of the run."""

    file: str
    kind: str
    count: int
    delay_seconds: float = 0.0

    def is_reached(self, lines: list[dict[str, Any]]) -> bool:
        matching = [line for line in lines if self.kind in ("", line["kind"])]
        return len(matching) >= self.count

    def __str__(self) -> str:
        delay = f"+{self.delay_seconds:.2f}s" if self.delay_seconds else ""
        return f"{self.file.split('.')[0]}-{self.kind or 'line'}-{self.count}{delay}"


INSTANTS = [
    Instant("ledger.jsonl", "allocation_intended", 1),  # is there an allocation? nobody knows
    Instant("events.jsonl", "lease_opened", 1),  # one provider ready, one on its way
    Instant("events.jsonl", "order_done", 6),  # in the middle of the second round
    Instant("events.jsonl", "round_closed", 3),  # merged, not yet judged
    Instant("ledger.jsonl", "invoice_accepted", 1),  # one of two bills paid
]


def killed(bench: Workbench, process: subprocess.Popen[str], instant: Instant) -> None:
    """Kill the requestor at the instant (or let it end, if that comes first)."""
    if bench.follow(process, instant.file, instant.is_reached):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(instant.delay_seconds)
        bench.kill(process)


def assert_like_the_reference(bench: Workbench, reference: Reference, settled: Settled) -> None:
    run = bench.run
    assert run.weights == reference.run.weights
    assert run.events("run_finished")[-1]["outcome"] == "completed"
    rounds = [event["round"] for event in run.events("checkpoint_written")]
    assert rounds == sorted(rounds)
    settled(run.spent_glm, run.books)
    bench.assert_no_process_left()


@pytest.mark.parametrize("instant", INSTANTS, ids=str)
def test_resume_after_a_kill(
    bench: Workbench, reference: Reference, settled: Settled, instant: Instant
) -> None:
    process = bench.start("run", bench.config)
    killed(bench, process, instant)
    assert process.returncode == -9
    # at once: the dead one's daemon and workers may still be about to notice
    done = bench.derl("resume", "last")
    assert done.code == 0, done.text
    assert_like_the_reference(bench, reference, settled)


@pytest.mark.slow
def test_resume_waits_for_invoices_and_says_so(
    bench: Workbench, reference: Reference, settled: Settled
) -> None:
    """An agreement that died before its activity never gets an invoice."""
    process = bench.start("run", bench.config)
    killed(bench, process, Instant("ledger.jsonl", "agreement_approved", 1))
    done = bench.derl("resume", "last")
    assert done.code == 0, done.text
    assert "waiting up to 10 s for the invoices of" in done.text
    assert_like_the_reference(bench, reference, settled)


def random_instants(seed: int, kills: int) -> list[Instant]:
    """Draw instants over the whole length of a run, by lines and fractions of a second."""
    draw = random.Random(seed)
    return [
        Instant("events.jsonl", "", draw.randint(1, 60), draw.choice([0.0, draw.uniform(0, 0.4)]))
        for _ in range(kills)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_resume_after_random_kills(
    bench: Workbench, reference: Reference, settled: Settled, seed: int
) -> None:
    """Every fourth run is killed again while it resumes."""
    instants = random_instants(seed, kills=2 if seed % 4 == 0 else 1)
    process = bench.start("run", bench.config)
    killed(bench, process, instants[0])
    for instant in instants[1:]:
        lines = len(bench.run.lines(instant.file))
        process = bench.start("resume", "last")
        killed(bench, process, Instant(instant.file, "", lines + instant.count // 2))
    if process.returncode != 0:
        done = bench.derl("resume", "last")
        assert done.code == 0, (list(map(str, instants)), done.text)
    assert_like_the_reference(bench, reference, settled)


@dataclass(frozen=True)
class Daemon:
    """A `mock-golem serve` that outlives the run, as yagna does."""

    process: psutil.Popen
    environment: dict[str, str]
    state: Path

    def books(self) -> dict[str, Any]:
        command = [sys.executable, "-m", "requestor.mock_golem", "books", "--json", "--state"]
        shown = subprocess.run([*command, self.state], capture_output=True, text=True, check=True)
        document: dict[str, Any] = json.loads(shown.stdout)
        return document


@pytest.fixture
def daemon(bench: Workbench) -> Iterator[Daemon]:
    state = bench.folder / "yagna"
    fleet = ROOT / "configs" / "fleets" / "four.yaml"
    command = [sys.executable, "-m", "requestor.mock_golem", "serve", "--json"]
    process = psutil.Popen(
        [*command, "--stop-on-stdin-eof", "--fleet", str(fleet), "--state", str(state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=bench.environment(),
        text=True,
    )
    ready = json.loads(process.stdout.readline())
    path = bench.environment()["PATH"]
    yield Daemon(
        process,
        {
            "YAGNA_APPKEY": ready["app_key"],
            "YAGNA_API_URL": ready["url"],
            "PATH": f"{ready['gftp_directory']}:{path}",
        },
        state,
    )
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


def test_resume_cleans_up_in_a_daemon_that_lived_on(
    bench: Workbench, reference: Reference, settled: Settled, daemon: Daemon
) -> None:
    key = daemon.environment["YAGNA_APPKEY"]
    process = bench.start("run", bench.config, *YAGNA, **daemon.environment)
    killed(bench, process, Instant("events.jsonl", "order_done", 6))
    left = daemon.books()
    assert [a["state"] for a in left["allocations"]] == ["open"]
    assert [a["state"] for a in left["agreements"]] == ["Approved", "Approved"]
    done = bench.derl("resume", "last", **daemon.environment)
    assert done.code == 0, done.text
    assert "cleaned up after the last process: 2 agreements ended" in done.text
    assert bench.run.weights == reference.run.weights
    books = daemon.books()
    settled(bench.run.spent_glm, books)
    assert len(books["allocations"]) == 2
    assert {agreement["terminator"] for agreement in books["agreements"]} == {"Requestor"}
    assert daemon.process.children(recursive=True) == []
    bench.assert_no_process_left(spare=[psutil.Process(daemon.process.pid)])
    assert [
        str(file)
        for file in bench.run.path.rglob("*")
        if file.is_file() and key.encode() in file.read_bytes()
    ] == [], "the app key must be in no file of the run"


def test_two_processes_cannot_work_on_one_run(bench: Workbench) -> None:
    process = bench.start("run", bench.config, "federation.rounds=1")
    assert bench.follow(process, "events.jsonl", lambda lines: len(lines) > 0)
    refused = bench.derl("resume", "last")
    assert refused.code == 2
    assert "ppo/CartPole-v1_1 is being worked on by another process" in refused.text
    assert "fix: wait for it, or stop it with Ctrl-C" in refused.text
    bench.kill(process)
