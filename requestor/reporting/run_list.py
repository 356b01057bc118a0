"""The runs of a folder for `ls`, and one run for `status`: read from the logs, changing nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from requestor.marketplace.ledger import read_ledger
from requestor.reporting.event_log import read_events
from requestor.reporting.frame import Canvas, draw
from requestor.reporting.glyphs import glyphs_for
from requestor.reporting.json_output import summary_record
from requestor.reporting.run_view import RunView
from requestor.reporting.summary import ModelFiles, Summary, print_summary, summarize_run
from requestor.reporting.wording import clock_text, count_text, glm_text, return_text
from requestor.training_run.run_directory import RunDirectory

STATE_STYLES = {
    "running": "cyan",
    "completed": "green",
    "target_reached": "green",
    "failed": "red",
    "stopped": "yellow",
    "interrupted": "yellow",
    "budget_reached": "yellow",
}


@dataclass(frozen=True)
class RunStatus:
    """One run as it lies on the disk.

    state: running, stopped (its process ended without a word; `resume` goes on), an outcome of
    `RunFinished`, or new.
    """

    name: str
    path: Path
    state: str
    view: RunView
    summary: Summary

    @property
    def started_unix_seconds(self) -> float | None:
        """When the present or last session began."""
        return self.view.session_unix_seconds


def model_files(directory: RunDirectory) -> ModelFiles:
    """Return where a run's models lie; runs lie in a folder named after their algorithm."""
    return ModelFiles(
        algorithm=directory.path.parent.name,
        model=_short(directory.model),
        best_model=_short(directory.best_model),
        normalizer=_short(directory.normalizer),
        best_normalizer=_short(directory.best_normalizer),
    )


def read_status(directory: RunDirectory) -> RunStatus:
    """Read a run's log and ledger."""
    view = RunView.replay(read_events(directory.events))
    summary = summarize_run(view, read_ledger(directory.ledger), model_files(directory))
    return RunStatus(directory.name, _short(directory.path), _state(directory, view), view, summary)


def _state(directory: RunDirectory, view: RunView) -> str:
    if directory.is_locked:
        return "running"
    if view.finished is not None:
        return view.finished.outcome
    return "stopped" if view.started is not None else "new"


def status_record(status: RunStatus) -> dict[str, Any]:
    """Return one run as plain data: the closing account so far, its state and its place."""
    record = summary_record(status.summary)
    if status.state == "running":
        record["cost_glm"] = f"{status.view.cost_glm:f}"
    started = status.started_unix_seconds
    return {
        **record,
        "name": status.name,
        "path": str(status.path),
        "state": status.state,
        "session_unix_seconds": started,
    }


def print_status(status: RunStatus, console: Console, now_unix_seconds: float) -> None:
    """Print one run: the live picture where it is at work, else its account."""
    if status.state == "running":
        canvas = Canvas(console.width, 1000, glyphs_for(console.encoding))
        console.print(draw(status.view, now_unix_seconds, canvas))
        console.print()
        return
    console.print(Text(f" {status.name}  ", style="bold").append(_state_text(status.state)))
    print_summary(status.summary, console)


def print_runs(statuses: Sequence[RunStatus], console: Console) -> None:
    """Print the table of runs, one line each."""
    if not statuses:
        console.print(Text("no runs yet; `derl-request run CONFIG` makes one", style="dim"))
        return
    glyphs = glyphs_for(console.encoding)
    is_wide = console.width >= 78
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    titles = ["run", "state", "round", "return", "steps", "time", "GLM", "started"]
    for index, title in enumerate(titles):
        if is_wide or title not in ("time", "started", "steps"):
            table.add_column(
                title,
                justify="left" if index < 2 or title == "started" else "right",
                no_wrap=True,
                overflow="crop",
            )
    for status in statuses:
        cells = _cells(status)
        if not is_wide:
            cells = [cells[0], cells[1], cells[2], cells[3], cells[6]]
        cells[0] = Text(glyphs.text(cells[0].plain))
        table.add_row(*cells)
    console.print(table)


def _cells(status: RunStatus) -> list[Text]:
    view, summary = status.view, status.summary
    cost = view.cost_glm if status.state == "running" else summary.cost_glm
    shown = summary.mean_return
    started = status.started_unix_seconds
    return [
        Text(status.name),
        _state_text(status.state),
        Text(f"{summary.rounds_done}/{summary.rounds_planned}"),
        Text("" if shown is None else return_text(shown)),
        Text(count_text(summary.total_steps)),
        Text(clock_text(summary.wall_seconds)),
        Text(glm_text(cost)),
        Text("" if started is None else f"{datetime.fromtimestamp(started):%Y-%m-%d %H:%M}"),
    ]


def _state_text(state: str) -> Text:
    return Text(state.replace("_", " "), style=STATE_STYLES.get(state, "dim"))


def _short(path: Path) -> Path:
    """Return a path below the current folder relative to it, as a person would type it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
