"""Runs that are over, merged again: by playing, or with the server's own steps, if they were."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from msgspec.structs import replace

from provider_image.wire import ModelMetadata, decode_metadata, settled
from requestor.cli.assembly import run_settings
from requestor.config import load_config
from requestor.evaluation.judge import Judge
from requestor.evaluation.local_worker import LocalOrderFailed
from requestor.evaluation.local_workshop import LocalWorkshop
from requestor.marketplace.choice.history import ProviderHistory
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.virtual.market import VirtualMarketplace
from requestor.marketplace.virtual.providers import crowd
from requestor.training_run.auditing import run_audits, verifying
from requestor.training_run.auditing.means import AuditDoors
from requestor.training_run.auditing.provenance_log import ProvenanceFolder
from requestor.training_run.auditing.verifying import Check, RunAudit, open_audit
from requestor.training_run.checkpoints import CheckpointStore
from requestor.training_run.run_directory import RunDirectory
from requestor.training_run.run_loop import TrainingRun
from requestor.training_run.settings import RunSettings
from requestor.trust.provenance import (
    FIRST_PREVIOUS,
    RoundRecord,
    encode_record,
    read_chain,
    record_digest,
)

pytestmark = pytest.mark.timeout(300)

PPO = """
seed: 3
env: {{id: CartPole-v1, n_envs: 2}}
algo: {{name: ppo, n_steps: 16, batch_size: 32, n_epochs: 1}}
federation: {{rounds: 2, clients: 3, local_steps: 32, speculate: false, aggregation: {merge}}}
golem: {{providers: 3}}
evaluation: {{episodes: 2, final_episodes: 2, gate: {{rule: none}}}}
trust: {{audits: {{first: 0, least: 0}}}}
"""
GRADIENTS = """
seed: 3
env: {{id: CartPole-v1}}
algo: {{{method}, horizon: 30, policy_kwargs: {{net_arch: [8]}}}}
federation: {{rounds: 3, clients: 5, local_steps: 240, speculate: false, aggregation: {merge}}}
golem: {{providers: 5}}
evaluation: {{episodes: 2, final_episodes: 2, gate: {{rule: none}}}}
trust: {{audits: {{first: 0, least: 0}}}}
"""
JUDGED = {
    "softmax": "{rule: performance, trial_episodes: 2}",
    "best": "{rule: transfer_best, trial_episodes: 2}",
    "cma": "{rule: evolutionary, trial_episodes: 1, evaluations: 8}",
    "de": "{rule: evolutionary, search: differential_evolution, trial_episodes: 1, evaluations: 8}",
}
METHODS = {
    "fedpg_br": GRADIENTS.format(
        method="name: fedpg_br, least_episodes: 4, most_episodes: 8, server_episodes: 2",
        merge="{rule: fedpg_br, sigma: 0.06}",
    ),
    "byzpg": GRADIENTS.format(
        method="name: byzpg, large_episodes: 8, small_episodes: 3, large_chance: 0.4",
        merge="{rule: geometric_median}",
    ),
}
CONFIGS = {name: PPO.format(merge=merge) for name, merge in JUDGED.items()} | METHODS
CANARIED = PPO.format(merge="mean").replace("first: 0", "first: 1")


class Done:
    """A run in a folder that is over."""

    def __init__(self, folder: Path, config: str) -> None:
        """Do it, with honest providers on a virtual market."""
        self.directory = RunDirectory(folder)
        self.directory.prepare()
        self.directory.config.write_text(config)
        asyncio.run(self._train(self._settings))

    @property
    def _settings(self) -> RunSettings:
        return run_settings(load_config(self.directory.config), "run")

    async def _train(self, settings: RunSettings) -> None:
        folder = self.directory.path
        ledger = Ledger(self.directory.ledger)
        async with LocalWorkshop(folder / "shop", settings.learner) as shop:
            providers, spares = crowd(settings.terms.providers, 0, None)
            market = VirtualMarketplace(providers, spares, shop, settings.federation.clients)
            run = TrainingRun(
                settings,
                self.directory,
                market,
                ledger,
                emit=lambda _: None,
                stop_requested=asyncio.Event(),
                exports=False,
                audits=AuditDoors(ProviderHistory(folder / "providers.json", time.time), market),
            )
            summary = await run.execute()
        ledger.close()
        assert summary.outcome == "completed", summary

    @property
    def chain(self) -> Path:
        """Its records."""
        return ProvenanceFolder(self.directory.provenance).chain

    def chain_faults(self) -> Sequence[str]:
        """Look at its records and files alone."""

        async def looked() -> Sequence[str]:
            async with self._audit() as audit:
                return audit.chain(None).chain_faults

        return asyncio.run(looked())

    def verify_faked_item(self) -> Check:
        """Do its first item again, as if something else had been delivered."""

        async def verified() -> Check:
            async with self._audit() as audit:
                record = audit.chain(None).history.rounds[0]
                work = replace(record.work[0], result_sha256="5" * 64)
                (check,) = await audit.items([(record, work)])
                return check

        return asyncio.run(verified())

    def _audit(self) -> AbstractAsyncContextManager[RunAudit]:
        checkpoint = self._store.latest()
        assert checkpoint is not None
        made = decode_metadata(self._store.load(checkpoint.model), ModelMetadata)
        settings = self._settings
        settings = dataclasses.replace(settings, learner=settled(settings.learner, made))
        return open_audit(settings, self.directory, self.directory.path / "scratch")

    @property
    def _store(self) -> CheckpointStore:
        return CheckpointStore(self.directory.checkpoints)

    def verify(self) -> Verified:
        """Do all of its rounds again, then the second one as if it had had another candidate."""
        checkpoint = self._store.latest()
        assert checkpoint is not None

        async def verified() -> Verified:
            async with self._audit() as audit:
                report = audit.chain(checkpoint.model.sha256)
                assert not report.chain_faults
                rounds = report.history.rounds
                checks = [check for one in rounds for check in await audit.round(one)]
                forged = await audit.round(replace(rounds[1], candidate_sha256="5" * 64))
            assert all(check.outcome == "verified" for check in checks if check.client is not None)
            return Verified([one for one in checks if one.client is None], forged[-1])

        return asyncio.run(verified())


@dataclasses.dataclass(frozen=True)
class Verified:
    """What came of all merges of a run, whose items are all verified, and of a forged one."""

    merges: list[Check]
    forged: Check


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Done]:
    """Runs by the name of their config, each done once."""
    made: dict[str, Done] = {}

    def get(name: str) -> Done:
        if name not in made:
            made[name] = Done(tmp_path_factory.mktemp(name), CONFIGS[name])
        return made[name]

    return get


@pytest.mark.parametrize("name", CONFIGS)
def test_merges_that_need_play_are_verified_and_a_forged_one_is_found(
    done: Callable[[str], Done], name: str
) -> None:
    verified = done(name).verify()
    outcomes = [one.outcome for one in verified.merges]
    assert outcomes == ["verified"] * (3 if name in METHODS else 2)
    if name == "cma":  # its linear algebra is the machine's own
        assert verified.forged.outcome == "incomparable"
        assert "CMA-ES, which may ask for other mixtures" in verified.forged.reason
    else:
        assert verified.forged.outcome == "differs"


@pytest.mark.parametrize(
    ("number", "change", "fault"),
    [
        (0, {"candidate_sha256": "5" * 64}, "ended with another model than its candidate"),
        (1, {"decision": "rolled_back"}, "went back to a model that none ended with"),
    ],
)
def test_the_model_of_a_round_is_held_against_its_record(
    done: Callable[[str], Done], number: int, change: dict[str, str], fault: str
) -> None:
    """Whoever can write the run's folder can chain forged records anew."""
    run = done("best")
    whole = run.chain.read_bytes()
    assert not run.chain_faults()
    previous, lines = FIRST_PREVIOUS, []
    for record in read_chain(whole.splitlines()):
        assert isinstance(record, RoundRecord)
        forged = replace(record, previous=previous, **change if record.round == number else {})
        lines.append(encode_record(forged))
        previous = record_digest(lines[-1])
    try:
        run.chain.write_bytes(b"".join(line + b"\n" for line in lines))
        assert run.chain_faults() == (f"round {number + 1} {fault}",)
    finally:
        run.chain.write_bytes(whole)


@pytest.mark.parametrize(("name", "told"), [("best", "chosen by playing"), ("byzpg", "own steps")])
def test_where_machines_play_otherwise_nobody_is_accused(
    done: Callable[[str], Done], monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    monkeypatch.setattr(verifying, "fingerprint_without_canary", lambda *_: None)
    verified = done(name).verify()
    assert {one.outcome for one in verified.merges} == {"verified"}
    assert verified.forged.outcome == "incomparable"
    assert told in verified.forged.reason
    assert "another kind of machine" in verified.forged.reason


def test_an_item_of_a_machine_like_ours_is_held_against_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where bits depend on the machine: by the canaries that the run's leases did."""
    for module in (run_audits, verifying):
        monkeypatch.setattr(module, "fingerprint_without_canary", lambda *_: None)
    run = Done(tmp_path, CANARIED)
    assert run.verify_faked_item().outcome == "differs"
    known = run.directory.provenance / "canaries.jsonl"
    lines = [json.loads(line) for line in known.read_text().splitlines()]
    for line in lines:
        line["fingerprint"] = "5" * 64
    known.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run.verify_faked_item().outcome == "incomparable"
    (run.directory.provenance / "canary.safetensors").unlink()
    assert run.verify_faked_item().outcome == "incomparable"


def test_what_cannot_be_played_here_accuses_nobody(
    done: Callable[[str], Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise LocalOrderFailed("out of memory")

    monkeypatch.setattr(Judge, "evaluate", fails)
    first, _ = done("softmax").verify().merges
    assert first.outcome == "incomparable"
    assert "nothing could be played here with 3 of its mixtures" in first.reason
