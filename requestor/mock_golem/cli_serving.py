"""What the commands that serve a daemon share: when they stop, and what they say."""

import asyncio
import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol

import rich_click as click

from requestor.mock_golem.daemon import DaemonAddress
from requestor.mock_golem.fleet import Fleet, FleetError, load_fleet

_MAX_REFUSALS = 1000


class Daemon(Protocol):
    """What can be served."""

    async def start(self) -> DaemonAddress:
        """Start it; return where it is."""

    async def stop(self) -> None:
        """End it and all that it started."""


def log_to_stderr() -> None:
    """Have warnings written to standard error."""
    logging.basicConfig(level=logging.WARNING, format="mock-golem: %(message)s")


async def serve_until_stopped(
    daemon: Daemon,
    fleet: Fleet,
    *,
    stop_on_stdin_eof: bool,
    as_json: bool,
    more: Callable[[], Mapping[str, Any]] = dict,
) -> None:
    """Run a daemon until SIGTERM, SIGINT or, if asked, the end of standard input.

    Once it is ready, it says where; with `as_json` in one JSON line, which holds what `more`
    returns too. What the daemon's `start` raises gets through.
    """
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if stop_on_stdin_eof:
        watch_stdin(loop, stopped)
    address = await _start(daemon, stopped)
    if address is None:
        return
    try:
        _announce(address, fleet, as_json, more())
        await stopped.wait()
    finally:
        await daemon.stop()


async def _start(daemon: Daemon, stopped: asyncio.Event) -> DaemonAddress | None:
    """Start the daemon; None if it was told to stop before it was ready."""
    starting = asyncio.ensure_future(daemon.start())
    stopping = asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    if starting.done():
        return starting.result()
    starting.cancel()
    await asyncio.wait({starting})
    return None


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


def watch_stdin(loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
    """Set `stopped` at the end of standard input."""
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


def _announce(
    address: DaemonAddress, fleet: Fleet, as_json: bool, more: Mapping[str, Any]
) -> None:
    if as_json:
        line = {
            "url": address.url,
            "app_key": address.app_key,
            "gftp_directory": str(address.gftp_directory),
            "identity": address.identity,
            "registry_url": address.registry_url,
            "pid": os.getpid(),
            "payment_platform": fleet.payment.platform,
            "subnet": fleet.subnet,
            **more,
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


def serving_error(error: Exception, port: int) -> str:
    """Why a daemon cannot be served, and what helps."""
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        fix = " Choose another with --port (0: a free one)." if port else ""
        return f"cannot serve: {reason}.{fix}"
    return str(error)


def read_fleet(file: Path) -> Fleet:
    """Read a fleet file, or end the program with what is wrong with it."""
    try:
        return load_fleet(file)
    except FleetError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """End the program with exit code 1 and a message on standard error."""
    # plain lines, not rich-click's box: programs that start a daemon read them too
    for line in message.splitlines():
        click.echo(f"mock-golem: {line}", err=True)
    raise SystemExit(1)
