"""The loop rents only while there is work to do, and gives up on a daemon that brings nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from dataclasses import replace as dataclass_replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provider_image.wire import (
    Bundle,
    ModelMetadata,
    TrainOrder,
    TrainResult,
    decode_order,
    order_digest,
    read_bundle,
    write_bundle,
)
from requestor.errors import BudgetReached, Interrupted, RunFailed
from requestor.evaluation.judge import Evaluation, Judge
from requestor.evaluation.local_worker import LocalWorker
from requestor.federation.rounds import FederationSettings
from requestor.marketplace.choice.failures import FailureKind
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.money.spending import Prices, SpendingGuard
from requestor.marketplace.ports import (
    Job,
    LeaseInfo,
    MarketplaceGone,
    MarketplaceLost,
    Terms,
)
from requestor.training_run import events, run_loop
from requestor.training_run.run_directory import RunDirectory
from requestor.training_run.run_loop import MAX_LOSSES, TrainingRun
from requestor.training_run.settings import RunSummary
from tests.requestor.training_run.small_run import SMALL_RUN

METADATA = ModelMetadata(algorithm="ppo", environment_id="E", observation_space="", action_space="")


class IdleWorker(LocalWorker):
    """A folder without a process."""

    async def __aenter__(self) -> IdleWorker:
        self.folder.mkdir(exist_ok=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


class EvenJudge(Judge):
    """Every model plays the same."""

    async def initialise(self, run_id: str, seed: int) -> Bundle:
        path = self.worker.folder / "fresh.safetensors"
        write_bundle(path, {"policy/w": np.zeros(1, np.float32)}, METADATA)
        return read_bundle(path, max_bytes=10_000)

    async def evaluate(
        self, model: Path, seeds: Sequence[int], *, deterministic: bool
    ) -> Evaluation:
        return Evaluation((1.0,) * len(seeds), (1,) * len(seeds))

    async def export(self, model: Path, seed: int, archive: Path, normalizer: Path) -> None:
        archive.touch()


class HonestLease:
    """Does every order at once: an update of zeros."""

    info = LeaseInfo("L1", "willow", "0xa", "A1", Prices())

    async def execute(self, job: Job) -> dict[str, str]:
        order = decode_order(job.order)
        assert isinstance(order, TrainOrder)
        result = TrainResult(
            order_sha256=order_digest(order),
            steps=order.local_steps,
            episodes=1,
            wall_seconds=0.0,
            cpu_seconds=0.0,
        )
        ((name, output),) = job.outputs.items()
        update = {"policy/w": np.zeros(1, np.float32)}
        return {name: write_bundle(output.path, update, result).sha256}

    def assess(self, useful_steps: int, seconds: float) -> None:
        assert useful_steps > 0
        assert seconds >= 0

    def release(self, reason: str, *, avoid: bool, failure: FailureKind = "other") -> None:
        raise AssertionError(reason)


class Purse(SpendingGuard):
    """Lasts for as long as a test says."""

    seconds = 1000.0

    def may_spend_seconds(self, now_seconds: float) -> float:
        return self.seconds


class OneLeasePool:
    """A pool with a single, honest lease."""

    market_view = ""
    seconds_left = float("inf")
    awaits_more = True

    def __init__(self) -> None:
        self.spending = Purse(Decimal(1))
        self._leases = [HonestLease()]

    def review(self) -> None:
        pass

    async def next_lease(self) -> HonestLease:
        while not self._leases:
            await asyncio.Event().wait()
        return self._leases.pop()


class LosingPool(OneLeasePool):
    """Has one round done, and loses its daemon when the next one begins."""

    is_used = False

    def review(self) -> None:
        if self.is_used:
            raise MarketplaceLost("the daemon is gone")
        self.is_used = True


@dataclass
class LosingMarket:
    """A market whose first sessions do a round each; in others the daemon goes away at once."""

    rented: int = 0
    is_gone: bool = False
    rounds_left: int = 0

    @asynccontextmanager
    async def rent(self, terms: Terms, notice: Callable[[str], None]) -> AsyncIterator[Any]:
        self.rented += 1
        if self.is_gone:
            raise MarketplaceGone("the daemon has been away for 120 s")
        if not self.rounds_left:
            raise MarketplaceLost("the daemon is gone")
        self.rounds_left -= 1
        yield LosingPool()


@dataclass
class Rehearsal:
    """A run in a folder, with nobody to rent from."""

    folder: Path
    stop: asyncio.Event
    market: LosingMarket
    log: list[events.Event]

    def run(self, rounds: int = 0) -> RunSummary:
        """Execute the run; its first `rounds` sessions do a round before the daemon is lost."""
        self.market.rounds_left = rounds
        directory = RunDirectory(self.folder)
        directory.prepare()
        ledger = Ledger(directory.ledger)
        run = TrainingRun(
            SMALL_RUN,
            directory,
            self.market,
            ledger,
            emit=self.log.append,
            stop_requested=self.stop,
        )
        try:
            return asyncio.run(run.execute())
        finally:
            ledger.close()


@pytest.fixture
def rehearsal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rehearsal:
    monkeypatch.setattr(run_loop, "LocalWorker", IdleWorker)
    monkeypatch.setattr(run_loop, "Judge", EvenJudge)
    return Rehearsal(tmp_path, asyncio.Event(), LosingMarket(), [])


def test_a_request_to_stop_before_the_first_session_costs_nothing(rehearsal: Rehearsal) -> None:
    rehearsal.stop.set()
    summary = rehearsal.run()
    assert rehearsal.market.rented == 0
    assert isinstance(summary.error, Interrupted)
    assert summary.outcome == "interrupted"
    assert not any(isinstance(event, events.RentingStarted) for event in rehearsal.log)


def test_a_daemon_that_is_lost_again_and_again_ends_the_run(rehearsal: Rehearsal) -> None:
    summary = rehearsal.run()
    assert rehearsal.market.rented == MAX_LOSSES
    assert isinstance(summary.error, RunFailed)
    assert summary.outcome == "failed"


def test_a_daemon_that_was_waited_for_is_not_waited_for_again(rehearsal: Rehearsal) -> None:
    rehearsal.market.is_gone = True
    summary = rehearsal.run()
    assert rehearsal.market.rented == 1
    assert isinstance(summary.error, RunFailed)
    assert str(summary.error) == "the daemon has been away for 120 s"
    assert "yagna service run" in str(summary.error.fix)


def test_losses_between_rounds_that_were_done_do_not_add_up(rehearsal: Rehearsal) -> None:
    summary = rehearsal.run(rounds=5)
    assert summary.rounds == 5
    # the last loss after a round is the first of those in a row
    assert rehearsal.market.rented == 5 + MAX_LOSSES - 1
    lost = [event for event in rehearsal.log if isinstance(event, events.MarketplaceWentAway)]
    assert [event.session for event in lost] == [1] * 5 + [2, 3, 4]


class OneLeaseMarket:
    """Rents a `OneLeasePool`, and tells when it was given back."""

    def __init__(self) -> None:
        self.pool = OneLeasePool()
        self.given_back = asyncio.Event()

    @asynccontextmanager
    async def rent(self, terms: Terms, notice: Callable[[str], None]) -> AsyncIterator[Any]:
        try:
            yield self.pool
        finally:
            self.given_back.set()


def run_with_patient_judge(
    folder: Path, monkeypatch: pytest.MonkeyPatch, rounds: int, while_judging: Callable[..., None]
) -> RunSummary:
    """Run with a judge that finishes a candidate only once nothing is rented any more."""
    market = OneLeaseMarket()
    stop = asyncio.Event()

    class PatientJudge(EvenJudge):
        async def evaluate(
            self, model: Path, seeds: Sequence[int], *, deterministic: bool
        ) -> Evaluation:
            if "00000" not in model.name:
                while_judging(market.pool.spending, stop)
                await asyncio.wait_for(market.given_back.wait(), 20)
            return await super().evaluate(model, seeds, deterministic=deterministic)

    monkeypatch.setattr(run_loop, "LocalWorker", IdleWorker)
    monkeypatch.setattr(run_loop, "Judge", PatientJudge)
    directory = RunDirectory(folder)
    directory.prepare()
    ledger = Ledger(directory.ledger)
    federation = FederationSettings(6, rounds, 2, 64, 2)
    run = TrainingRun(
        dataclass_replace(SMALL_RUN, federation=federation),
        directory,
        market,
        ledger,
        emit=lambda event: None,
        stop_requested=stop,
    )
    try:
        return asyncio.run(run.execute())
    finally:
        ledger.close()


def test_nothing_is_rented_while_the_last_candidate_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = run_with_patient_judge(tmp_path, monkeypatch, 1, lambda purse, stop: None)
    assert (summary.outcome, summary.rounds, summary.error) == ("completed", 1, None)


def test_agreements_end_when_the_budget_would_not_last_for_the_judging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spend(purse: Purse, stop: asyncio.Event) -> None:
        purse.seconds = 0.1

    summary = run_with_patient_judge(tmp_path, monkeypatch, 3, spend)
    assert isinstance(summary.error, BudgetReached)
    assert (summary.outcome, summary.rounds) == ("budget_reached", 1)


def test_agreements_end_when_a_stop_is_asked_for_during_the_judging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = run_with_patient_judge(tmp_path, monkeypatch, 3, lambda purse, stop: stop.set())
    assert isinstance(summary.error, Interrupted)
    assert (summary.outcome, summary.rounds) == ("interrupted", 1)
