"""The `derl-request` program."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType
from typing import NoReturn

import rich_click as click

from requestor.cli.commands_audit import audit
from requestor.cli.commands_inspect import evaluate, list_command, status
from requestor.cli.commands_market import doctor, offers
from requestor.cli.commands_quote import quote
from requestor.cli.commands_run import init, resume, run
from requestor.cli.commands_study import attacks, study
from requestor.cli.commands_sweep import sweep
from requestor.errors import DerlError, PreflightError, render
from requestor.secrecy import redact

EXIT_CODES = (
    "Exit codes: 0 done, 2 wrong usage, 3 wrong config, 4 daemon, key, funds or machine not fit, "
    "5 budget reached, 6 the run failed, 130 interrupted."
)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
@click.version_option(package_name="derl")
def cli() -> None:
    """Federated reinforcement learning on machines rented through Golem.

    Start with `derl-request run configs/cartpole.yaml`: it trains on a mock Golem on this
    machine, with no tokens, no daemon and no network.
    """


for command in (
    run,
    resume,
    status,
    list_command,
    evaluate,
    audit,
    init,
    doctor,
    offers,
    quote,
    sweep,
    study,
    attacks,
):
    cli.add_command(command)


def main() -> None:
    """Run the program; print errors a user can meet, with their exit codes."""
    sys.excepthook = _crashed
    try:
        cli(standalone_mode=True)
    except DerlError as error:
        _end(error)
    except OSError as error:
        what = error.strerror or str(error)
        where = f"{error.filename}: " if error.filename else ""
        _end(PreflightError(f"{where}{what}", fix="give a path that exists and can be written"))


def _end(error: DerlError) -> NoReturn:
    click.echo(redact(render(error)), err=True)
    sys.exit(error.exit_code)


def _crashed(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print the traceback of a fault of ours, without secrets."""
    lines = traceback.format_exception(kind, error, trace)
    click.echo(redact("".join(lines)), err=True, nl=False)


if __name__ == "__main__":
    main()
