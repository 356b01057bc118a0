"""Carrying out a run: folder, daemon, signals, observers; the same for `run` and `resume`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import platform
import shlex
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TextIO

from gvmi.image_lock import LockedImage
from requestor.cli.assembly import run_settings
from requestor.cli.daemons import DaemonFolder, open_daemon
from requestor.cli.images import registry_url
from requestor.cli.machine_checks import machine_checks
from requestor.cli.offhand import OffhandQuote
from requestor.config import RunConfig, load_config, resolved_yaml
from requestor.errors import DerlError, PreflightError, RunFailed
from requestor.marketplace.choice.history import ProviderHistory
from requestor.marketplace.diagnosis import require_all
from requestor.marketplace.golem.daemon.api import DaemonAddress, DaemonApi, DaemonError
from requestor.marketplace.golem.daemon.preflight import check_daemon, wait_for_daemon
from requestor.marketplace.golem.paying.debts import wind_up
from requestor.marketplace.golem.paying.sweep import Sweep
from requestor.marketplace.golem.renting.rental import GolemMarketplace
from requestor.marketplace.money.ledger import Ledger, read_ledger
from requestor.reporting.event_log import EventLog, read_events
from requestor.reporting.metrics import MetricsWriter
from requestor.reporting.observer import Observers
from requestor.reporting.progress import open_progress
from requestor.reporting.tensorboard_log import TensorBoardLog
from requestor.secrecy import redact
from requestor.training_run import events
from requestor.training_run.auditing.means import AuditDoors
from requestor.training_run.run_directory import (
    RunDirectory,
    list_runs,
    new_run_directory,
    write_whole,
)
from requestor.training_run.run_loop import TrainingRun
from requestor.training_run.settings import RunSummary
from requestor.training_run.work_entries import WorkEntries

PACKAGES = ("derl", "torch", "stable-baselines3", "gymnasium", "numpy", "yapapi")
SWEEP_SECONDS = 10.0

_REST_LOGGERS = ("ya_activity", "ya_market", "ya_net", "ya_payment")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Launch:
    """What is to be executed, and for whom."""

    directory: RunDirectory
    config: RunConfig
    runs: Path
    progress: TextIO
    wire_log: bool = False


def create_run(config: RunConfig, runs: Path, image: LockedImage | None = None) -> RunDirectory:
    """Create the folder of a new run with config, versions and command in it.

    `image` is the locked one that the config meant, if it did.
    """
    directory = new_run_directory(runs, config.algo.name, config.env.id)
    write_whole(directory.config, resolved_yaml(config).encode())
    identity = {
        "run_id": uuid.uuid4().hex,
        "created_unix_seconds": time.time(),
        "command": redact(shlex.join(sys.argv)),
        "versions": _versions(),
    }
    if image is not None:
        identity["image"] = dataclasses.asdict(image)
    write_whole(directory.identity, json.dumps(identity, indent=1).encode() + b"\n")
    return directory


def execute(launch: Launch) -> RunSummary:
    """Do what is left of a run, in this process.

    Raises:
        DerlError: it could not begin; errors later on are in the summary.
    """
    with launch.directory.locked(), _disk_errors_explained(launch.directory):
        launch.directory.prepare()
        with file_log(launch.directory.logs / "derl-request.log"):
            return asyncio.run(_Execution(launch).run())


@contextlib.contextmanager
def _disk_errors_explained(directory: RunDirectory) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFailed(
            f"the system refuses a file of {directory.path}: {error}",
            fix="make room on the disk and check the folder's owner; `derl-request resume` then "
            "goes on and cleans up",
        ) from error


class _Execution:
    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._log: EventLog | None = None
        self._watchers = Observers([])
        self._stop = asyncio.Event()
        self._told: set[tuple[str, str]] = set()
        self._quote: OffhandQuote | None = None

    async def run(self) -> RunSummary:
        directory = self._launch.directory
        history = list(read_events(directory.events))
        self._log = EventLog(directory.events)
        self._watchers = Observers(
            [
                MetricsWriter(directory.metrics, history),
                TensorBoardLog(directory.tensorboard, history),
                open_progress(self._launch.progress, history),
            ]
        )
        self._handle_signals()
        try:
            golem = self._launch.config.golem
            await require_all(machine_checks(directory.path, golem.providers))
            async with AsyncExitStack() as stack:
                address = await stack.enter_async_context(self._daemon())
                await check_daemon(
                    address,
                    golem.payment_driver,
                    golem.payment_network,
                    is_private=golem.mode != "yagna",
                )
                await self._clean_up_after_others(address)
                ledger = Ledger(directory.ledger)
                stack.callback(ledger.close)
                await self._clean_up(address, ledger, directory.run_id, golem.budget_glm)
                return await self._train(address, ledger)
        finally:
            self._watchers.close()
            with contextlib.suppress(OSError):
                self._log.close()

    async def _train(self, address: DaemonAddress, ledger: Ledger) -> RunSummary:
        launch = self._launch
        history = ProviderHistory(launch.runs / "providers.json", time.time)
        market = GolemMarketplace(address, ledger, history)
        self._quote = OffhandQuote(
            launch.config, launch.runs, launch.directory.quote, market, history, self._notice
        )
        run = TrainingRun(
            run_settings(
                launch.config,
                launch.directory.run_id,
                registry_url(launch.config.golem, address),
            ),
            launch.directory,
            market,
            ledger,
            emit=WorkEntries(ledger, self._emit, time.monotonic),
            stop_requested=self._stop,
            wait_for_daemon=lambda: self._come_back(address, ledger),
            audits=AuditDoors(history, market),
        )
        self._quote.begin()
        try:
            return await run.execute()
        finally:
            await self._quote.close()

    def _daemon(self) -> AbstractAsyncContextManager[DaemonAddress]:
        """The daemon of the config; a private one lives in the run's folder."""
        directory = self._launch.directory
        wire_log = directory.logs / "wire.jsonl" if self._launch.wire_log else None
        folder = DaemonFolder(directory.daemon_state, directory.logs / "mock-golem.log", wire_log)
        return open_daemon(self._launch.config.golem, folder)

    async def _clean_up_after_others(self, address: DaemonAddress) -> None:
        """End what other runs of this folder, whose processes died, hold in the same daemon."""
        if self._launch.config.golem.mode != "yagna":
            return
        for directory in list_runs(self._launch.runs):
            if directory.path == self._launch.directory.path:
                continue
            try:
                await self._clean_up_after(directory, address)
            except (DerlError, OSError, ValueError, KeyError) as error:
                logger.warning("can't clean up after %s", directory.name, exc_info=True)
                self._notice(f"what run {directory.name} may have rented is left alone: {error}")

    async def _clean_up_after(self, directory: RunDirectory, address: DaemonAddress) -> None:
        if directory.is_locked or not directory.ledger.exists():
            return
        golem = load_config(directory.config).golem
        if golem.mode != "yagna" or not read_ledger(directory.ledger).is_open:
            return
        with directory.locked():
            ledger = Ledger(directory.ledger)
            try:
                await self._clean_up(address, ledger, directory.run_id, golem.budget_glm)
            finally:
                ledger.close()

    async def _clean_up(
        self, address: DaemonAddress, ledger: Ledger, run_id: str, budget_glm: Decimal
    ) -> None:
        """End what a killed process of a run has left in the daemon; pay what is still owed.

        Raises:
            PreflightError: the daemon does not let us.
        """
        async with DaemonApi(address) as api:
            sweep = Sweep(api, ledger, run_id, self._notice, budget_glm=budget_glm, told=self._told)
            try:
                report = await wind_up(sweep, budget_glm, SWEEP_SECONDS)
            except DaemonError as error:
                raise PreflightError(
                    f"what the run has rented can't be looked after: {error} @ {address.url}",
                    fix="look at yagna's own log and at YAGNA_APPKEY; `derl-request resume` then "
                    "cleans up and goes on",
                ) from error
        if not report.is_empty:
            self._notice(f"cleaned up after the last process: {report}")

    async def _come_back(self, address: DaemonAddress, ledger: Ledger) -> None:
        self._notice("waiting for the daemon to come back")
        try:
            golem = self._launch.config.golem
            await wait_for_daemon(address, golem.daemon_patience_seconds)
            run_id = self._launch.directory.run_id
            await self._clean_up(address, ledger, run_id, golem.budget_glm)
        except PreflightError as error:
            raise RunFailed(error.message, fix=error.fix) from error

    def _emit(self, event: events.Event) -> None:
        """Tell the log, whose loss would be the run's, and everybody else."""
        now = time.time()
        event = _without_secrets(event)
        assert self._log is not None
        self._log.on_event(event, now)
        self._watchers.on_event(event, now)
        if self._quote is not None:
            self._quote.on_event(event)

    def _notice(self, text: str) -> None:
        self._emit(events.Notice(text))

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupted)

    def _interrupted(self) -> None:
        if self._stop.is_set():
            self._watchers.close()
            name = self._launch.directory.name
            print(
                f"stopped at once; `derl-request resume {name}` goes on and pays what is open",
                file=sys.stderr,
                flush=True,
            )
            # children end by themselves when our end of their pipes closes
            os._exit(130)
        self._stop.set()
        self._notice("stopping; agreements are ended and paid. Ctrl-C again stops at once")


def _without_secrets(event: events.Event) -> events.Event:
    """Return the event as it may be written: a daemon's or a provider's words may quote a key."""
    texts = {
        name: value for name, value in vars(event).items() if isinstance(value, str) and value
    }
    changed = {name: safe for name, text in texts.items() if (safe := redact(text)) != text}
    return dataclasses.replace(event, **changed) if changed else event


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


class _Redacted(logging.Formatter):
    """Keeps keys out of the log, whoever logs them."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback below it, without secrets."""
        return redact(super().format(record))


@contextlib.contextmanager
def file_log(path: Path) -> Iterator[None]:
    """Send all logging to a file; yapapi's chatter has no place on the terminal."""
    handler = logging.FileHandler(path)
    handler.setFormatter(_Redacted("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    # request bodies and headers: costly, and the wire log of the mock has them
    for name in ("asyncio", "aiohttp", "filelock", *_REST_LOGGERS):
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
