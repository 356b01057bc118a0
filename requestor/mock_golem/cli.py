"""The `mock-golem` program."""

import asyncio
import json
import logging
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import rich_click as click

from requestor.mock_golem.books import Books, read_books
from requestor.mock_golem.clock import SystemClock, rfc3339
from requestor.mock_golem.daemon import DaemonAddress, DaemonSettings, MockDaemon
from requestor.mock_golem.faults import DAEMON_FAULTS, PROVIDER_FAULTS, Fault, kind_of
from requestor.mock_golem.fleet import Fleet, FleetError, load_fleet
from requestor.mock_golem.journal import JournalError
from requestor.mock_golem.money import add, plain

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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
def faults_command() -> None:
    """List every fault that a fleet file can switch on, with its settings."""
    click.echo("All faults take `after` (chances skipped), `times` (null: always), `probability`.")
    for title, kinds in (("faults:", PROVIDER_FAULTS), ("daemon_faults:", DAEMON_FAULTS)):
        click.echo(f"\n{title}")
        for fault in kinds:
            click.echo(f"  {kind_of(fault)}{_settings_of(fault)}: {fault.description}")


def _settings_of(fault: type[Fault]) -> str:
    own = [name for name in fault.model_fields if name not in {*Fault.model_fields, "kind"}]
    return f" ({', '.join(own)})" if own else ""


@main.command("books")
@click.option("--state", type=_FOLDER, required=True, help="The daemon's state directory.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def books_command(state: Path, as_json: bool) -> None:
    """Show a daemon's own books, running or not: what was reserved, rented, billed and accepted."""
    try:
        books = read_books(state, SystemClock())
    except JournalError as error:
        _fail(str(error))
    document = books_document(books)
    if as_json:
        click.echo(json.dumps(document, indent=2))
        return
    for title, rows in document.items():
        if isinstance(rows, list):
            click.echo(f"{title.replace('_', ' ')}: {len(rows)}")
            for row in rows:
                click.echo("  " + "  ".join(f"{name}={value}" for name, value in row.items()))
    click.echo("totals: " + "  ".join(f"{k}={v}" for k, v in document["totals"].items()))


def books_document(books: Books) -> dict[str, Any]:
    """Return the books as plain data: one list per kind of record, and totals; amounts as text."""
    now = SystemClock().now()
    bills = [*books.debit_notes.values(), *books.invoices.values()]
    return {
        "allocations": [
            {
                "id": one.allocation_id,
                "state": "open" if one.is_open(now) else "released",
                "payment_platform": one.payment_platform,
                "total_glm": plain(one.total_amount),
                "spent_glm": plain(one.spent_amount),
                "remaining_glm": plain(one.remaining_amount),
            }
            for one in books.allocations.values()
        ],
        "agreements": [
            {
                "id": one.agreement_id,
                "state": one.state,
                "provider": one.provider_name,
                "provider_id": one.provider_id,
                "terminator": one.terminator,
                "invoice": one.invoice,
                "charged_glm": plain(books.charged_for(one.agreement_id)),
            }
            for one in books.agreements.values()
        ],
        "activities": [
            {
                "id": one.activity_id,
                "agreement_id": one.agreement_id,
                "state": "open" if one.ended_at is None else "terminated",
                "cpu_seconds": one.cpu_seconds,
                "duration_seconds": one.duration_seconds,
            }
            for one in books.activities.values()
        ],
        "debit_notes": [
            {
                "id": one.debit_note_id,
                "agreement_id": one.agreement_id,
                "activity_id": one.activity_id,
                "state": one.shown_status(now),
                "amount_glm": plain(one.total_amount_due),
                "accepted_glm": plain(one.accepted_amount),
                "charged_glm": plain(one.charged_amount),
                "timestamp": rfc3339(one.timestamp),
            }
            for one in books.debit_notes.values()
        ],
        "invoices": [
            {
                "id": one.invoice_id,
                "agreement_id": one.agreement_id,
                "state": one.shown_status(now),
                "payment_platform": one.payment_platform,
                "amount_glm": plain(one.amount),
                "accepted_glm": plain(one.accepted_amount),
                "charged_glm": plain(one.charged_amount),
                "allocation_id": one.allocation_id,
            }
            for one in books.invoices.values()
        ],
        "totals": {
            "spent_glm": plain(books.spent_glm()),
            "charged_glm": plain(add(*(bill.charged_amount for bill in bills))),
            "invoiced_glm": plain(add(*(one.amount for one in books.invoices.values()))),
            "reserved_glm": plain(books.reserved_glm()),
        },
    }


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
