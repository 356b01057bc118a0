"""Work that came in before a crash is audited after it, also where only a canary tells the bits."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from requestor.cli.assembly import run_settings
from requestor.config import parse_config
from requestor.evaluation.local_workshop import LocalWorkshop
from requestor.marketplace.choice.history import ProviderHistory
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.virtual.market import VirtualMarketplace
from requestor.marketplace.virtual.providers import crowd
from requestor.training_run import events
from requestor.training_run.auditing import run_audits
from requestor.training_run.auditing.means import AuditDoors
from requestor.training_run.auditing.replaying import LocalReplays, Replayed
from requestor.training_run.run_directory import RunDirectory
from requestor.training_run.run_loop import TrainingRun

pytestmark = pytest.mark.timeout(300)

CONFIG = """
env: {id: CartPole-v1, n_envs: 2}
algo: {name: ppo, learner: LEARNER, n_steps: 16, batch_size: 32, n_epochs: 1}
federation: {rounds: 2, clients: 3, local_steps: 64, speculate: false}
golem: {providers: 3}
evaluation: {episodes: 2, final_episodes: 2, gate: {rule: none}}
trust: {audits: {first: 1, least: 1}}
"""


class Runs:
    """One run in a folder, of which each process sees what the one before has left."""

    def __init__(self, folder: Path, learner: str) -> None:
        self.directory = RunDirectory(folder)
        self.directory.prepare()
        self.settings = run_settings(parse_config(CONFIG.replace("LEARNER", learner)), "run")
        self.log: list[events.Event] = []
        self.opened = 0
        self.is_dead = False

    def execute(self, crashes_in: int | None = None) -> None:
        """Go on with the run; die when the first result of a round is in."""
        self.log, self.is_dead = [], False
        asyncio.run(self._execute(crashes_in))

    async def _execute(self, crashes_in: int | None) -> None:
        folder, dies = self.directory.path, asyncio.Event()

        def emit(event: events.Event) -> None:
            self.log.append(event)
            if isinstance(event, events.OrderDone) and event.round == crashes_in:
                self.is_dead = True
                dies.set()

        ledger = Ledger(self.directory.ledger)
        async with LocalWorkshop(folder / "shop", self.settings.learner) as shop:
            providers, spares = crowd(3, 0, None)
            market = VirtualMarketplace(providers, spares, shop, 3, opened=self.opened)
            history = ProviderHistory(folder / "providers.json", time.time)
            run = TrainingRun(
                self.settings,
                self.directory,
                market,
                ledger,
                emit=emit,
                stop_requested=asyncio.Event(),
                exports=False,
                audits=AuditDoors(history, market),
            )
            process = asyncio.create_task(run.execute())
            if crashes_in is None:
                summary = await process
                assert summary.outcome == "completed", summary
            else:
                died = asyncio.create_task(dies.wait())
                await asyncio.wait({process, died}, return_when=asyncio.FIRST_COMPLETED)
                assert dies.is_set()
                process.cancel()
                with suppress(asyncio.CancelledError):
                    await process
        ledger.close()
        self.opened = market.opened

    def silence_the_dead(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have no audit end while a process that died is cleared away."""
        replay = LocalReplays.replay

        async def replay_alive(replays: LocalReplays, *args: Any, **options: Any) -> Replayed:
            replayed = await replay(replays, *args, **options)
            if self.is_dead:
                await asyncio.Event().wait()
            return replayed

        monkeypatch.setattr(LocalReplays, "replay", replay_alive)

    def standings(self) -> dict[tuple[int, int], tuple[str, ...]]:
        """What is known of each item in the end, and who did it once more."""
        lines = map(json.loads, self.directory.audits.read_text().splitlines())
        return {
            (one["round"], one["client"]): (one["standing"], *one["verified_by"]) for one in lines
        }

    def audited(self) -> list[str]:
        """What came of the audits of the last process."""
        return [event.outcome for event in self.log if isinstance(event, events.WorkAudited)]


@pytest.mark.parametrize("learner", ["native", pytest.param("sb3", marks=pytest.mark.slow)])
@pytest.mark.parametrize("crashes_in", [0, 1])
def test_a_salvaged_result_is_audited_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learner: str, crashes_in: int
) -> None:
    # as where the bits depend on the machine
    monkeypatch.setattr(run_audits, "fingerprint_without_canary", lambda *_: None)
    runs = Runs(tmp_path, learner)
    runs.silence_the_dead(monkeypatch)
    runs.execute(crashes_in)
    pending = [item for item, standing in runs.standings().items() if standing == ("pending",)]
    assert {number for number, _ in pending} == {crashes_in}  # one, or others at the same time
    runs.execute()
    started = [event for event in runs.log if isinstance(event, events.RoundStarted)]
    assert started[0].salvaged == len(pending)
    assert set(runs.audited()) == {"verified"}
    everything = {(number, client) for number in range(2) for client in range(3)}
    assert runs.standings() == dict.fromkeys(everything, ("verified", "requestor"))
