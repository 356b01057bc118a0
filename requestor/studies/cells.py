"""One cell of a study: one run of the real training loop, and what is kept of it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from requestor.attacks.catalogue import Attack
from requestor.marketplace.choice.history import ProviderHistory
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.virtual.market import VirtualMarketplace, Workshop
from requestor.marketplace.virtual.providers import crowd
from requestor.training_run import events
from requestor.training_run.auditing.means import AuditDoors
from requestor.training_run.run_directory import RunDirectory
from requestor.training_run.run_loop import TrainingRun
from requestor.training_run.settings import RunSettings


@dataclass(frozen=True, order=True)
class Cell:
    """Which attack against which variant of the defence, with which seed. `none`: no attack."""

    variant: str
    attack: str
    seed: int


@dataclass(frozen=True)
class CellResult:
    """What came of a cell.

    rounds: how many it took to the target, None where it was not reached. returns: the mean return
    on the held-out episodes after each round, the untrained model first. refused_liars and
    refused_honest: results that were thrown out; lost_liars and lost_honest: leases that were ended
    over it; convicted_liars and convicted_honest: providers that an audit convicted.
    """

    cell: Cell
    rounds: int | None
    returns: tuple[float, ...]
    refused_liars: int
    refused_honest: int
    lost_liars: int
    lost_honest: int
    convicted_liars: int
    convicted_honest: int
    reasons: tuple[str, ...]
    outcome: str
    seconds: float


@dataclass(frozen=True)
class Crowd:
    """Who is on the market of a cell."""

    providers: int
    liars: int
    attack: Attack | None


@dataclass
class Watcher:
    """Keeps of a run's events what a study tells of them."""

    returns: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    convicted: Counter[str] = field(default_factory=Counter)
    _names: dict[str, str] = field(default_factory=dict)

    def on_event(self, event: events.Event) -> None:
        """Take notice of an event."""
        match event:
            case events.LeaseOpened():
                self._names[event.lease] = event.provider_name
            case events.LeaseEnded() if event.reason not in ("released", "the run is over"):
                self.lost[_camp(event.provider_name)] += 1
                self._note(event.reason)
            case events.Evaluated(purpose="initial" | "candidate"):
                self.returns.append(event.mean_return)
            case events.UpdateRejected() | events.OrderFailed():
                self.refused[_camp(self._names.get(event.lease, ""))] += 1
                self._note(event.reason)
            case events.DeliveryRejected():
                self.refused[_camp(event.provider_name)] += 1
                self._note(event.reason)
            case events.ProviderConvicted():
                self.convicted[_camp(event.provider_name)] += 1

    def _note(self, reason: str) -> None:
        if reason not in self.reasons and len(self.reasons) < 8:
            self.reasons.append(reason[:200])


def _camp(name: str) -> str:
    return "liars" if name.startswith("liar") else "honest"


async def run_cell(
    cell: Cell, settings: RunSettings, people: Crowd, workshop: Workshop, folder: Path
) -> CellResult:
    """Run the cell in `folder`, which is emptied before and removed afterwards.

    Raises:
        DerlError: it could not begin, which is no result.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    directory = RunDirectory(folder)
    directory.prepare()
    providers, spares = crowd(people.providers, people.liars, people.attack, people.liars)
    market = VirtualMarketplace(
        providers, spares, workshop, settings.federation.clients, seed=cell.seed
    )
    watcher = Watcher()
    ledger = Ledger(directory.ledger)
    began = time.monotonic()
    try:
        run = TrainingRun(
            settings,
            directory,
            market,
            ledger,
            emit=watcher.on_event,
            stop_requested=asyncio.Event(),
            exports=False,
            audits=AuditDoors(ProviderHistory(folder / "providers.json", time.time), market),
        )
        summary = await run.execute()
        outcome = summary.outcome if summary.error is None else f"failed: {summary.error.message}"
        reached = summary.rounds if summary.outcome == "target_reached" else None
    finally:
        ledger.close()
        shutil.rmtree(folder, ignore_errors=True)
    return CellResult(
        cell=cell,
        rounds=reached,
        returns=tuple(round(value, 1) for value in watcher.returns),
        refused_liars=watcher.refused["liars"],
        refused_honest=watcher.refused["honest"],
        lost_liars=watcher.lost["liars"],
        lost_honest=watcher.lost["honest"],
        convicted_liars=watcher.convicted["liars"],
        convicted_honest=watcher.convicted["honest"],
        reasons=tuple(watcher.reasons),
        outcome=outcome,
        seconds=round(time.monotonic() - began, 2),
    )
