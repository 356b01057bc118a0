from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from requestor.reporting.event_log import EventLog, TimedEvent
from requestor.reporting.run_list import (
    RunStatus,
    print_runs,
    print_status,
    read_status,
    status_record,
)
from requestor.training_run.run_directory import RunDirectory, new_run_directory

Story = list[TimedEvent]


def make_run(runs: Path, story: Story) -> RunDirectory:
    directory = new_run_directory(runs, "ppo", "CartPole-v1")
    directory.identity.write_text('{"run_id": "r1"}')
    log = EventLog(directory.events)
    for at, event in story:
        log.on_event(event, at)
    log.close()
    directory.ledger.write_text(
        json.dumps(
            {
                "kind": "invoice_accepted",
                "unix_seconds": 1.0,
                "agreement_id": "A1",
                "total_glm": "0.0015",
            }
        )
        + "\n"
    )
    return directory


def console(width: int = 100) -> Console:
    return Console(file=io.StringIO(), width=width, height=40, color_system=None, record=True)


def test_states(story: Story, tmp_path: Path) -> None:
    ended = make_run(tmp_path, story)
    killed = make_run(tmp_path, story[:20])
    new = make_run(tmp_path, [])
    assert [read_status(run).state for run in (ended, killed, new)] == [
        "completed",
        "stopped",
        "new",
    ]
    with killed.locked():
        assert read_status(killed).state == "running"


def test_record(story: Story, tmp_path: Path) -> None:
    record = status_record(read_status(make_run(tmp_path, story)))
    json.dumps(record, allow_nan=False)
    assert record["name"] == "ppo/CartPole-v1_1"
    assert (record["state"], record["rounds_done"], record["rounds_planned"]) == (
        "completed",
        2,
        2,
    )
    assert record["cost_glm"] == "0.0015"
    running = make_run(tmp_path, story[:20])
    with running.locked():
        assert status_record(read_status(running))["cost_glm"] == "0.001"  # the estimate


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_fit(story: Story, tmp_path: Path, width: int) -> None:
    statuses: list[RunStatus] = [
        read_status(make_run(tmp_path, part)) for part in (story, story[:20], [])
    ]
    out = console(width)
    print_runs(statuses, out)
    lines = out.export_text().splitlines()
    assert len(lines) == 4
    assert all(cell_len(line) <= width for line in lines)
    assert lines[1].split()[:4] == ["ppo/CartPole-v1_1", "completed", "2/2", "49.0"]
    assert lines[2].split()[:4] == ["ppo/CartPole-v1_2", "stopped", "1/2", "50.0"]


def test_no_runs() -> None:
    out = console()
    print_runs([], out)
    assert "no runs yet" in out.export_text()


def test_status_of_a_running_and_of_an_ended_run(story: Story, tmp_path: Path) -> None:
    running = make_run(tmp_path, story[:20])
    with running.locked():
        out = console()
        print_status(read_status(running), out, 1012.0)
    assert "round 2 of 2 · 0 of 2 clients" in out.export_text()
    out = console()
    print_status(read_status(make_run(tmp_path, story)), out, 1012.0)
    text = out.export_text()
    assert "ppo/CartPole-v1_2  completed" in text
    assert "0.0015 GLM of 0.5" in text
