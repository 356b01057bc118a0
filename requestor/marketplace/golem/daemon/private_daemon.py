"""A mock Golem daemon of our own, for the time of one run, as a separate process.

From here on it is a daemon like any other: an address and a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

from requestor.errors import PreflightError
from requestor.marketplace.golem.daemon.api import DaemonAddress
from requestor.marketplace.golem.daemon.preflight import prepend_path
from requestor.secrecy import without_secrets

# the real daemon is started twice at first, and its providers take their leave at the end
START_SECONDS = {"serve": 30.0, "testnet": 90.0}
STOP_SECONDS = {"serve": 10.0, "testnet": 30.0}
_NAMES = {"serve": "the mock Golem daemon", "testnet": "the local testnet"}


@asynccontextmanager
async def private_daemon(
    fleet: Path,
    state: Path,
    log: Path,
    wire_log: Path | None = None,
    program: Literal["serve", "testnet"] = "serve",
) -> AsyncIterator[DaemonAddress]:
    """Start `mock-golem serve` (or `testnet`) with its books in `state`; stop it on the way out.

    It ends with us whatever happens: its standard input is a pipe from this process.

    Raises:
        PreflightError: it does not start.
    """
    command = [sys.executable, "-m", "requestor.mock_golem", program, "--json"]
    command += ["--stop-on-stdin-eof", "--fleet", str(fleet), "--state", str(state)]
    if wire_log is not None:
        command += ["--wire-log", str(wire_log)]
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
            start_new_session=True,
            env=_environment(),
        )
    try:
        ready = await _ready(process, log, program)
        prepend_path(str(ready["gftp_directory"]))
        address = DaemonAddress.from_environment(
            {"YAGNA_API_URL": str(ready["url"]), "YAGNA_APPKEY": str(ready["app_key"])}
        )
        registry = ready.get("registry_url")
        yield replace(address, registry_url=None if registry is None else str(registry))
    finally:
        await _stop(process, STOP_SECONDS[program])


def _environment() -> dict[str, str]:
    """Return ours without what is meant for the user's own daemon: its key, its addresses."""
    own = without_secrets(os.environ)
    return {name: value for name, value in own.items() if not name.startswith("YAGNA_")}


async def _ready(
    process: asyncio.subprocess.Process, log: Path, program: Literal["serve", "testnet"]
) -> dict[str, object]:
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS[program])
        ready = json.loads(line)
    except (TimeoutError, ValueError) as error:
        tail = log.read_text(errors="replace").strip()[-1500:]
        raise PreflightError(
            f"{_NAMES[program]} does not start:\n{tail or 'it said nothing'}",
            # what it says itself often names the fix
            fix=None if "fix:" in tail else "check golem.fleet with `mock-golem fleet check FILE`",
        ) from error
    if not isinstance(ready, dict):
        raise PreflightError(f"{_NAMES[program]} gave no address")
    return ready


async def _stop(process: asyncio.subprocess.Process, patience_seconds: float) -> None:
    if process.returncode is not None:
        return
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(asyncio.shield(process.wait()), patience_seconds)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
