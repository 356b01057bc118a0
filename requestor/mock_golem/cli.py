"""The `mock-golem` program."""

import asyncio
import json
import logging
import os
import shlex
import signal
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

import rich_click as click

from requestor.mock_golem.books import read_books
from requestor.mock_golem.books_view import books_document, books_table
from requestor.mock_golem.clock import SystemClock
from requestor.mock_golem.daemon import VERSION, DaemonAddress, DaemonSettings, MockDaemon
from requestor.mock_golem.faults import DAEMON_FAULTS, PROVIDER_FAULTS, Fault, kind_of
from requestor.mock_golem.fleet import Fleet, FleetError, load_fleet
from requestor.mock_golem.journal import JournalError

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_MAX_REFUSALS = 1000


def _show_version(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    try:
        own = version("derl")
    except PackageNotFoundError:
        own = "(not installed)"
    click.echo(f"mock-golem {own}, answers as yagna {VERSION}")
    context.exit()


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
@click.option("--fleet", "fleet_file", type=_FILE, required=True, help="The fleet file (YAML).")
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="0 (default): a free one.")
@click.option("--app-key", help="The key that requests must carry. Default: a new one.")
@click.option("--state", type=_FOLDER, help="Keeps the books here over restarts.")
@click.option("--wire-log", type=_FILE, help="Appends every request and answer, as JSON lines.")
@click.option("--stop-on-stdin-eof", is_flag=True, help="Stop when standard input is closed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line when ready, nothing else.")
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
    logging.basicConfig(level=logging.WARNING, format="mock-golem: %(message)s")
    settings = DaemonSettings(
        fleet=_fleet(fleet_file),
        port=port,
        app_key=app_key,
        state_directory=state,
        wire_log=wire_log,
        refused=None if as_json else Refusals().tell,
    )
    try:
        asyncio.run(_serve(settings, stop_on_stdin_eof, as_json))
    except (JournalError, OSError) as error:
        _fail(_serving_error(error, port))


async def _serve(settings: DaemonSettings, stop_on_stdin_eof: bool, as_json: bool) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    daemon = MockDaemon(settings)
    address = await daemon.start()
    try:
        if stop_on_stdin_eof:
            _watch_stdin(loop, stopped)
        _announce(address, settings.fleet, as_json)
        await stopped.wait()
    finally:
        await daemon.stop()


class Refusals:
    """Says on standard error what providers refuse, each refusal once."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def tell(self, provider_name: str, reason: str) -> None:
        """Write one line, unless the same was written before."""
        if (provider_name, reason) in self._told or len(self._told) >= _MAX_REFUSALS:
            return
        self._told.add((provider_name, reason))
        # a reason quotes the program's demand, which may hold anything
        shown = "".join(one if one.isprintable() else "?" for one in reason[:300])
        click.echo(f"mock-golem: {provider_name} refuses: {shown}", err=True)
        if len(self._told) == _MAX_REFUSALS:
            click.echo("mock-golem: further refusals are not shown", err=True)


def _watch_stdin(loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
    if sys.stdin is None:
        stopped.set()
        return
    descriptor = sys.stdin.fileno()

    def readable() -> None:
        if not os.read(descriptor, 65536):
            loop.remove_reader(descriptor)
            stopped.set()

    try:
        loop.add_reader(descriptor, readable)
    except PermissionError:  # a plain file or /dev/null: it is always at its end
        stopped.set()


def _announce(address: DaemonAddress, fleet: Fleet, as_json: bool) -> None:
    if as_json:
        line = {
            "url": address.url,
            "app_key": address.app_key,
            "gftp_directory": str(address.gftp_directory),
            "identity": address.identity,
            "pid": os.getpid(),
            "payment_platform": fleet.payment.platform,
            "subnet": fleet.subnet,
        }
        click.echo(json.dumps(line))
    else:
        count = len(fleet.expanded())
        click.echo(
            f"# mock-golem serves {count} provider{'s' if count != 1 else ''} "
            f"(subnet {fleet.subnet}, {fleet.payment.platform}); Ctrl-C stops it\n"
            f"export YAGNA_APPKEY={shlex.quote(address.app_key)}\n"
            f"export YAGNA_API_URL={address.url}\n"
            f"export YAGNA_PAYMENT_NETWORK={fleet.payment.network}\n"
            f"export YAGNA_SUBNET={shlex.quote(fleet.subnet)}\n"
            f"export PATH={shlex.quote(str(address.gftp_directory))}:$PATH"
        )
    sys.stdout.flush()


def _serving_error(error: Exception, port: int) -> str:
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        fix = " Choose another with --port (0: a free one)." if port else ""
        return f"cannot serve: {reason}.{fix}"
    return str(error)


@main.group("fleet")
def fleet_group() -> None:
    """Look into fleet files."""


@fleet_group.command("check")
@click.argument("file", type=_FILE)
def check(file: Path) -> None:
    """Check a fleet file and show its providers; exit code 1 if it cannot be used."""
    fleet = _fleet(file)
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
        _fail(str(error))
    document = books_document(books)
    click.echo(json.dumps(document, indent=2) if as_json else books_table(document))


def _fleet(file: Path) -> Fleet:
    try:
        return load_fleet(file)
    except FleetError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    # plain lines, not rich-click's box: programs that start a daemon read them too
    for line in message.splitlines():
        click.echo(f"mock-golem: {line}", err=True)
    raise SystemExit(1)
