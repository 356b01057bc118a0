"""The account of a run's money with each provider, as a table and as plain data."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from requestor.marketplace.money.statement import (
    AgreementStatement,
    ProviderStatement,
    Statement,
    glm_per_million_steps,
)
from requestor.reporting.glyphs import Glyphs, glyphs_for
from requestor.reporting.printing import print_trimmed, room
from requestor.reporting.wording import (
    clock_text,
    count_text,
    glm_text,
    one_line,
    plural,
    provider_label,
)

TITLES = ("provider", "agreements", "asked", "paid", "orders", "steps", "work", "GLM/M steps")
DROPPED_FIRST = ("work", "agreements", "asked", "orders")
GAP = 2
MAX_REFUSALS = 12


def money_record(statement: Statement) -> dict[str, Any]:
    """Return the statement as plain data: amounts are decimal strings, exact to the last digit."""
    return {
        "budget_glm": _amount(statement.budget_glm),
        "accepted_glm": _amount(statement.accepted_glm),
        "owed_glm": _amount(statement.owed_glm),
        "audit_orders": statement.audit_orders,
        "allocations": statement.allocations,
        "open_allocations": sorted(statement.open_allocations),
        "providers": [_provider_record(provider) for provider in statement.providers],
    }


def print_money(statement: Statement, console: Console) -> None:
    """Print the statement: a line for each provider, then every bill that was not accepted."""
    glyphs = glyphs_for(console.encoding)
    if not statement.agreements:
        console.print(Text("nothing was rented, nothing was paid", style="dim"))
        return
    parts: list[RenderableType] = [_table(statement, glyphs, room(console)), Text("")]
    parts += [_totals(statement, glyphs), *_refusals(statement, glyphs)]
    print_trimmed(console, Group(*parts))


def _table(statement: Statement, glyphs: Glyphs, columns: int) -> Table:
    providers = statement.providers
    rows = [_cells(provider, providers, glyphs) for provider in providers]
    rows.append(_total_cells(statement))
    titles = list(TITLES)
    for title in DROPPED_FIRST:
        if _width(rows, titles) <= columns:
            break
        titles.remove(title)
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for title in titles:
        side = "left" if title == "provider" else "right"
        table.add_column(title, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for number, row in enumerate(rows):
        is_total = number == len(rows) - 1
        table.add_row(*(row[title] for title in titles), style="dim" if is_total else "")
    return table


def _width(rows: list[dict[str, str]], titles: list[str]) -> int:
    widths = [max(len(title), *(len(row[title]) for row in rows)) for title in titles]
    return sum(widths) + GAP * len(titles)


def _cells(
    provider: ProviderStatement, providers: list[ProviderStatement], glyphs: Glyphs
) -> dict[str, str]:
    namesakes = sum(other.name == provider.name for other in providers)
    label = provider_label(provider.name, provider.provider_id, is_unique=namesakes <= 1)
    price = provider.glm_per_million_steps
    work = provider.work
    return {
        "provider": glyphs.text(label),
        "agreements": count_text(len(provider.agreements)),
        "asked": glm_text(provider.asked_glm),
        "paid": glm_text(provider.accepted_glm),
        "orders": count_text(work.orders),
        "steps": count_text(work.steps),
        "work": clock_text(work.seconds),
        "GLM/M steps": "-" if price is None else glm_text(price),
    }


def _total_cells(statement: Statement) -> dict[str, str]:
    providers = statement.providers
    steps = sum(provider.work.steps for provider in providers)
    price = glm_per_million_steps(statement.accepted_glm, steps)
    asked = sum((provider.asked_glm for provider in providers), Decimal(0))
    return {
        "provider": "total",
        "agreements": count_text(len(statement.agreements)),
        "asked": glm_text(asked),
        "paid": glm_text(statement.accepted_glm),
        "orders": count_text(sum(provider.work.orders for provider in providers)),
        "steps": count_text(steps),
        "work": clock_text(sum(provider.work.seconds for provider in providers)),
        "GLM/M steps": "-" if price is None else glm_text(price),
    }


def _totals(statement: Statement, glyphs: Glyphs) -> Text:
    words = [f"{glm_text(statement.accepted_glm)} GLM accepted"]
    if statement.budget_glm is not None:
        words[0] += f" of a budget of {glm_text(statement.budget_glm)}"
    words.append(f"{plural(statement.allocations, 'allocation')}")
    if statement.open_allocations:
        words.append(f"{len(statement.open_allocations)} of them open")
    if statement.audit_orders:
        words.append(f"{plural(statement.audit_orders, 'order')} to audit others")
    if statement.owed_glm:
        words.append(f"{glm_text(statement.owed_glm)} GLM owed beyond the budget")
    states = [one.state for one in statement.agreements.values()]
    words += [f"{states.count(state)} {state}" for state in ("open", "unbilled") if state in states]
    return Text(f" {glyphs.dot} ".join(words), style="dim")


def _refusals(statement: Statement, glyphs: Glyphs) -> list[Text]:
    """Say of each bill that was not accepted what it asked, and why."""
    lines: list[Text] = []
    for agreement in statement.agreements.values():
        for refusal in agreement.refusals:
            name = one_line(agreement.approval.provider_name, 24)
            reason = one_line(refusal.reason or "above what can be due")
            asked = glm_text(refusal.asked_glm)
            text = f"{name}: {refusal.bill} over {asked} GLM not accepted: {reason}"
            lines.append(Text(glyphs.text(text), style="yellow"))
    hidden = len(lines) - MAX_REFUSALS
    if hidden > 0:
        lines[MAX_REFUSALS:] = [Text(f"and {hidden} more; --json has them all", style="yellow")]
    return [Text(""), *lines] if lines else []


def _provider_record(provider: ProviderStatement) -> dict[str, Any]:
    work = provider.work
    return {
        "name": provider.name,
        "provider_id": provider.provider_id,
        "accepted_glm": _amount(provider.accepted_glm),
        "asked_glm": _amount(provider.asked_glm),
        "owed_glm": _amount(provider.owed_glm),
        "orders": work.orders,
        "late_orders": work.late_orders,
        "failed_orders": work.failed_orders,
        "steps": work.steps,
        "late_steps": work.late_steps,
        "work_seconds": round(work.seconds, 3),
        "glm_per_million_steps": _amount(provider.glm_per_million_steps),
        "agreements": [_agreement_record(one) for one in provider.agreements],
    }


def _agreement_record(agreement: AgreementStatement) -> dict[str, Any]:
    approval = agreement.approval
    return {
        "agreement_id": approval.agreement_id,
        "state": agreement.state,
        "start_glm": _amount(approval.start_glm),
        "cpu_hour_glm": _amount(approval.cpu_hour_glm),
        "hour_glm": _amount(approval.hour_glm),
        "approved_unix_seconds": approval.approved_unix_seconds,
        "ended_unix_seconds": agreement.ended_unix_seconds,
        "activities": agreement.activities,
        "asked_glm": _amount(agreement.asked_glm),
        "accepted_glm": _amount(agreement.accepted_glm),
        "interim_glm": _amount(agreement.interim_glm),
        "debit_notes_accepted": agreement.debit_notes,
        "debit_notes_skipped": agreement.debit_notes_skipped,
        "orders": agreement.work.orders,
        "steps": agreement.work.steps,
        "work_seconds": round(agreement.work.seconds, 3),
        "refused_bills": [
            {
                "bill": refusal.bill,
                "bill_id": refusal.bill_id,
                "asked_glm": _amount(refusal.asked_glm),
                "bound_glm": _amount(refusal.bound_glm),
                "reason": refusal.reason,
            }
            for refusal in agreement.refusals
        ],
    }


def _amount(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"
