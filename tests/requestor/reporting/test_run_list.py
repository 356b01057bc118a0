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
    model_files,
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


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def console(width: int = 100, stream: io.StringIO | None = None) -> Console:
    return Console(
        file=stream or Terminal(), width=width, height=40, color_system=None, record=True
    )


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


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_tables_fit(story: Story, tmp_path: Path, width: int) -> None:
    statuses: list[RunStatus] = [
        read_status(make_run(tmp_path, part)) for part in (story, story[:20], [])
    ]
    out = console(width)
    print_runs(statuses, out)
    lines = out.export_text().splitlines()
    assert all(cell_len(line) <= width and line == line.rstrip() for line in lines)
    assert lines[1].split()[:4] == ["ppo/CartPole-v1_1", "completed", "2/2", "49.0"]
    assert lines[2].split()[:4] == ["ppo/CartPole-v1_2", "stopped", "1/2", "50.0"]
    assert ("started" in lines[0]) == (width >= 100)
    assert lines[4:] == [
        "stopped: the process died; open bills are settled on resume",
        "`derl-request resume ppo/CartPole-v1_2` goes on from there",
    ]


def test_columns_make_room_and_cells_are_whole(story: Story, tmp_path: Path) -> None:
    for number in range(12):
        directory = tmp_path / "ppo" / f"MountainCarContinuous-with-a-long-name-v0_{number + 1}"
        directory.mkdir(parents=True)
        run = RunDirectory(directory)
        log = EventLog(run.events)
        for at, event in story:
            log.on_event(event, at)
        log.close()
    runs = [RunDirectory(path) for path in sorted((tmp_path / "ppo").iterdir())]
    statuses = [read_status(run) for run in runs]
    titles = {}
    for width in (40, 60, 80, 100, 120):
        out = console(width)
        print_runs(statuses, out)
        lines = out.export_text().splitlines()
        titles[width] = lines[0].split()
        assert [line.split()[0] for line in lines[1:]] == [status.name for status in statuses]
        assert width < 60 or all(cell_len(line) <= width for line in lines)
        assert "round" not in titles[width] or all("2/2" in line.split() for line in lines[1:])
    assert titles[40] == ["run"]
    assert titles[60] == ["run"]
    assert titles[80] == ["run", "state", "round", "return"]
    assert titles[100] == ["run", "state", "round", "return", "steps", "time", "GLM"]
    assert titles[120][-1] == "started"


def test_pipe_gets_every_column_whole(story: Story, tmp_path: Path) -> None:
    statuses = [read_status(make_run(tmp_path, part)) for part in (story, story[:20])]
    out = console(40, io.StringIO())
    print_runs(statuses, out)
    text = out.export_text()
    lines = text.splitlines()
    titles = ["run", "state", "round", "return", "steps", "time", "GLM", "started"]
    assert lines[0].split() == titles
    assert len(lines) == 3  # no advice among the rows
    assert [len(line.split()) for line in lines[1:]] == [9, 9]
    assert all(line == line.rstrip() for line in lines)


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
    out = console()
    print_status(read_status(make_run(tmp_path, story[:20])), out, 1012.0)
    text = out.export_text()
    assert "`derl-request resume ppo/CartPole-v1_3` goes on from there" in " ".join(text.split())
    assert "at least 0.0015 GLM of 0.5 · open bills are settled on resume" in text


def test_cost_of_a_stopped_run_in_the_list(story: Story, tmp_path: Path) -> None:
    killed = make_run(tmp_path, story[:20])
    killed.ledger.unlink()
    out = console(120)
    print_runs([read_status(killed)], out)
    assert "≥0.001 " in out.export_text()
    record = status_record(read_status(killed))
    assert (record["cost_glm"], record["is_cost_open"]) == ("0.001", True)


def test_status_of_a_running_run_in_a_pipe(story: Story, tmp_path: Path) -> None:
    running = make_run(tmp_path, story[:20])
    out = console(40, io.StringIO())
    with running.locked():
        print_status(read_status(running), out, 1012.0)
    lines = out.export_text().splitlines()
    assert any("round 2 of 2 · 0 of 2 clients" in line for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_environment_of_a_normalised_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, [])
    assert model_files(run).environment is None
    run.normalizer.touch()
    assert model_files(run).environment is None  # no config: no lines, and no error
    run.config.write_text("env: {id: Pendulum-v1, normalize: true}\nalgo: {name: ppo}\n")
    environment = model_files(run).environment
    assert environment is not None and environment.id == "Pendulum-v1"
