"""`run`, `resume` and `init`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import rich_click as click
from rich.console import Console

from requestor.cli.assembly import describe_plan, plan_record
from requestor.cli.consent import confirm_spending
from requestor.cli.images import with_image
from requestor.cli.options import as_json_option, runs_option
from requestor.cli.renting import work_kind
from requestor.config import (
    SB3_ALGORITHMS,
    RunConfig,
    commented_template,
    load_config,
    resolved_yaml,
)
from requestor.errors import DerlError, UsageError
from requestor.marketplace.money.ledger import read_ledger
from requestor.quoting.record import StoredQuote, read_quote, write_quote
from requestor.reporting.json_output import summary_json
from requestor.reporting.run_list import read_status
from requestor.reporting.summary import print_summary
from requestor.training_run.run_directory import RunDirectory, find_run, write_whole

RESUMABLE = (
    "golem.",
    "federation.max_attempts",
    "federation.speculate",
    "federation.round_deadline_seconds",
)
"""What may change on resume: everything else decides what is learned."""

PAYS = ("golem.mode", "golem.payment_driver", "golem.payment_network")
"""Where bills are paid: what is owed there is out of reach once it has changed."""

_YES = click.option("--yes", is_flag=True, help="Spend real money without asking.")
_WIRE = click.option(
    "--wire-log", is_flag=True, help="mock and testnet: log every REST call to logs/wire.jsonl."
)


@click.command()
@click.argument("config", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--dry-run", is_flag=True, help="Print the resolved config and what it would rent.")
@as_json_option
@_YES
@runs_option
@_WIRE
@click.option(
    "--quote",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Hold the run against a quote that `derl-request quote --save FILE` wrote.",
)
def run(
    config: Path,
    overrides: tuple[str, ...],
    *,
    dry_run: bool,
    as_json: bool,
    yes: bool,
    runs_dir: Path,
    wire_log: bool,
    quote: Path | None,
) -> None:
    """Train as CONFIG says: rent providers, run federated rounds, keep the best model.

    \b
    Single settings can be overridden:
      derl-request run configs/cartpole.yaml seed=7 federation.rounds=3 golem.budget_glm=0.5
    """
    loaded, image = with_image(load_config(config, overrides))
    given = _quote_for(loaded, quote) if quote is not None else None
    if dry_run:
        _dry_run(loaded, as_json)
        return
    confirm_spending(loaded, yes=yes)
    from requestor.cli.execution import create_run

    directory = create_run(loaded, runs_dir, image)
    if given is not None:
        write_quote(directory.quote, given)
    try:
        _execute(directory, loaded, runs_dir, as_json=as_json, wire_log=wire_log)
    except DerlError:
        directory.discard_if_unused()
        raise


@click.command()
@click.argument("run_name", metavar="[RUN]", default="last")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@as_json_option
@_YES
@runs_option
@_WIRE
def resume(
    run_name: str,
    overrides: tuple[str, ...],
    *,
    as_json: bool,
    yes: bool,
    runs_dir: Path,
    wire_log: bool,
) -> None:
    """Go on with RUN (a name from `ls`, a path, or `last`) after a crash, Ctrl-C or its budget.

    Without RUN it is the last one. What the dead process left in the daemon is ended and paid
    first. The result is the same, bit for bit, as if the run had never been interrupted. Only
    settings that do not change what is learned can be overridden, e.g. golem.budget_glm=2.
    """
    if "=" in run_name and not Path(run_name).exists():
        run_name, overrides = "last", (run_name, *overrides)
    directory = find_run(runs_dir, run_name)
    _check_resumable(overrides, directory)
    if _is_finished(directory):
        _print_account(directory, as_json=as_json)
        return
    loaded, _ = with_image(load_config(directory.config, overrides))
    confirm_spending(loaded, yes=yes, spent_glm=read_ledger(directory.ledger).total_glm)
    if overrides:
        with directory.locked():
            write_whole(directory.config, resolved_yaml(loaded).encode())
    _execute(directory, loaded, runs_dir, as_json=as_json, wire_log=wire_log)


@click.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path), default="derl.yaml")
@click.option(
    "--env",
    "environment",
    show_default="CartPole-v1; Pendulum-v1 for sac, td3 and ddpg",
    help="A registered Gymnasium id, or module:Class.",
)
@click.option("--algo", type=click.Choice(sorted(SB3_ALGORITHMS)), default="ppo", show_default=True)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def init(path: Path, environment: str | None, algo: str, *, force: bool) -> None:
    """Write a commented config to start from (default: derl.yaml)."""
    if path.exists() and not force:
        raise UsageError(f"{path} exists", fix="give another name, or --force to overwrite it")
    path.write_text(commented_template(environment, algo))
    click.echo(f"wrote {path}; try: derl-request run {path}")


def _quote_for(config: RunConfig, path: Path) -> StoredQuote:
    """Read a quote for this very work.

    Raises:
        UsageError: it is none, or one for something else.
    """
    quote = read_quote(path)
    if quote.kind != work_kind(config) or quote.rounds != config.federation.rounds:
        raise UsageError(
            f"{path} is a quote for other work ({quote.rounds} rounds of {quote.kind})",
            fix="make one with the same config and overrides: `derl-request quote`",
        )
    return quote


def _execute(
    directory: RunDirectory, config: RunConfig, runs: Path, *, as_json: bool, wire_log: bool
) -> None:
    from requestor.cli.execution import Launch, execute

    progress = sys.stderr if as_json else sys.stdout
    try:
        summary = execute(Launch(directory, config, runs, progress, wire_log))
    except DerlError as error:
        raise _naming(error, directory) from error
    _print_account(directory, as_json=as_json)
    if summary.error is not None:
        raise _naming(summary.error, directory)


def _is_finished(directory: RunDirectory) -> bool:
    """Say whether nothing is left to do: no round, no bill, no model to be written."""
    state = read_status(directory).state
    ledger = read_ledger(directory.ledger)
    is_settled = not ledger.is_open and not ledger.put_off_glm
    return state in ("completed", "target_reached") and is_settled and directory.model.exists()


def _print_account(directory: RunDirectory, *, as_json: bool) -> None:
    closing = read_status(directory).summary
    if as_json:
        click.echo(summary_json(closing))
    else:
        print_summary(closing, Console())


def _naming(error: DerlError, directory: RunDirectory) -> DerlError:
    """Put the run's name into the command that a fix proposes."""
    if error.fix is not None:
        command = "derl-request resume"
        error.fix = error.fix.replace(command, f"{command} {directory.name}")
    return error


def _dry_run(config: RunConfig, as_json: bool) -> None:
    if as_json:
        document = {"config": config.model_dump(mode="json"), "plan": plan_record(config)}
        click.echo(json.dumps(document, indent=1))
        return
    click.echo(resolved_yaml(config).rstrip())
    click.echo("\n# " + describe_plan(config).replace("\n", "\n# "))


def _check_resumable(overrides: Sequence[str], directory: RunDirectory) -> None:
    for override in overrides:
        key = override.partition("=")[0]
        if key in PAYS and read_ledger(directory.ledger).is_open:
            raise UsageError(
                f"{key} can't change while the run still owes something where it was rented",
                fix="`derl-request resume` without it, or `derl-request sweep`, settles that first",
            )
        if not key.startswith(RESUMABLE):
            raise UsageError(
                f"{key} can't change in the middle of a run",
                fix="start a new run; on resume only golem.* and the federation's "
                "deadlines and attempts may differ",
            )
