"""Before a run and after an absence of the daemon: is it there, and fit?"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass

from requestor.errors import PreflightError
from requestor.marketplace.diagnosis import require_all
from requestor.marketplace.golem.daemon.api import DaemonAddress, DaemonApi, DaemonError
from requestor.marketplace.golem.daemon.checks import DaemonChecks, DaemonNeeds


@dataclass(frozen=True)
class DaemonFacts:
    """What preflight learned."""

    version: str
    identity: str
    platform: str


async def check_daemon(
    address: DaemonAddress, driver: str, network: str, *, is_private: bool = False
) -> DaemonFacts:
    """Check daemon, key, account and gftp.

    Raises:
        PreflightError: the first thing that is not in order, with its fix.
    """
    needs = DaemonNeeds(driver, network, is_private=is_private)
    async with DaemonApi(address) as api:
        daemon = DaemonChecks(address, api, needs)
        await require_all(daemon.checks())
    return DaemonFacts(daemon.version, daemon.identity, needs.platform)


async def wait_for_daemon(address: DaemonAddress, patience_seconds: float) -> None:
    """Wait until the daemon answers (again).

    Raises:
        PreflightError: it does not within `patience_seconds`.
    """
    deadline = time.monotonic() + patience_seconds
    async with DaemonApi(address, timeout_seconds=5.0) as api:
        while True:
            try:
                await api.version()
                return
            except DaemonError as error:
                if time.monotonic() >= deadline:
                    raise PreflightError(
                        f"the daemon at {address.url} did not come back within "
                        f"{patience_seconds:.0f} s ({error})",
                        fix="start it (`yagna service run`), then `derl-request resume`",
                    ) from error
            await asyncio.sleep(0.5)


def prepend_path(folder: str) -> None:
    """Put a folder at the front of PATH: yapapi finds `gftp` there."""
    os.environ["PATH"] = folder + os.pathsep + os.environ.get("PATH", "")
