"""The closing account of a run: what came out, what it cost, who worked, where the models lie."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from requestor.marketplace.ledger import LedgerSummary
from requestor.reporting.frame import WIDE_COLUMNS
from requestor.reporting.glyphs import Glyphs, glyphs_for
from requestor.reporting.provider_view import ProviderView
from requestor.reporting.run_view import RunView
from requestor.reporting.wording import (
    clock_text,
    count_text,
    glm_text,
    one_line,
    plural,
    provider_label,
    return_text,
)

LABEL_WIDTH = 9


@dataclass(frozen=True)
class ModelFiles:
    """Where a run leaves its models; files that do not exist are not spoken of."""

    algorithm: str
    model: Path
    best_model: Path
    normalizer: Path
    best_normalizer: Path

    @property
    def opening_line(self) -> str | None:
        """Python that opens the final model in plain Stable-Baselines3."""
        if not self.model.exists():
            return None
        name = self.algorithm.upper()
        return f'from stable_baselines3 import {name}; model = {name}.load("{self.model}")'


@dataclass(frozen=True)
class ProviderAccount:
    """What one provider did and got."""

    name: str
    provider_id: str
    orders: int
    wasted_copies: int
    failures: int
    rejections: int
    steps: int
    steps_per_second: float | None
    paid_glm: Decimal


@dataclass(frozen=True)
class Summary:
    """The closing account. Steps and seconds are over all sessions of the run."""

    run_id: str
    name: str
    outcome: str
    message: str
    rounds_done: int
    rounds_planned: int
    sessions: int
    mean_return: float | None
    std_return: float | None
    episodes: int
    is_final: bool
    best_return: float | None
    best_round: int
    target_return: float | None
    total_steps: int
    wall_seconds: float
    steps_per_second: float | None
    cost_glm: Decimal
    budget_glm: Decimal
    glm_per_million_steps: Decimal | None
    providers: tuple[ProviderAccount, ...]
    files: ModelFiles


def summarize_run(view: RunView, ledger: LedgerSummary, files: ModelFiles) -> Summary:
    """Return the account of a run from its events and its ledger (what was really accepted)."""
    started, finished = view.started, view.finished
    shown = view.model_evaluation
    best = view.best_evaluation
    cost = ledger.total_glm
    return Summary(
        run_id=started.run_id if started else "",
        name=one_line(started.name) if started else "",
        outcome=finished.outcome if finished else "unfinished",
        message=finished.message if finished else "",
        rounds_done=view.rounds_done,
        rounds_planned=started.rounds if started else 0,
        sessions=view.sessions,
        mean_return=shown.mean_return if shown else None,
        std_return=shown.std_return if shown else None,
        episodes=shown.episodes if shown else 0,
        is_final=shown is not None and shown.purpose == "final",
        best_return=best.mean_return if best else None,
        best_round=view.best_round,
        target_return=started.target_return if started else None,
        total_steps=view.total_steps,
        wall_seconds=view.elapsed_seconds(),
        steps_per_second=view.steps_per_second(),
        cost_glm=cost,
        budget_glm=view.budget_glm,
        glm_per_million_steps=view.glm_per_million_steps(cost),
        providers=_accounts(view, ledger),
        files=files,
    )


def _accounts(view: RunView, ledger: LedgerSummary) -> tuple[ProviderAccount, ...]:
    providers = view.providers.values()
    accounts = [_account(view, provider, ledger) for provider in providers]
    known = {provider.id for provider in providers}
    # Agreements that ended before their provider was ready for work: paid, but never a lease.
    others: dict[str, Decimal] = {}
    for agreement, amount in ledger.accepted_glm.items():
        if ledger.provider_ids.get(agreement, "") not in known:
            name = provider_label(ledger.providers.get(agreement, ""), agreement, is_unique=True)
            others[name] = others.get(name, Decimal(0)) + amount
    accounts += [
        ProviderAccount(name, "", 0, 0, 0, 0, 0, None, amount) for name, amount in others.items()
    ]
    return tuple(accounts)


def _account(view: RunView, provider: ProviderView, ledger: LedgerSummary) -> ProviderAccount:
    paid = sum(
        (
            amount
            for agreement, amount in ledger.accepted_glm.items()
            if ledger.provider_ids.get(agreement) == provider.id
        ),
        Decimal(0),
    )
    return ProviderAccount(
        name=view.label(provider),
        provider_id=provider.id,
        orders=provider.orders_done,
        wasted_copies=provider.wasted_copies,
        failures=provider.failures,
        rejections=provider.rejections,
        steps=provider.steps,
        steps_per_second=provider.steps_per_second,
        paid_glm=paid,
    )


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
            return f"The run was stopped after {rounds}; `derl-request resume` goes on."
        case "failed":
            return f"The run failed after {rounds}; what it has reached is kept."
    return f"The run has done {rounds}."


def print_summary(summary: Summary, console: Console) -> None:
    """Print the account."""
    console.print(draw_summary(summary, glyphs_for(console.encoding), console.width))
    opening = summary.files.opening_line
    if opening is not None:
        # Never wrapped: it is there to be copied.
        console.print(Text(f"  {opening}"), soft_wrap=True)
        console.print()


def draw_summary(summary: Summary, glyphs: Glyphs, width: int) -> RenderableType:
    """Return the account for a terminal of `width` columns, less the line that opens the model."""
    facts = Table.grid(padding=0)
    facts.add_column(width=LABEL_WIDTH, style="dim")
    facts.add_column(overflow="fold")
    facts.add_row("return", _return_line(summary, glyphs))
    if comparison := _comparison(summary):
        facts.add_row("", Text(f" {glyphs.dot} ".join(comparison), style="dim"))
    facts.add_row("steps", _steps_line(summary, glyphs))
    facts.add_row("cost", _cost_line(summary, glyphs))
    models = _models(summary, glyphs)
    parts: list[RenderableType] = [Text(outcome_sentence(summary), style="bold")]
    if summary.message and summary.outcome not in ("completed", "target_reached"):
        parts.append(Text(glyphs.text(one_line(summary.message))))
    parts += [Text(""), facts, Text("")]
    if summary.providers:
        parts += [_providers(summary, glyphs, width), Text("")]
    return Padding(Group(*parts, *models), (1, 1, 0, 1))


def _return_line(summary: Summary, glyphs: Glyphs) -> Text:
    if summary.mean_return is None or summary.std_return is None:
        return Text("never evaluated")
    target = summary.target_return
    is_met = target is not None and summary.mean_return >= target
    return Text.assemble(
        (return_text(summary.mean_return), "bold green" if is_met else "bold"),
        f" {glyphs.plus_minus} {return_text(summary.std_return)}",
        (f" over {summary.episodes} held-out episodes", "dim"),
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
        line.append(f" {glyphs.dot} {summary.sessions} sessions", style="dim")
    return line


def _cost_line(summary: Summary, glyphs: Glyphs) -> Text:
    line = Text.assemble(
        f"{glm_text(summary.cost_glm)} GLM", (f" of {glm_text(summary.budget_glm)}", "dim")
    )
    if summary.glm_per_million_steps is not None:
        price = glm_text(summary.glm_per_million_steps)
        line.append(f" {glyphs.dot} {price} GLM for a million steps", style="dim")
    return line


def _providers(summary: Summary, glyphs: Glyphs, width: int) -> RenderableType:
    is_wide = width >= WIDE_COLUMNS
    table = Table(
        box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", show_footer=True
    )
    failed = sum(account.failures + account.rejections for account in summary.providers)
    late = sum(account.wasted_copies for account in summary.providers)
    columns = [
        ("provider", "total"),
        ("orders", count_text(sum(account.orders for account in summary.providers))),
        ("late", count_text(late) if late else ""),
        ("failed", count_text(failed) if failed else ""),
        ("steps", count_text(sum(account.steps for account in summary.providers))),
        ("steps/s", ""),
        ("GLM paid", glm_text(summary.cost_glm)),
    ]
    if not is_wide:
        del columns[4], columns[2]
    for title, footer in columns:
        table.add_column(
            title,
            footer=Text(footer, style="dim"),
            justify="left" if title == "provider" else "right",
            no_wrap=True,
            max_width=26,
            overflow="crop",
        )
    for account in summary.providers:
        cells = _account_cells(account, glyphs)
        if not is_wide:
            del cells[4], cells[2]
        table.add_row(*cells)
    return table


def _account_cells(account: ProviderAccount, glyphs: Glyphs) -> list[Text]:
    failed = account.failures + account.rejections
    speed = account.steps_per_second
    return [
        Text(glyphs.text(account.name)),
        Text(count_text(account.orders)),
        Text(count_text(account.wasted_copies), style="yellow")
        if account.wasted_copies
        else Text(""),
        Text(count_text(failed), style="red") if failed else Text(""),
        Text(count_text(account.steps)),
        Text("" if speed is None else count_text(speed)),
        Text(glm_text(account.paid_glm)),
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
