"""Sweeping a folder of runs: what their dead processes hold is found, ended, paid and released.

Runs at work are locked and left alone, and so is everything that is not ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from requestor.cli.daemons import DaemonFolder, open_daemon
from requestor.config import GolemConfig, load_config
from requestor.errors import DerlError, PreflightError
from requestor.marketplace.golem.daemon.api import DaemonApi, DaemonError
from requestor.marketplace.golem.paying.debts import wind_up
from requestor.marketplace.golem.paying.holdings import (
    Holdings,
    Sorted,
    oldest_unix_seconds,
    sort_out,
    survey,
)
from requestor.marketplace.golem.paying.sweep import Sweep, SweepReport
from requestor.marketplace.money.ledger import Ledger, LedgerSummary, read_ledger
from requestor.training_run.run_directory import RunDirectory

SWEEP_SECONDS = 10.0


@dataclass(frozen=True)
class Orders:
    """What is to be done.

    is_dry: look and change nothing.
    ends_strays: end agreements with our mark whose run is not in the folder.
    allocations: ids of allocations to release, whoever made them.
    """

    is_dry: bool = False
    ends_strays: bool = False
    allocations: tuple[str, ...] = ()

    @property
    def needs_daemon(self) -> bool:
        """Whether the user's daemon is looked at even if no run needs it."""
        return self.ends_strays or bool(self.allocations)


@dataclass
class SweptRun:
    """One run: what it held, and what was done about it.

    state: `dead`, `at work` (left alone), or `unreadable`.
    """

    name: str
    run_id: str
    state: str
    held: Holdings = field(default_factory=Holdings)
    report: SweepReport | None = None
    notices: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """What a sweep has found and done; `failures` are told and make the command fail."""

    runs: list[SweptRun] = field(default_factory=list)
    strays: Mapping[str, Holdings] = field(default_factory=dict)
    unknown: Holdings = field(default_factory=Holdings)
    strays_ended: int = 0
    allocations_released: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Run:
    directory: RunDirectory
    golem: GolemConfig
    ledger: LedgerSummary
    is_at_work: bool

    @property
    def is_private(self) -> bool:
        return self.golem.mode != "yagna"

    @property
    def may_hold(self) -> bool:
        """Whether its books say that something is open or owed.

        In the user's daemon a late invoice may have come; one that is woken for this sends none.
        """
        owes = self.ledger.put_off_glm if self.is_private else self.ledger.unsettled
        return self.ledger.is_open or bool(owes)


async def sweep_runs(
    chosen: Sequence[RunDirectory], folder: Iterable[RunDirectory], orders: Orders
) -> Outcome:
    """Sweep after the `chosen` runs; `folder` holds all that are known, so that none is a stray.

    Raises:
        PreflightError: the user's daemon is not there. (One of a run's own is a failure of it.)
    """
    outcome = Outcome()
    every = {directory.path: directory for directory in [*folder, *chosen]}
    known = [run for one in every.values() if (run := _read(one, outcome)) is not None]
    paths = {directory.path for directory in chosen}
    wanted = [run for run in known if run.directory.path in paths]
    users = [run for run in known if not run.is_private]
    if orders.needs_daemon or any(run.may_hold for run in wanted if not run.is_private):
        await _sweep_users_daemon(users, paths, orders, outcome)
    for run in wanted:
        if run.is_private and run.may_hold:
            try:
                await _sweep_private_daemon(run, orders, outcome)
            except PreflightError as error:
                outcome.failures.append(f"{run.directory.name}: {error}")
    return outcome


def _read(directory: RunDirectory, outcome: Outcome) -> _Run | None:
    try:
        at_work = directory.is_locked
        golem = load_config(directory.config).golem
        return _Run(directory, golem, read_ledger(directory.ledger), at_work)
    except (DerlError, OSError, ValueError, KeyError) as error:
        outcome.runs.append(SweptRun(directory.name, "", "unreadable", notices=[str(error)]))
        return None


async def _sweep_users_daemon(
    runs: Sequence[_Run], wanted: Set[Path], orders: Orders, outcome: Outcome
) -> None:
    async with open_daemon(GolemConfig(mode="yagna")) as address, DaemonApi(address) as api:
        found = await _look(api, runs)
        outcome.strays, outcome.unknown = found.strays, found.unknown
        for run in runs:
            if run.directory.path in wanted and (run.may_hold or run.is_at_work):
                await _sweep_run(api, run, found, orders, outcome)
        if not orders.is_dry:
            if orders.ends_strays:
                await _end_strays(api, found, outcome)
            await _release(api, found, runs, orders.allocations, outcome)


async def _sweep_private_daemon(run: _Run, orders: Orders, outcome: Outcome) -> None:
    """Wake the daemon that lives in the run's folder; it knows what the run has left there."""
    directory = run.directory
    if run.is_at_work:
        outcome.runs.append(SweptRun(directory.name, directory.run_id, "at work"))
        return
    directory.prepare()
    folder = DaemonFolder(directory.daemon_state, directory.logs / "mock-golem.log")
    async with open_daemon(run.golem, folder) as address, DaemonApi(address) as api:
        found = await _look(api, [run])
        await _sweep_run(api, run, found, orders, outcome)


async def _look(api: DaemonApi, runs: Sequence[_Run]) -> Sorted:
    ledgers = {run.directory.run_id: run.ledger for run in runs}
    try:
        return sort_out(await survey(api, oldest_unix_seconds(ledgers.values())), ledgers)
    except DaemonError as error:
        raise PreflightError(
            f"the daemon can't be asked what it holds: {error}",
            fix="`derl-request doctor golem.mode=yagna` says what is wrong with it",
        ) from error


async def _sweep_run(
    api: DaemonApi, run: _Run, found: Sorted, orders: Orders, outcome: Outcome
) -> None:
    directory = run.directory
    held = found.runs.get(directory.run_id, Holdings())
    state = "at work" if run.is_at_work else "dead"
    swept = SweptRun(directory.name, directory.run_id, state, held)
    if not (held.is_empty and not run.ledger.is_open):
        outcome.runs.append(swept)
    if orders.is_dry or run.is_at_work:
        return
    try:
        with directory.locked():
            ledger = Ledger(directory.ledger)
            try:
                swept.report = await _wind_up(api, run, ledger, swept)
            finally:
                ledger.close()
    except (DerlError, DaemonError, OSError) as error:
        outcome.failures.append(f"{directory.name}: {error}")


async def _wind_up(api: DaemonApi, run: _Run, ledger: Ledger, swept: SweptRun) -> SweepReport:
    budget: Decimal = run.golem.budget_glm
    told: set[tuple[str, str]] = set()
    sweep = Sweep(
        api, ledger, run.directory.run_id, swept.notices.append, budget_glm=budget, told=told
    )
    return await wind_up(sweep, budget, SWEEP_SECONDS)


async def _end_strays(api: DaemonApi, found: Sorted, outcome: Outcome) -> None:
    for run_id, held in found.strays.items():
        for agreement in held.agreements:
            try:
                await api.terminate_agreement(agreement.agreement_id, "ended by derl-request sweep")
                outcome.strays_ended += 1
            except DaemonError as error:
                outcome.failures.append(f"{agreement.provider_name} (run {run_id}): {error}")


async def _release(
    api: DaemonApi,
    found: Sorted,
    runs: Sequence[_Run],
    allocations: Sequence[str],
    outcome: Outcome,
) -> None:
    at_work = {
        one.allocation_id
        for run in runs
        if run.is_at_work
        for one in found.runs[run.directory.run_id].allocations
    }
    for allocation_id in allocations:
        if allocation_id in at_work:
            outcome.failures.append(f"allocation {allocation_id} belongs to a run at work")
            continue
        try:
            await api.release_allocation(allocation_id)
            outcome.allocations_released.append(allocation_id)
        except DaemonError as error:
            outcome.failures.append(f"allocation {allocation_id}: {error}")
