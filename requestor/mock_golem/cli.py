"""The `mock-golem` program."""

import asyncio
import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import rich_click as click

from requestor.mock_golem.books import read_books
from requestor.mock_golem.books_view import books_document, books_table
from requestor.mock_golem.cli_registry import registry_command
from requestor.mock_golem.cli_serving import (
    Refusals,
    fail,
    log_to_stderr,
    read_fleet,
    serve_until_stopped,
    serving_error,
)
from requestor.mock_golem.clock import SystemClock
from requestor.mock_golem.daemon import VERSION, DaemonSettings, MockDaemon
from requestor.mock_golem.exe_unit import IsolationError
from requestor.mock_golem.faults import DAEMON_FAULTS, PROVIDER_FAULTS, Fault, kind_of
from requestor.mock_golem.journal import JournalError

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


def _show_version(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    try:
        own = version("derl")
    except PackageNotFoundError:
        own = "(not installed)"
    click.echo(f"mock-golem {own}, answers as yagna {VERSION}")
    context.exit()


_SERVING = (
    click.option("--fleet", "fleet_file", type=_FILE, required=True, help="The fleet file (YAML)."),
    click.option("--port", default=0, type=click.IntRange(0, 65535), help="Default: a free one."),
    click.option("--app-key", help="The key that requests must carry. Default: one that it tells."),
    click.option("--state", type=_FOLDER, help="Keeps all that outlives a restart here."),
    click.option("--wire-log", type=_FILE, help="Appends every request and answer, as JSON lines."),
    click.option("--stop-on-stdin-eof", is_flag=True, help="Stop when standard input is closed."),
    click.option("--json", "as_json", is_flag=True, help="One JSON line when ready, nothing else."),
)


def _serving_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of all that serve a daemon."""
    for option in reversed(_SERVING):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def main() -> None:
    """A Golem daemon for one laptop, with simulated providers.

    It speaks yagna's REST on 127.0.0.1, so that any Golem program can be tried without a network
    and without money: providers, prices, paces and faults come from a fleet file.
    """


@main.command()
@_serving_options
def serve(
    *,
    fleet_file: Path,
    port: int,
    app_key: str | None,
    state: Path | None,
    wire_log: Path | None,
    stop_on_stdin_eof: bool,
    as_json: bool,
) -> None:
    """Run the daemon until SIGTERM, SIGINT (Ctrl-C) or, if asked, the end of standard input.

    In another terminal, export what it prints and run any Golem program.
    """
    log_to_stderr()
    settings = DaemonSettings(
        fleet=read_fleet(fleet_file),
        port=port,
        app_key=app_key,
        state_directory=state,
        wire_log=wire_log,
        refused=None if as_json else Refusals().tell,
    )
    try:
        asyncio.run(
            serve_until_stopped(
                MockDaemon(settings),
                settings.fleet,
                stop_on_stdin_eof=stop_on_stdin_eof,
                as_json=as_json,
            )
        )
    except (JournalError, IsolationError, OSError) as error:
        fail(serving_error(error, port))


@main.command()
@_serving_options
def testnet(
    *,
    fleet_file: Path,
    port: int,
    app_key: str | None,
    state: Path | None,
    wire_log: Path | None,
    stop_on_stdin_eof: bool,
    as_json: bool,
) -> None:
    """Run the real yagna daemon with the fleet's providers, cut off from every network.

    Payments settle on a chain of its own. It needs the extra `testnet` (`./scripts/setup dev`)
    and takes a few seconds to start; apart from that it is used as `serve` is.
    """
    try:
        from requestor.mock_golem.testnet.cli import TestnetOptions, run_testnet
    except ImportError as error:
        fail(f"{error}; fix: ./scripts/setup dev, which installs the extra `testnet`")
    run_testnet(
        TestnetOptions(read_fleet(fleet_file), port, app_key, state, wire_log),
        stop_on_stdin_eof=stop_on_stdin_eof,
        as_json=as_json,
    )


main.add_command(registry_command)


@main.group("fleet")
def fleet_group() -> None:
    """Look into fleet files."""


@fleet_group.command("check")
@click.argument("file", type=_FILE)
def check(file: Path) -> None:
    """Check a fleet file and show its providers; exit code 1 if it cannot be used."""
    fleet = read_fleet(file)
    click.echo(f"{file}: subnet {fleet.subnet}, {fleet.payment.platform}, seed {fleet.seed}")
    for provider in fleet.expanded():
        price = provider.price
        faults = ", ".join(kind_of(type(fault)) for fault in provider.faults) or "none"
        click.echo(
            f"  {provider.name}: {price.cpu_hour_glm}/CPU h + {price.hour_glm}/h + "
            f"{price.start_glm} GLM, {provider.threads} threads, {provider.memory_gib:g} GiB, "
            f"pace {provider.pace:g}, faults: {faults}"
        )
    if fleet.daemon_faults:
        kinds = ", ".join(kind_of(type(fault)) for fault in fleet.daemon_faults)
        click.echo(f"  daemon faults: {kinds}")


@main.command("faults")
@click.option("--json", "as_json", is_flag=True, help="One JSON list, with all defaults.")
def faults_command(as_json: bool) -> None:
    """List every fault that a fleet file can switch on, with its settings."""
    if as_json:
        click.echo(json.dumps(_faults_document(), indent=2))
        return
    click.echo("All faults take `after` (chances skipped), `times` (null: always), `probability`.")
    for title, kinds in (("faults:", PROVIDER_FAULTS), ("daemon_faults:", DAEMON_FAULTS)):
        click.echo(f"\n{title}")
        for fault in kinds:
            click.echo(f"  {kind_of(fault)}{_settings_of(fault)}: {fault.description}")


def _faults_document() -> list[dict[str, Any]]:
    return [
        {
            "kind": kind_of(fault),
            "section": section,
            "description": fault.description,
            "settings": {
                name: {"required": True}
                if setting.is_required()
                else {"required": False, "default": setting.default}
                for name, setting in fault.model_fields.items()
                if name != "kind"
            },
        }
        for section, kinds in (("faults", PROVIDER_FAULTS), ("daemon_faults", DAEMON_FAULTS))
        for fault in kinds
    ]


def _settings_of(fault: type[Fault]) -> str:
    own = [name for name in fault.model_fields if name not in {*Fault.model_fields, "kind"}]
    return f" ({', '.join(own)})" if own else ""


@main.command("books")
@click.option("--state", type=_FOLDER, required=True, help="The daemon's state directory.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, exact.")
def books_command(state: Path, as_json: bool) -> None:
    """Show a daemon's own books, running or not: what was reserved, rented, billed and accepted."""
    try:
        books = read_books(state, SystemClock())
    except JournalError as error:
        fail(str(error))
    document = books_document(books)
    click.echo(json.dumps(document, indent=2) if as_json else books_table(document))
