"""Is the daemon fit for a run? Every failure names the command that mends it."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from dataclasses import dataclass

from requestor.errors import PreflightError
from requestor.marketplace.golem.daemon_api import DaemonAddress, DaemonApi, DaemonError

MAINNETS = frozenset({"mainnet", "polygon"})


@dataclass(frozen=True)
class DaemonFacts:
    """What preflight learned."""

    version: str
    identity: str
    platform: str


async def check_daemon(address: DaemonAddress, driver: str, network: str) -> DaemonFacts:
    """Check daemon, key, account and gftp.

    Raises:
        PreflightError: the first thing that is not in order, with its fix.
    """
    if shutil.which("gftp") is None:
        raise PreflightError(
            "there is no `gftp` on PATH, and files travel to providers through it",
            fix="install yagna with its gftp (https://docs.golem.network), or use "
            "golem.mode=mock, which brings its own",
        )
    if not address.app_key:
        raise PreflightError(
            "YAGNA_APPKEY is not set",
            fix="`yagna app-key create requestor`, then `export YAGNA_APPKEY=<the key>`",
        )
    async with DaemonApi(address) as api:
        version = await _reach(api, address)
        identity = await _identify(api)
        platform = f"{driver}-{network}-{'glm' if network in MAINNETS else 'tglm'}"
        await _check_account(api, platform, driver, network)
    return DaemonFacts(version, identity, platform)


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


async def _reach(api: DaemonApi, address: DaemonAddress) -> str:
    try:
        return await api.version()
    except DaemonError as error:
        raise PreflightError(
            f"no yagna daemon answers at {address.url} ({error.message})",
            fix="start one with `yagna service run`, set YAGNA_API_URL, or use golem.mode=mock",
        ) from error


async def _identify(api: DaemonApi) -> str:
    try:
        return await api.identity()
    except DaemonError as error:
        if error.status in (401, 403):
            raise PreflightError(
                f"the daemon refuses the key in YAGNA_APPKEY ({error.message})",
                fix="`yagna app-key list` shows the keys it knows; export one as YAGNA_APPKEY",
            ) from error
        raise PreflightError(f"the daemon does not say who we are: {error}") from error


async def _check_account(api: DaemonApi, platform: str, driver: str, network: str) -> None:
    try:
        accounts = await api.accounts()
    except DaemonError as error:
        raise PreflightError(f"the daemon does not list its payment accounts: {error}") from error
    platforms = sorted({str(account.get("platform")) for account in accounts})
    if platform not in platforms:
        known = ", ".join(platforms) or "none"
        raise PreflightError(
            f"the daemon has no account for {platform} (it has: {known})",
            fix=f"`yagna payment init --sender --driver {driver} --network {network}`, "
            f"or set golem.payment_network",
        )


def prepend_path(folder: str) -> None:
    """Put a folder at the front of PATH: yapapi finds `gftp` there."""
    os.environ["PATH"] = folder + os.pathsep + os.environ.get("PATH", "")
