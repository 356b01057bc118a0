"""The closing account as text for a terminal or a pipe."""

from __future__ import annotations

from decimal import Decimal

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from requestor.reporting.audit_view import draw_voices, was_audited
from requestor.reporting.closing_account import ProviderAccount, Summary
from requestor.reporting.frame import WIDE_COLUMNS
from requestor.reporting.glyphs import Glyphs, glyphs_for
from requestor.reporting.printing import PIPE_COLUMNS, print_trimmed, room
from requestor.reporting.quote_view import outcome_text
from requestor.reporting.wording import (
    clock_text,
    count_text,
    glm_text,
    one_line,
    plural,
    return_text,
    spread_text,
)

LABEL_WIDTH = 9


def outcome_sentence(summary: Summary) -> str:
    """Return in one sentence how the run ended."""
    rounds = f"{summary.rounds_done} of {plural(summary.rounds_planned, 'round')}"
    match summary.outcome:
        case "target_reached":
            return f"The target was reached after {rounds}."
        case "completed":
            return f"The run is complete: {rounds}."
        case "budget_reached":
            return f"The run stopped within its budget after {rounds}."
        case "interrupted":
            return f"The run was stopped on request after {rounds}."
        case "failed":
            return f"The run failed after {rounds}; what it has reached is kept."
    if not summary.sessions:
        return "The run has not begun."
    return f"The run's process ended without a word after {rounds}."


def resume_hint(summary: Summary) -> str | None:
    """Return how the run goes on, if it can."""
    if summary.outcome in ("completed", "target_reached"):
        return None
    command = f"derl-request resume {summary.run_name}"
    if summary.outcome == "budget_reached":
        return f"`{command} golem.budget_glm=MORE` goes on."
    return f"`{command}` goes on from there."


def print_summary(summary: Summary, console: Console) -> None:
    """Print the account."""
    print_trimmed(console, draw_summary(summary, glyphs_for(console.encoding), room(console)))
    for opening in summary.files.opening_lines:
        # Never wrapped: it is there to be copied.
        console.print(Text(f"  {opening}"), soft_wrap=True)
    if summary.files.opening_lines:
        console.print()


def draw_summary(summary: Summary, glyphs: Glyphs, width: int) -> RenderableType:
    """Return the account for a terminal of `width` columns, less the lines that open the model."""
    facts = Table.grid(padding=0)
    facts.add_column(width=LABEL_WIDTH, style="dim")
    facts.add_column(overflow="fold")
    facts.add_row("return", _return_line(summary, glyphs))
    if comparison := _comparison(summary):
        facts.add_row("", Text(f" {glyphs.dot} ".join(comparison), style="dim"))
    facts.add_row("steps", _steps_line(summary, glyphs))
    facts.add_row("cost", _cost_line(summary, glyphs))
    if (prices := _price_line(summary, glyphs)) is not None:
        facts.add_row("", prices)
    if summary.quote is not None:
        facts.add_row("quote", Text(glyphs.text(outcome_text(summary.quote)), style="dim"))
    models = _models(summary, glyphs)
    sentence, message = outcome_sentence(summary), one_line(summary.message)
    parts: list[RenderableType] = [Text(glyphs.text(sentence), style="bold")]
    if message not in sentence and summary.outcome not in ("completed", "target_reached"):
        parts.append(Text(glyphs.text(message)))
    if (hint := resume_hint(summary)) is not None:
        parts.append(Text(glyphs.text(hint)))
    if summary.is_untrained:
        parts.append(Text(_untrained_sentence(summary), style="bold yellow"))
    parts += [Text(""), facts, Text("")]
    if summary.providers:
        parts += [_providers(summary, glyphs, width), Text("")]
    if summary.work is not None and was_audited(summary.work):
        parts += [draw_voices(summary.work, glyphs), Text("")]
    return Padding(Group(*parts, *models), (1, 1, 0, 1))


def _untrained_sentence(summary: Summary) -> str:
    return (
        f"NO ROUND WAS PUBLISHED: what was judged in {plural(summary.rounds_done, 'round')} was "
        "rolled back every time, so the model is still the untrained one. See evaluation.gate in "
        "the config, and whether the learning rate and the steps of a round fit."
    )


def _return_line(summary: Summary, glyphs: Glyphs) -> Text:
    if summary.mean_return is None or summary.std_return is None:
        return Text("never evaluated")
    target = summary.target_return
    is_met = target is not None and summary.mean_return >= target
    text = spread_text(summary.mean_return, summary.std_return, glyphs.plus_minus)
    mean, spread = text.split(" ", 1)
    return Text.assemble(
        (mean, "bold green" if is_met else "bold"),
        f" {spread}",
        (f" over {plural(summary.episodes, 'held-out episode')}", "dim"),
    )


def _comparison(summary: Summary) -> list[str]:
    words = []
    if summary.best_return is not None:
        where = f"after round {summary.best_round}" if summary.best_round else "before training"
        words.append(f"best {return_text(summary.best_return)} {where}")
    if summary.target_return is not None:
        words.append(f"target {return_text(summary.target_return)}")
    return words


def _steps_line(summary: Summary, glyphs: Glyphs) -> Text:
    line = Text.assemble(
        count_text(summary.total_steps), (f" in {clock_text(summary.wall_seconds)}", "dim")
    )
    if summary.steps_per_second is not None:
        speed = count_text(summary.steps_per_second)
        line.append(f" {glyphs.dot} {speed} per second", style="dim")
    if summary.sessions > 1:
        line.append(f" {glyphs.dot} {plural(summary.sessions, 'session')}", style="dim")
    return line


def _cost_line(summary: Summary, glyphs: Glyphs) -> Text:
    line = Text.assemble(
        "at least " if summary.is_cost_open else "",
        f"{glm_text(summary.cost_glm)} GLM",
        (f" of {glm_text(summary.budget_glm)}", "dim"),
    )
    if summary.is_cost_open:
        line.append(f" {glyphs.dot} open bills are settled on resume", style="yellow")
    elif summary.glm_per_million_steps is not None:
        price = glm_text(summary.glm_per_million_steps)
        line.append(f" {glyphs.dot} {price} GLM for a million steps", style="dim")
    return line


def _price_line(summary: Summary, glyphs: Glyphs) -> Text | None:
    """What a point of return has cost, or that none was gained; and what is still owed."""
    words = []
    is_measured = summary.mean_return is not None and summary.untrained_return is not None
    if summary.cost_glm and is_measured:
        if summary.glm_per_return_point is not None:
            price = glm_text(summary.glm_per_return_point)
            words.append(f"{price} GLM for each point of return above the untrained model's")
        else:
            words.append("it has bought no return above the untrained model's")
    line = Text(f" {glyphs.dot} ".join(words), style="dim")
    if summary.owed_glm:
        separator = f" {glyphs.dot} " if words else ""
        owed = f"{separator}{glm_text(summary.owed_glm)} GLM are owed beyond the budget"
        line.append(owed, style="yellow")
    return line if line.cell_len else None


def _providers(summary: Summary, glyphs: Glyphs, width: int) -> RenderableType:
    is_wide = width >= WIDE_COLUMNS
    table = Table(
        box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", show_footer=True
    )
    failed = sum(account.failures + account.rejections for account in summary.providers)
    late = sum(account.wasted_copies for account in summary.providers)
    steps = sum(account.steps for account in summary.providers)
    columns = [
        ("provider", "total"),
        ("orders", count_text(sum(account.orders for account in summary.providers))),
        ("late", count_text(late)),
        ("failed", count_text(failed)),
        ("steps", count_text(steps)),
        ("steps/s", ""),
        ("GLM paid", glm_text(sum((a.paid_glm for a in summary.providers), Decimal(0)))),
        ("GLM/M steps", ""),
    ]
    if not is_wide:
        del columns[7]
        del columns[4], columns[2]
    for title, footer in columns:
        table.add_column(
            title,
            footer=Text(footer, style="dim"),
            justify="left" if title == "provider" else "right",
            no_wrap=True,
            max_width=26 if width < PIPE_COLUMNS else None,
            overflow="crop",
        )
    for account in summary.providers:
        cells = _account_cells(account, glyphs)
        if not is_wide:
            del cells[7], cells[4], cells[2]
        table.add_row(*cells)
    notes = [*_audit_notes(summary), *(_step_notes(summary, steps) if is_wide else [])]
    return Group(table, *(Text(note, style="dim") for note in notes))


def _audit_notes(summary: Summary) -> list[str]:
    """Say what it has cost that providers did others' work again."""
    audits = sum(account.audits for account in summary.providers)
    if not audits:
        return []
    cost = glm_text(sum((account.audit_glm for account in summary.providers), Decimal(0)))
    return [f"{cost} GLM of it went into audits: providers did {plural(audits, 'item')} again"]


def _step_notes(summary: Summary, steps: int) -> list[str]:
    """Say why the providers' steps are not the run's."""
    late = sum(account.late_steps for account in summary.providers)
    notes = []
    if late:
        notes.append(f"late copies did {plural(late, 'more step')} that no round needed")
    if steps > summary.total_steps:
        surplus = count_text(steps - summary.total_steps)
        notes.append(
            f"{surplus} of these steps are of rounds that were not finished or were done again"
        )
    return notes


def _account_cells(account: ProviderAccount, glyphs: Glyphs) -> list[Text]:
    failed = account.failures + account.rejections
    speed = account.steps_per_second
    price = account.glm_per_million_steps
    return [
        Text(glyphs.text(account.name)),
        Text(count_text(account.orders)),
        Text(count_text(account.wasted_copies), style="yellow" if account.wasted_copies else "dim"),
        Text(count_text(failed), style="red" if failed else "dim"),
        Text(count_text(account.steps)),
        Text("-" if speed is None else count_text(speed)),
        Text(glm_text(account.paid_glm)),
        Text("-" if price is None else glm_text(price)),
    ]


def _models(summary: Summary, glyphs: Glyphs) -> list[RenderableType]:
    files = summary.files
    named = [
        ("model", files.model),
        ("best", files.best_model),
        ("norm", files.normalizer),
        ("", files.best_normalizer),
    ]
    rows = [(label, path) for label, path in named if path.exists()]
    if not rows:
        return []
    table = Table.grid(padding=0)
    table.add_column(width=LABEL_WIDTH, style="dim")
    table.add_column(overflow="fold")
    for label, path in rows:
        table.add_row(label, Text(glyphs.text(str(path))))
    return [table, Text("")]
