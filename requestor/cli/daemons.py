"""The daemon that a config names: one of our own for the time of a command, or the user's."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from requestor.config import GolemConfig, default_fleet
from requestor.marketplace.golem.daemon.api import DaemonAddress
from requestor.marketplace.golem.daemon.private_daemon import private_daemon

_PROGRAMS: Mapping[str, Literal["serve", "testnet"]] = {"mock": "serve", "testnet": "testnet"}


@dataclass(frozen=True)
class DaemonFolder:
    """Where a private daemon keeps its books and writes its log and, if asked, its wire log."""

    state: Path
    log: Path
    wire_log: Path | None = None


@asynccontextmanager
async def open_daemon(
    golem: GolemConfig, folder: DaemonFolder | None = None
) -> AsyncIterator[DaemonAddress]:
    """Yield the daemon that `golem.mode` names.

    mock and testnet: a private one with the config's fleet, ended on the way out; its books are
    in `folder`, or in a temporary folder that goes with it. yagna: the one that the environment
    (`YAGNA_APPKEY`, `YAGNA_API_URL`) names, which is left running.

    Raises:
        PreflightError: a private daemon does not start.
    """
    program = _PROGRAMS.get(golem.mode)
    if program is None:
        yield DaemonAddress.from_environment(os.environ)
        return
    async with AsyncExitStack() as stack:
        if folder is None:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="derl-daemon-"))
            folder = DaemonFolder(Path(name) / "state", Path(name) / "daemon.log")
            folder.state.mkdir()
        address = await stack.enter_async_context(
            private_daemon(
                golem.fleet or default_fleet(),
                folder.state,
                folder.log,
                folder.wire_log,
                program,
            )
        )
        yield address
