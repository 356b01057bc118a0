"""Runs that stop before they are through: Ctrl-C, an exhausted budget, a daemon that goes away."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Reference, Workbench

pytestmark = pytest.mark.timeout(300)  # several whole runs in a test; machines may be busy

Settled = Callable[[Decimal, dict[str, Any]], None]


def has(kind: str, count: int = 1) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda lines: sum(line["kind"] == kind for line in lines) >= count


def test_ctrl_c_stops_cleanly_and_resume_goes_on(
    bench: Workbench, reference: Reference, settled: Settled
) -> None:
    process = bench.start("run", bench.config)
    assert bench.follow(process, "events.jsonl", has("order_done", 6))
    bench.interrupt(process)
    stopped = bench.finish(process, 30)
    assert stopped.code == 130, stopped.text
    assert "stopping; agreements are ended and paid. Ctrl-C again stops at once" in stopped.text
    assert "error: stopped on request" in stopped.err
    assert "fix: `derl-request resume ppo/CartPole-v1_1` goes on from here" in stopped.err
    assert "Traceback" not in stopped.text
    books = bench.run.books
    settled(bench.run.spent_glm, books)
    assert {agreement["terminator"] for agreement in books["agreements"]} == {"Requestor"}
    assert len(books["agreements"]) == len(books["invoices"]) == 2
    assert {invoice["state"] for invoice in books["invoices"]} <= {"ACCEPTED", "SETTLED"}
    assert bench.run.events("run_finished")[-1]["outcome"] == "interrupted"
    assert (bench.run.path / "best_model.zip").exists()
    bench.assert_no_process_left()

    done = bench.derl("resume", "last")
    assert done.code == 0, done.text
    assert bench.run.weights == reference.run.weights
    settled(bench.run.spent_glm, bench.run.books)


def test_ctrl_c_twice_stops_at_once_and_resume_goes_on(
    bench: Workbench, reference: Reference, settled: Settled
) -> None:
    process = bench.start("run", bench.config)
    assert bench.follow(process, "events.jsonl", has("order_sent", 5))
    bench.interrupt(process)
    assert bench.follow(
        process,
        "events.jsonl",
        lambda lines: any("Ctrl-C again" in line.get("text", "") for line in lines),
    )
    interrupted = time.monotonic()
    bench.interrupt(process)
    stopped = bench.finish(process, 10)
    assert time.monotonic() - interrupted < 2
    assert stopped.code == 130
    assert "Traceback" not in stopped.text

    done = bench.derl("resume", "last")
    assert done.code == 0, done.text
    assert bench.run.weights == reference.run.weights
    settled(bench.run.spent_glm, bench.run.books)
    bench.assert_no_process_left()


BY_CPU_TIME = "providers: [{name: willow, count: 2, price: {cpu_hour_glm: 0.1, hour_glm: 0}}]"
LONG_JOB = (
    "algo.learner=sb3",  # half of what native rounds cost would not pay for a start
    "federation.rounds=6",
    "federation.clients=4",
    "federation.local_steps=1024",
    "evaluation.episodes=1",
)


def test_a_budget_for_half_the_job(bench: Workbench, settled: Settled) -> None:
    fleet = f"golem.fleet={bench.write('fleet.yaml', BY_CPU_TIME)}"
    reference = bench.beside("whole").train(fleet, *LONG_JOB)
    half = (reference.spent_glm / 2).quantize(Decimal("1e-9"))

    budget = ("golem.providers=1", f"golem.budget_glm={half}")
    stopped = bench.derl("run", bench.config, fleet, *LONG_JOB, *budget)
    assert stopped.code == 5, stopped.text
    assert f"error: the budget of {half.normalize():f} GLM " in stopped.err
    assert "fix: `derl-request resume ppo/CartPole-v1_1 golem.budget_glm=…`" in stopped.err
    run = bench.run
    settled(run.spent_glm, run.books)
    assert half / 4 < run.spent_glm <= half
    assert 0 < run.checkpoint["round"] < 6
    assert run.events("run_finished")[-1]["outcome"] == "budget_reached"
    assert run.checkpoint["best"]["round"] > 0
    load = "import sys; from stable_baselines3 import PPO; PPO.load(sys.argv[1])"
    best = str(run.path / "best_model.zip")
    subprocess.run([sys.executable, "-c", load, best], cwd="/", check=True)
    bench.assert_no_process_left()

    done = bench.derl("resume", "golem.budget_glm=1", "golem.providers=2")
    assert done.code == 0, done.text
    assert run.weights == reference.weights
    assert half < run.spent_glm < 1
    settled(run.spent_glm, run.books)


@pytest.mark.slow
def test_resuming_without_more_money_never_overspends(bench: Workbench, settled: Settled) -> None:
    fleet = f"golem.fleet={bench.write('fleet.yaml', BY_CPU_TIME)}"
    budget = Decimal("0.00015")
    command: tuple[str | Path, ...] = ("run", bench.config, fleet, *LONG_JOB)
    for _ in range(4):
        stopped = bench.derl(*command, f"golem.budget_glm={budget}")
        assert stopped.code == 5, stopped.text
        assert bench.run.spent_glm <= budget
        settled(bench.run.spent_glm, bench.run.books)
        command = ("resume",)


RESTARTING = """
providers: [{name: willow}, {name: alder}]
daemon_faults: [{kind: daemon_restart, after_requests: 60, down_seconds: DOWN}]
"""


def restarting_fleet(bench: Workbench, down_seconds: float) -> str:
    text = RESTARTING.replace("DOWN", str(down_seconds))
    return f"golem.fleet={bench.write('fleet.yaml', text)}"


@pytest.mark.parametrize("down_seconds", [0.5, pytest.param(5.0, marks=pytest.mark.slow)])
def test_a_daemon_that_restarts(
    bench: Workbench, reference: Reference, settled: Settled, down_seconds: float
) -> None:
    """The run goes on with whom it has rented, and says so."""
    run = bench.train(restarting_fleet(bench, down_seconds))
    assert run.weights == reference.run.weights
    assert_restarted(run.path)
    told = " ".join(event["text"] for event in run.events("notice"))
    assert "the daemon is gone (nobody answers)" in told
    assert "the daemon is back after" in told
    assert len(run.events("lease_opened")) == 2
    assert_nobody_is_blamed(bench.runs / "providers.json")
    settled(run.spent_glm, run.books)
    bench.assert_no_process_left()


def assert_restarted(folder: Path) -> None:
    """The fault must have fired, or nothing was tested."""
    assert "restart" in (folder / "logs" / "mock-golem.log").read_text()


def assert_nobody_is_blamed(history: Path) -> None:
    """Connections that break because the daemon is away are no provider's fault."""
    records = json.loads(history.read_text())
    assert {record["name"]: record["last_reason"] for record in records.values()} == {
        "willow": "",
        "alder": "",
    }
