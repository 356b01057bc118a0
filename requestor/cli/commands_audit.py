"""`audit`: verifying a run that is over."""

from __future__ import annotations

import asyncio
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import rich_click as click
from rich.console import Console

from provider_image.wire import ModelMetadata, decode_metadata, settled
from requestor.cli.assembly import run_settings
from requestor.cli.options import as_json_option, runs_option
from requestor.config import load_config
from requestor.errors import RunFailed, UsageError
from requestor.reporting.audit_view import audit_record, print_audit
from requestor.training_run.auditing.verifying import AuditReport, drawn_items, open_audit
from requestor.training_run.checkpoints import CheckpointStore
from requestor.training_run.run_directory import RunDirectory, find_run

DEFAULT_ITEMS = 8


@click.command()
@click.argument("run_name", metavar="RUN", default="last")
@click.option(
    "--items",
    type=click.IntRange(0),
    help=f"How many items are drawn and done again.  [default: {DEFAULT_ITEMS}]",
)
@click.option(
    "--all", "everything", is_flag=True, help="Do every item again, and merge every round again."
)
@click.option("--seed", type=int, help="Draw the same items every time; default: others each time.")
@as_json_option
@runs_option
def audit(
    run_name: str,
    *,
    items: int | None,
    everything: bool,
    seed: int | None,
    as_json: bool,
    runs_dir: Path,
) -> None:
    """Verify RUN (a name from `ls`, a path, or `last`) on this machine, when it is over.

    Checks the chain of records (who did what, from which model, with which verdict) and all files
    that it names; does drawn items again and compares them bit for bit. With --all it does the
    whole run's work again, which takes as long as the providers took together, and merges it:
    merges that were chosen by playing are played again, the server's own steps taken again. What
    another kind of machine may have made otherwise `cannot be compared`; that accuses nobody.
    Exit code 6 if anything differs.
    """
    if everything and items is not None:
        raise UsageError("--items and --all exclude each other", fix="give one of them")
    directory = find_run(runs_dir, run_name)
    with directory.locked():
        count = DEFAULT_ITEMS if items is None else items
        report = asyncio.run(_audit(directory, None if everything else count, seed))
    if as_json:
        click.echo(json.dumps(audit_record(report)))
    else:
        print_audit(report, Console())
    if not report.is_sound:
        differing = sum(one.outcome == "differs" for one in report.checks)
        raise RunFailed(
            f"{directory.name} is not what its records say: {len(report.chain_faults)} faults of "
            f"the chain, {differing} differences in {len(report.checks)} checks",
            fix="look at the lines above; do not use its model before you know why",
        )


async def _audit(directory: RunDirectory, count: int | None, seed: int | None) -> AuditReport:
    """Audit a run; `count` items, or None for all of it."""
    if not directory.provenance.is_dir():
        raise UsageError(
            f"{directory.name} has no record of where its models come from",
            fix="runs of older versions kept none; audit a newer one",
        )
    config = load_config(directory.config)
    settings = run_settings(config, directory.run_id)
    store = CheckpointStore(directory.checkpoints)
    checkpoint = store.latest()
    if checkpoint is None:
        raise UsageError(f"{directory.name} has no model yet", fix="`derl-request resume` it")
    final = checkpoint.model.sha256
    made = decode_metadata(store.load(checkpoint.model), ModelMetadata)
    settings = replace(settings, learner=settled(settings.learner, made))
    with tempfile.TemporaryDirectory(prefix="derl-audit-") as folder:
        async with open_audit(settings, directory, Path(folder)) as audit:
            report = audit.chain(final)
            if report.chain_faults and not report.history.rounds:
                return report
            if count is None:
                of_rounds = [await audit.round(record) for record in report.history.rounds]
                checks = [check for of_round in of_rounds for check in of_round]
            else:
                checks = await audit.items(drawn_items(report.history, count, seed))
    return replace(report, checks=tuple(checks))
