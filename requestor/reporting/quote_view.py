"""What `derl-request quote` shows, and how a run's quote did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from requestor.quoting.record import Figure, Miss, QuoteOutcome, StoredQuote
from requestor.reporting.glyphs import Glyphs, glyphs_for
from requestor.reporting.printing import print_trimmed, room
from requestor.reporting.wording import clock_text, count_text, glm_text, one_line, plural

LABEL_WIDTH = 9
MARGIN = 1
MILLION = Decimal(1_000_000)


@dataclass(frozen=True)
class QuoteView:
    """A quote and what it was made of; `measured` are orders done for it, by node id."""

    name: str
    quote: StoredQuote
    clients: int
    local_steps: int
    budget_glm: Decimal
    offers_seen: int
    offers_left: int
    removed: str = ""
    measured: Mapping[str, int] = field(default_factory=dict)
    measured_glm: Decimal = Decimal(0)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.quote.rounds * self.clients * self.local_steps


def print_quote(view: QuoteView, console: Console) -> None:
    """Print a quote."""
    glyphs, width = glyphs_for(console.encoding), room(console)
    print_trimmed(console, draw_quote(view, glyphs), width)


def draw_quote(view: QuoteView, glyphs: Glyphs) -> RenderableType:
    """Return a quote for a terminal."""
    quote = view.quote
    facts = Table.grid(padding=0)
    facts.add_column(width=LABEL_WIDTH, style="dim")
    facts.add_column(overflow="fold")
    facts.add_row("cost", _cost(view, glyphs))
    facts.add_row("time", _range(_clock(quote.wall_seconds)))
    facts.add_row("a round", _round(view, glyphs))
    facts.add_row("offers", _offers(view))
    if view.measured:
        orders = plural(sum(view.measured.values()), "order")
        paid = f"{glm_text(view.measured_glm)} GLM"
        who = plural(len(view.measured), "provider")
        facts.add_row("measured", Text(f"{orders} by {who} for {paid}"))
    assumed = Table.grid(padding=(0, 1, 0, 0))
    assumed.add_column(style="dim")
    assumed.add_column(style="dim", overflow="fold")
    for sentence in quote.assumptions:
        assumed.add_row(glyphs.dot, Text(glyphs.text(sentence)))
    parts: list[RenderableType] = [
        Text(glyphs.text(_headline(view)), style="bold"),
        Text(""),
        facts,
        Text(""),
        _providers(view, glyphs),
        Text(""),
        Text("assumed"),
        assumed,
    ]
    if (warning := _warning(view)) is not None:
        parts += [Text(""), Text(glyphs.text(warning), style="yellow")]
    return Padding(Group(*parts), (1, MARGIN))


def quote_json(view: QuoteView) -> str:
    """Return a quote as one line of JSON."""
    record: dict[str, Any] = {
        "name": one_line(view.name),
        "budget_glm": f"{view.budget_glm:f}",
        "steps": view.steps,
        "offers_seen": view.offers_seen,
        "offers_left": view.offers_left,
        "measured_orders": dict(view.measured),
        "measured_glm": f"{view.measured_glm:f}",
        **msgspec.to_builtins(view.quote),
    }
    return json.dumps(record, allow_nan=False)


def outcome_record(outcome: QuoteOutcome) -> dict[str, Any]:
    """Return as plain data how a quote did."""
    return {
        "rounds": outcome.rounds,
        "glm": _miss_record(outcome.glm),
        "wall_seconds": _miss_record(outcome.wall_seconds),
    }


def outcome_text(outcome: QuoteOutcome) -> str:
    """Say in one line how a quote did: expected, range, how far off."""
    glm, wall = outcome.glm, outcome.wall_seconds
    return (
        f"{_number(glm.quoted.expected)} GLM{_off(glm)}, "
        f"{clock_text(wall.quoted.expected)}{_off(wall)}"
    )


def _miss_record(miss: Miss) -> dict[str, Any]:
    error = miss.error
    return {
        "low": miss.quoted.low,
        "expected": miss.quoted.expected,
        "high": miss.quoted.high,
        "actual": miss.actual,
        "error": None if error is None else round(error, 4),
        "is_within": miss.is_within,
    }


def _off(miss: Miss) -> str:
    error = miss.error
    if error is None:
        return ""
    if abs(error) < 0.005:
        return " (right)"
    return f" ({abs(error):.0%} too {'much' if error > 0 else 'little'})"


def _headline(view: QuoteView) -> str:
    rounds = plural(view.quote.rounds, "round")
    return (
        f"{one_line(view.name)}: {rounds} of {plural(view.clients, 'client')}, "
        f"{count_text(view.steps)} steps"
    )


def _cost(view: QuoteView, glyphs: Glyphs) -> Text:
    glm = view.quote.glm
    line = _range((_number(glm.expected), _number(glm.low), _number(glm.high)), " GLM")
    share = Decimal(repr(glm.expected)) * MILLION / view.steps
    line.append(f" {glyphs.dot} {glm_text(share)} for a million steps", style="dim")
    line.append(f" {glyphs.dot} budget {glm_text(view.budget_glm)}", style="dim")
    return line


def _round(view: QuoteView, glyphs: Glyphs) -> Text:
    quote = view.quote
    if quote.rounds == 1:
        return Text("there is one only", style="dim")
    return Text(
        f"{_number(quote.round_glm.expected)} GLM in {quote.round_seconds.expected:.3g} s "
        f"{glyphs.dot} the first takes {quote.first_seconds.expected:.3g} s with all that comes "
        "before and after",
        style="dim",
    )


def _offers(view: QuoteView) -> Text:
    line = Text(f"{view.offers_left} of {view.offers_seen} can be rented")
    if view.removed:
        line.append(f"; removed: {view.removed}", style="dim")
    return line


def _providers(view: QuoteView, glyphs: Glyphs) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for title in ("provider", "speed is", "steps/s", "orders", "GLM", "GLM/1M steps"):
        is_text = title in ("provider", "speed is")
        table.add_column(title, justify="left" if is_text else "right", no_wrap=True)
    for share in view.quote.providers:
        steps = share.orders * view.local_steps
        speed = view.local_steps / share.order_seconds if share.order_seconds > 0 else 0.0
        rate = Decimal(repr(share.glm)) * MILLION / steps if steps else None
        table.add_row(
            Text(glyphs.text(one_line(share.name, 26))),
            Text(share.source, style="" if share.source in ("recorded", "measured") else "yellow"),
            Text(count_text(speed)),
            Text(count_text(share.orders)),
            Text(_number(share.glm)),
            Text("-" if rate is None else glm_text(rate)),
        )
    return table


def _warning(view: QuoteView) -> str | None:
    glm, budget = view.quote.glm, float(view.budget_glm)
    if glm.expected > budget:
        return (
            f"The budget of {glm_text(view.budget_glm)} GLM is expected to end before the run does."
        )
    if glm.high > budget:
        return f"The budget of {glm_text(view.budget_glm)} GLM may end before the run does."
    return None


def _range(figures: tuple[str, str, str], unit: str = "") -> Text:
    expected, low, high = figures
    return Text.assemble((f"{expected}{unit}", "bold"), (f" ({low} to {high})", "dim"))


def _clock(figure: Figure) -> tuple[str, str, str]:
    return clock_text(figure.expected), clock_text(figure.low), clock_text(figure.high)


def _number(value: float) -> str:
    return glm_text(Decimal(repr(value)))
