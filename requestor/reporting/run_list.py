"""The runs of a folder for `ls`, and one run for `status`: read from the logs, changing nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from provider_image.wire import EnvironmentSpec
from requestor.config import environment_spec, load_config
from requestor.errors import DerlError
from requestor.marketplace.money.ledger import read_ledger
from requestor.quoting.record import find_quote
from requestor.reporting.closing_account import Summary, summarize_run
from requestor.reporting.event_log import read_events
from requestor.reporting.frame import Canvas, draw
from requestor.reporting.glyphs import Glyphs, glyphs_for
from requestor.reporting.json_output import summary_record
from requestor.reporting.model_files import ModelFiles
from requestor.reporting.printing import print_trimmed, room
from requestor.reporting.run_view import RunView
from requestor.reporting.summary import print_summary
from requestor.reporting.wording import clock_text, count_text, glm_text, return_text
from requestor.training_run.auditing.provenance_log import ProvenanceFolder
from requestor.training_run.run_directory import RunDirectory
from requestor.trust.provenance import History, ProvenanceError, summarise

GAP = 2
LEFT_ALIGNED = ("run", "state", "started")
DROPPED_FIRST = ("started", "steps", "time", "GLM", "return", "round", "state")
"""Columns that make room for the others; the name of a run is never cut."""

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
        environment=_environment(directory) if directory.normalizer.exists() else None,
    )


def _environment(directory: RunDirectory) -> EnvironmentSpec | None:
    try:
        return environment_spec(load_config(directory.config))
    except (DerlError, OSError):  # an account is no place to fail over a config
        return None


def read_status(directory: RunDirectory) -> RunStatus:
    """Read a run's log and ledger."""
    view = RunView.replay(read_events(directory.events))
    ledger = read_ledger(directory.ledger)
    quote = find_quote(directory.quote)
    files, work = model_files(directory), _work(directory)
    summary = summarize_run(view, ledger, files, directory.name, quote, work)
    return RunStatus(directory.name, _short(directory.path), _state(directory, view), view, summary)


def _work(directory: RunDirectory) -> History | None:
    try:
        records = ProvenanceFolder(directory.provenance).read()
        return summarise(records) if records else None
    except (ProvenanceError, OSError):  # `derl-request audit` tells what is wrong with it
        return None


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
        record["is_cost_open"] = True
    started = status.started_unix_seconds
    return {
        **record,
        "name": status.name,
        "path": str(status.path),
        "state": status.state,
        "session_unix_seconds": started,
        "learner": status.view.started.learner if status.view.started else "",
    }


def print_status(status: RunStatus, console: Console, now_unix_seconds: float) -> None:
    """Print one run: the live picture where it is at work, else its account."""
    if status.state == "running":
        canvas = Canvas(room(console), 1000, glyphs_for(console.encoding))
        print_trimmed(console, draw(status.view, now_unix_seconds, canvas))
        console.print()
        return
    title = Text(f" {status.name}  ", style="bold").append(_state_text(status.state))
    print_trimmed(console, title)
    print_summary(status.summary, console)


def print_runs(statuses: Sequence[RunStatus], console: Console) -> None:
    """Print the table of runs, one line each.

    A terminal gets the columns that it has room for, a pipe all of them; nothing is cut.
    """
    if not statuses:
        console.print(Text("no runs yet; `derl-request run CONFIG` makes one", style="dim"))
        return
    glyphs = glyphs_for(console.encoding)
    rows = [_cells(status, glyphs) for status in statuses]
    columns = room(console)
    titles = _fitting(rows, columns)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for title in titles:
        is_left = title in LEFT_ALIGNED
        table.add_column(title, justify="left" if is_left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[title] for title in titles))
    print_trimmed(console, table, max(columns, _width(rows, titles)))
    dead = [status.name for status in statuses if status.state == "stopped"]
    if dead and console.file.isatty():
        for note in _stopped_notes(dead):
            print_trimmed(console, Text(note, style="dim"))


def _stopped_notes(names: Sequence[str]) -> tuple[str, str]:
    name = names[0] if len(names) == 1 else "NAME"
    return (
        "stopped: the process died; open bills are settled on resume",
        f"`derl-request resume {name}` goes on from there",
    )


def _fitting(rows: Sequence[Mapping[str, Text]], columns: int) -> list[str]:
    """Return the titles of the columns that there is room for; the name is always among them."""
    titles = list(rows[0])
    for title in DROPPED_FIRST:
        if _width(rows, titles) <= columns:
            break
        titles.remove(title)
    return titles


def _width(rows: Sequence[Mapping[str, Text]], titles: Sequence[str]) -> int:
    widths = [max(len(title), *(row[title].cell_len for row in rows)) for title in titles]
    return sum(widths) + GAP * len(titles)


def _cells(status: RunStatus, glyphs: Glyphs) -> dict[str, Text]:
    """Return a run's cells by the titles of their columns."""
    view, summary = status.view, status.summary
    cost, sign = summary.cost_glm, ""
    if status.state == "running":
        cost = view.cost_glm
    elif summary.is_cost_open:
        sign = glyphs.at_least
    shown = summary.mean_return
    started = status.started_unix_seconds
    moment = "" if started is None else f"{datetime.fromtimestamp(started):%Y-%m-%d %H:%M}"
    return {
        "run": Text(glyphs.text(status.name)),
        "state": _state_text(status.state),
        "round": Text(f"{summary.rounds_done}/{summary.rounds_planned}"),
        "return": Text("-" if shown is None else return_text(shown)),
        "steps": Text(count_text(summary.total_steps)),
        "time": Text(clock_text(summary.wall_seconds)),
        "GLM": Text(sign + glm_text(cost)),
        "started": Text(moment or "-"),
    }


def _state_text(state: str) -> Text:
    return Text(state.replace("_", " "), style=STATE_STYLES.get(state, "dim"))


def _short(path: Path) -> Path:
    """Return a path below the current folder relative to it, as a person would type it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
