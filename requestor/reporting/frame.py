"""The picture of a running job: a pure function from its state to what rich draws."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from requestor.reporting.glyphs import UNICODE, Glyphs, thinned
from requestor.reporting.provider_view import ProviderView
from requestor.reporting.run_view import RunView
from requestor.reporting.wording import (
    clock_text,
    count_text,
    glm_text,
    one_line,
    plural,
    return_text,
    spread_text,
)
from requestor.trust.provenance import OWN_MACHINE

LABEL_WIDTH = 9
MARGIN = 1
LINES_ABOVE_TABLE = 10
WIDE_COLUMNS = 72
WIDEST_COLUMNS = 100
OUTCOMES = {
    "completed": ("all rounds done", "green"),
    "target_reached": ("target reached", "green"),
    "budget_reached": ("stopped: budget reached", "yellow"),
    "interrupted": ("stopped on request", "yellow"),
    "failed": ("failed", "red"),
}


@dataclass(frozen=True)
class Canvas:
    """The room there is: columns and lines of the terminal, and the characters it has."""

    width: int
    height: int
    glyphs: Glyphs = UNICODE

    @property
    def inner_width(self) -> int:
        """Columns between the margins; a wide terminal is not filled, eyes would have to travel."""
        return max(20, min(WIDEST_COLUMNS, self.width - 2 * MARGIN))


def draw(view: RunView, now_unix_seconds: float, canvas: Canvas) -> RenderableType:
    """Return the picture of `view` at a moment.

    Of a finished run only the outcome and the curve are drawn: the closing summary tells the rest.
    """
    body = Table.grid(expand=False, padding=0)
    body.add_column(width=canvas.inner_width)
    body.add_row(_title(view, canvas))
    body.add_row(_progress(view, now_unix_seconds, canvas))
    body.add_row(Text(""))
    if view.finished is not None:
        body.add_row(_whole_curve(view, canvas))
        return Padding(body, (1, MARGIN, 0, MARGIN), expand=False)
    for part in _returns(view, canvas):
        body.add_row(part)
    body.add_row(_steps(view, now_unix_seconds, canvas))
    body.add_row(_cost(view, canvas))
    if (prices := _prices(view, canvas)) is not None:
        body.add_row(prices)
    body.add_row(Text(""))
    body.add_row(_providers(view, now_unix_seconds, canvas))
    return Padding(body, (1, MARGIN, 0, MARGIN), expand=False)


def phase(view: RunView) -> str:
    """Return in a few words what the run is doing."""
    current = view.current
    if view.started is None:
        return "preparing the model"
    if view.session_unix_seconds is None:
        return "resuming"
    if current is None:
        if view.rounds_done >= view.started.rounds:
            return "final evaluation"
        return "starting" if _open_leases(view) else "looking for providers"
    if current.merged_clients is not None:
        return "evaluating"
    if not _open_leases(view):
        return "waiting for providers"
    return f"{current.clients_done} of {plural(current.clients, 'client')}"


def _open_leases(view: RunView) -> int:
    return sum(len(one.leases) for one in view.providers.values() if one.id != OWN_MACHINE)


def _title(view: RunView, canvas: Canvas) -> RenderableType:
    glyphs = canvas.glyphs
    right = Text(phase(view), style="dim")
    if view.finished is not None:
        words, color = OUTCOMES.get(view.finished.outcome, (view.finished.outcome, "yellow"))
        mark = {"green": glyphs.good, "red": glyphs.bad}.get(color, glyphs.stopped)
        right = Text(f"{mark} {words}", style=color)
    elif view.started is not None:
        number = view.current.number if view.current else view.rounds_done
        if number:
            right = Text.assemble(
                (f"round {number}", "bold"),
                (f" of {view.started.rounds}", "dim"),
                (f" {glyphs.dot} {phase(view)}", "dim"),
            )
    name = glyphs.text(one_line(view.started.name if view.started else "DeRL"))
    room = canvas.inner_width - right.cell_len - 2
    return _two_ends(Text(glyphs.fit(name, room), style="bold"), right)


def _progress(view: RunView, now: float, canvas: Canvas) -> RenderableType:
    times = clock_text(view.elapsed_seconds(now))
    remaining = view.remaining_seconds(now)
    if remaining is not None:
        times += f" {canvas.glyphs.dot} about {clock_text(remaining)} left"
    row = Table.grid(expand=True, padding=(0, 0))
    row.add_column(ratio=1)
    row.add_column(justify="right", no_wrap=True, width=len(times) + 2)
    row.add_row(_bar(view.progress, "cyan", "green"), Text(times, style="dim"))
    return row


def _returns(view: RunView, canvas: Canvas) -> list[RenderableType]:
    glyphs = canvas.glyphs
    last = view.last_evaluation
    if last is None:
        return [_labelled("return", Text("not evaluated yet", style="dim")), Text("")]
    target = view.started.target_return if view.started else None
    color = "green" if target is not None and last.mean_return >= target else ""
    mean, spread = spread_text(last.mean_return, last.std_return, glyphs.plus_minus).split(" ", 1)
    head = Text.assemble((mean, f"bold {color}"), (f" {spread}", "dim"))
    if view.is_rolled_back(last.round):
        head.append(" rolled back", style="yellow")
    head.append("   ")
    head.append_text(_curve(view, canvas.inner_width - LABEL_WIDTH - head.cell_len, canvas))
    details = []
    best = view.best_evaluation
    if best is not None:
        details.append(f"best {return_text(best.mean_return)} {_round_name(view.best_round)}")
    if target is not None:
        details.append(f"target {return_text(target)}")
    below = Text(f" {glyphs.dot} ".join(details), style="dim")
    return [_labelled("return", head), _labelled("", below)]


def _whole_curve(view: RunView, canvas: Canvas) -> RenderableType:
    curve = _curve(view, canvas.inner_width - LABEL_WIDTH - 24, canvas)
    if curve.cell_len:
        first, last = (view.evaluations[pick(view.evaluations)].mean_return for pick in (min, max))
        curve.append(f"  from {return_text(first)} to {return_text(last)}", style="dim")
    else:
        curve = Text("no round was evaluated", style="dim")
    return _labelled("returns", curve)


def _round_name(number: int) -> str:
    return f"after round {number}" if number else "before training"


def _curve(view: RunView, room: int, canvas: Canvas) -> Text:
    """Return the mean returns of all evaluations so far, in green where the target is met."""
    target = view.started.target_return if view.started else None
    values = [view.evaluations[number].mean_return for number in sorted(view.evaluations)]
    values = thinned([v for v in values if math.isfinite(v)], max(1, min(40, room)))
    if len(values) < 2:
        return Text("")
    highest = max(values) if target is None else max(*values, target)
    marks = canvas.glyphs.sparkline(values, min(values), highest)
    line = Text()
    for mark, value in zip(marks, values, strict=True):
        is_met = target is not None and value >= target
        line.append(mark, style="green" if is_met else "cyan")
    return line


def _steps(view: RunView, now: float, canvas: Canvas) -> RenderableType:
    text = Text(count_text(view.total_steps))
    speed = view.steps_per_second(now)
    if speed is not None:
        text.append(f" {canvas.glyphs.dot} {count_text(speed)} per second", style="dim")
    return _labelled("steps", text)


def _cost(view: RunView, canvas: Canvas) -> RenderableType:
    cost, budget = view.cost_glm, view.budget_glm
    share = float(cost / budget) if budget > 0 else 0.0
    text = Text.assemble(f"{glm_text(cost)}", (f" of {glm_text(budget)} GLM", "dim"))
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(no_wrap=True)
    row.add_column(width=max(8, min(24, canvas.inner_width - LABEL_WIDTH - 36)))
    row.add_column(no_wrap=True)
    percent = f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"
    color = "yellow" if share >= 0.8 else "cyan"
    row.add_row(text, _bar(share, color, "yellow"), Text(percent, style="dim"))
    return _labelled("cost", row)


def _prices(view: RunView, canvas: Canvas) -> RenderableType | None:
    """What steps and returns have cost so far; None before anything was paid or done."""
    words = []
    if view.cost_glm and (price := view.glm_per_million_steps()) is not None:
        words.append(f"{glm_text(price)} GLM per million steps")
    if view.cost_glm and (price := view.glm_per_return_point()) is not None:
        words.append(f"{glm_text(price)} per point of return gained")
    line = f" {canvas.glyphs.dot} ".join(words)
    return _labelled("", Text(line, style="dim")) if words else None


def _providers(view: RunView, now: float, canvas: Canvas) -> RenderableType:
    if not view.session_providers:
        wanted = plural(view.wanted_providers, "provider")
        what = f"asking the market for {wanted}" if view.wanted_providers else ""
        return Text(what, style="dim")
    is_wide = canvas.inner_width >= WIDE_COLUMNS
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    cut = "ellipsis" if canvas.glyphs is UNICODE else "crop"
    table.add_column(_caption(view), no_wrap=True, max_width=26 if is_wide else 20)
    table.columns[0].overflow = "ellipsis" if cut == "ellipsis" else "crop"
    table.add_column("", ratio=1, no_wrap=True)
    table.columns[1].overflow = table.columns[0].overflow
    table.add_column("orders", justify="right", no_wrap=True)
    table.add_column("steps/s", justify="right", no_wrap=True)
    if is_wide:
        table.add_column("late", justify="right", no_wrap=True)
        table.add_column("GLM", justify="right", no_wrap=True)
    table.add_column("failed", justify="right", no_wrap=True)
    shown, hidden = _choose(view, canvas)
    for provider in shown:
        cells = _provider_cells(view, provider, now, canvas)
        if not is_wide:
            del cells[4:6]
        style = "dim" if provider.state == "ended" else ""
        table.add_row(*cells, style=style)
    if not hidden:
        return table
    at_work = sum(provider.state == "working" for provider in hidden)
    more = f"and {len(hidden)} more, {at_work} of them at work"
    return Group(table, Text(canvas.glyphs.fit(more, canvas.inner_width), style="dim"))


def _caption(view: RunView) -> str:
    return f"{_open_leases(view)} of {plural(view.wanted_providers, 'provider')}"


def _choose(view: RunView, canvas: Canvas) -> tuple[list[ProviderView], list[ProviderView]]:
    """Return who is shown and who is not: those who left make room first, the order is kept."""
    room = max(3, canvas.height - LINES_ABOVE_TABLE - 2)
    everybody = view.session_providers
    if len(everybody) <= room:
        return everybody, []
    here = [provider for provider in everybody if provider.state != "ended"]
    gone = [provider for provider in everybody if provider.state == "ended"]
    ordered = here + gone
    return ordered[: room - 1], ordered[room - 1 :]


def _provider_cells(
    view: RunView, provider: ProviderView, now: float, canvas: Canvas
) -> list[Text]:
    glyphs = canvas.glyphs
    mark, color = {
        "working": (glyphs.working, "green"),
        "idle": (glyphs.idle, "dim"),
        "ended": (glyphs.ended, "red" if provider.troubles else "dim"),
    }[provider.state]
    name = Text.assemble((f"{mark} ", color), glyphs.text(view.label(provider)))
    speed = provider.steps_per_second
    return [
        name,
        _doing(provider, now, glyphs),
        Text(count_text(provider.orders_done)),
        Text("-" if speed is None else count_text(speed)),
        _count(provider.wasted_copies, "yellow"),
        Text(glm_text(view.provider_cost_glm(provider))),
        _count(provider.troubles, "red"),
    ]


def _doing(provider: ProviderView, now: float, glyphs: Glyphs) -> Text:
    task = provider.task
    if task is not None:
        what = f"client {task.client}" + (" (second copy)" if task.is_copy else "")
        since = clock_text(now - task.started_unix_seconds)
        return Text.assemble(what, (f" {glyphs.dot} {since}", "dim"))
    if provider.state == "ended":
        return Text(glyphs.text(provider.end_reason), style="dim")
    return Text("idle", style="dim")


def _count(count: int, style: str) -> Text:
    return Text(count_text(count), style=style if count else "dim")


def _bar(share: float, color: str, full_color: str) -> ProgressBar:
    return ProgressBar(
        total=1.0,
        completed=share,
        style="bright_black",
        complete_style=color,
        finished_style=full_color,
    )


def _labelled(label: str, value: RenderableType) -> RenderableType:
    row = Table.grid(padding=0)
    row.add_column(width=LABEL_WIDTH, style="dim")
    row.add_column(no_wrap=True, overflow="crop")
    row.add_row(label, value)
    return row


def _two_ends(left: Text, right: Text) -> RenderableType:
    row = Table.grid(expand=True, padding=0)
    row.add_column(ratio=1, no_wrap=True, overflow="crop")
    row.add_column(justify="right", no_wrap=True, overflow="crop")
    row.add_row(left, right)
    return row
