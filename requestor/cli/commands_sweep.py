"""`sweep`: end and pay what dead runs have left in the daemon."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from requestor.cli.options import as_json_option, runs_option
from requestor.errors import PreflightError, RunFailed, UsageError
from requestor.reporting.wording import glm_text, one_line, plural
from requestor.secrecy import redact, redacted_data
from requestor.training_run.run_directory import find_run, list_runs

if TYPE_CHECKING:
    from requestor.cli.sweeping import Outcome, SweptRun
    from requestor.marketplace.golem.paying.holdings import Holdings

ANSWER = "end them"


@click.command()
@click.argument("run_name", metavar="[RUN]", required=False)
@click.option("--dry-run", is_flag=True, help="Show what is held, change nothing.")
@click.option(
    "--all",
    "strays",
    is_flag=True,
    help="Also end agreements that DeRL has made for runs that are not in this folder. A run at "
    "work elsewhere would lose its providers: asks first, or needs --yes.",
)
@click.option(
    "--allocation",
    "allocations",
    metavar="ID",
    multiple=True,
    help="Also release this allocation, whoever made it (ids: --all --dry-run). Repeatable.",
)
@click.option("--yes", is_flag=True, help="With --all: end them without asking.")
@as_json_option
@runs_option
def sweep(
    run_name: str | None,
    *,
    dry_run: bool,
    strays: bool,
    allocations: tuple[str, ...],
    yes: bool,
    as_json: bool,
    runs_dir: Path,
) -> None:
    """End, pay and release what runs whose processes died still hold in the daemon.

    That is: agreements are ended, right invoices are paid within each run's own budget, and
    allocations are released. Without RUN all runs of the folder are looked at. Runs at work and
    what other programs have made are never touched. (`run` and `resume` do the same when they
    start.)
    """
    from requestor.cli.sweeping import Orders, sweep_runs

    folder = list_runs(runs_dir)
    chosen = folder if run_name is None else [find_run(runs_dir, run_name)]
    if strays and not dry_run:
        _confirm(yes)
    orders = Orders(is_dry=dry_run, ends_strays=strays, allocations=allocations)
    outcome = asyncio.run(sweep_runs(chosen, folder, orders))
    if as_json:
        click.echo(json.dumps(redacted_data(outcome_record(outcome))))
    else:
        for line in outcome_lines(outcome, shows_unknown=strays):
            click.echo(redact(line))
    if outcome.failures:
        raise RunFailed(
            "not everything could be ended: " + "; ".join(outcome.failures),
            fix="`derl-request sweep` tries again; agreements end by themselves when they expire",
        )


def _confirm(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise PreflightError(
            "--all ends agreements of runs that are not in this folder, at work or not",
            fix="look at them with --all --dry-run, then confirm with --yes",
        )
    answer = click.prompt(
        "Agreements of runs that are not in this folder will be ended, and such a run may be at "
        f"work elsewhere. Type `{ANSWER}` to go on",
        default="",
        show_default=False,
    )
    if answer.strip() != ANSWER:
        raise UsageError("not confirmed, nothing was ended")


def outcome_lines(outcome: Outcome, *, shows_unknown: bool) -> Iterator[str]:
    """Yield what was found and done, a line or two for each run."""
    if not outcome.runs and not outcome.strays:
        yield "dead runs hold nothing"
    for run in outcome.runs:
        yield f"{run.name} ({run.state}): {_held_text(run.held)}"
        yield from (f"  {one_line(notice)}" for notice in run.notices)
        if run.report is not None and not run.report.is_empty:
            yield f"  {run.report}"
    for run_id, held in outcome.strays.items():
        yield f"run {one_line(run_id, 40)} (not in this folder): {_held_text(held)}"
    if outcome.strays_ended:
        yield f"  {plural(outcome.strays_ended, 'agreement')} ended; bills are for their own run"
    elif outcome.strays and not shows_unknown:
        yield "  left alone; --all ends them"
    yield from (f"allocation {name} released" for name in outcome.allocations_released)
    if shows_unknown:
        yield from _unknown_lines(outcome.unknown)


def _unknown_lines(unknown: Holdings) -> Iterator[str]:
    for one in unknown.allocations:
        yield (
            f"allocation {one.allocation_id} of {glm_text(one.total_glm)} GLM "
            f"({one_line(one.platform, 40)}) is no run's of this folder; --allocation releases it"
        )
    if unknown.agreements:
        count = plural(len(unknown.agreements), "agreement")
        yield f"{count} of other programs left alone"


def _held_text(held: Holdings) -> str:
    words = []
    if held.agreements:
        names = ", ".join(sorted({one.provider_name for one in held.agreements}))
        activities = sum(len(one.activities) for one in held.agreements)
        words.append(
            f"{plural(len(held.agreements), 'agreement')} ({names}) with "
            + (f"{activities} activities" if activities != 1 else "1 activity")
        )
    if held.invoices:
        finite = [bill.asked_glm for bill in held.invoices if bill.asked_glm.is_finite()]
        asked = glm_text(sum(finite, Decimal(0)))
        words.append(f"{plural(len(held.invoices), 'unpaid invoice')} over {asked} GLM")
    if held.allocations:
        total = glm_text(sum((one.total_glm for one in held.allocations), Decimal(0)))
        words.append(f"{plural(len(held.allocations), 'allocation')} of {total} GLM")
    return "; ".join(words) or "nothing"


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as plain data; amounts are decimal strings."""
    return {
        "runs": [_run_record(run) for run in outcome.runs],
        "strays": {run_id: _held_record(held) for run_id, held in outcome.strays.items()},
        "strays_ended": outcome.strays_ended,
        "unknown": _held_record(outcome.unknown),
        "allocations_released": outcome.allocations_released,
        "failures": outcome.failures,
    }


def _run_record(run: SweptRun) -> dict[str, Any]:
    report = run.report
    return {
        "name": run.name,
        "run_id": run.run_id,
        "state": run.state,
        "held": _held_record(run.held),
        "notices": run.notices,
        "done": None
        if report is None
        else {
            "agreements_ended": report.agreements,
            "invoices_accepted": report.invoices,
            "allocations_released": report.allocations,
        },
    }


def _held_record(held: Holdings) -> dict[str, Any]:
    return {
        "agreements": [
            {
                "agreement_id": one.agreement_id,
                "provider_name": one.provider_name,
                "provider_id": one.provider_id,
                "activities": list(one.activities),
            }
            for one in held.agreements
        ],
        "invoices": [
            {
                "invoice_id": bill.bill_id,
                "agreement_id": bill.agreement_id,
                "asked_glm": f"{bill.asked_glm:f}",
            }
            for bill in held.invoices
        ],
        "allocations": [
            {
                "allocation_id": one.allocation_id,
                "total_glm": f"{one.total_glm:f}",
                "remaining_glm": f"{one.remaining_glm:f}",
                "platform": one.platform,
            }
            for one in held.allocations
        ],
    }
