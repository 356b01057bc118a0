"""Audits that a process which died has left, as the next one takes them up."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from requestor.cli.assembly import run_settings
from requestor.config import parse_config
from requestor.federation.rounds import RoundPlan
from requestor.training_run.auditing.auditor import Auditor
from requestor.training_run.auditing.findings import ROUNDS_AT_HAND, Finding, Findings
from requestor.training_run.auditing.means import AuditDoors
from requestor.training_run.auditing.provenance_log import ProvenanceFolder, ProvenanceLog
from requestor.training_run.auditing.run_audits import RunAudits
from requestor.training_run.checkpoints import BestModel, Checkpoint, CheckpointStore
from requestor.training_run.orders.deliveries import Delivery
from requestor.training_run.run_directory import RunDirectory
from requestor.trust.provenance import FIRST_PREVIOUS, RoundRecord, WorkRecord, summarise
from requestor.trust.record_of_voices import voice_records
from tests.requestor.training_run.auditing.audit_bench import (
    Bench,
    Court,
    Memory,
    delivery,
    item,
)

CONFIG = """
env: {id: CartPole-v1, n_envs: 2}
algo: {name: ppo, learner: native, n_steps: 16, batch_size: 32, n_epochs: 1}
federation: {rounds: 200, clients: 1, local_steps: 64}
trust: {audits: {first: 0.5, least: 0.5}}
"""


class Run:
    """What a run has left in its folder."""

    def __init__(self, folder: Path) -> None:
        self.directory = RunDirectory(folder / "run")
        self.directory.prepare()
        self.bench = Bench(folder)
        self.findings = Findings(self.directory.audits)
        self.log = ProvenanceLog(ProvenanceFolder(self.directory.provenance), "run", None)
        self.log.open(0)

    def round(self, number: int, **known: Any) -> None:
        """Write a round with one item, of which so much is known."""
        one = delivery(0, "ash", round_index=number)
        finding = replace(found_of(one), **known)
        self.findings.write(finding)
        self.log.append(
            RoundRecord(
                previous=FIRST_PREVIOUS,
                run_id="",
                round=number,
                config_sha256="",
                base_sha256=sha(number),
                work=(
                    WorkRecord(
                        client=0,
                        seed=0,
                        order_sha256=finding.order_sha256,
                        result_sha256=finding.result_sha256,
                        provider_id=finding.provider_id,
                        chance=finding.chance,
                        standing=finding.standing,
                    ),
                ),
                candidate_sha256=sha(0),
                decision="published",
                model_sha256=sha(number + 1),
            )
        )

    async def resume(self, done: int, *again: Delivery) -> None:
        """Have the next process take up the run after `done` rounds, and get those deliveries."""
        store = CheckpointStore(self.directory.checkpoints)
        files = self.bench.files()
        best = BestModel(files.model, 0.0, done)
        checkpoint = Checkpoint(
            round=done, total_steps=0, model=files.model, judged=files.model, judged_returns=(0.0,),
            best=best,
        )  # fmt: skip
        doors = AuditDoors(Memory(), Court())
        async with RunAudits(
            doors, self.directory, store, emit=lambda _: None, clock=lambda: 0.0
        ) as audits:
            (auditor,) = await audits.open(run_settings(parse_config(CONFIG), "run"), checkpoint)
            assert isinstance(auditor, Auditor)
            for one in again:
                number = one.update.item.round
                auditor.begin(RoundPlan(number, (item(0, number),), quorum=1), files)
                auditor.note(one)


def found_of(one: Delivery) -> Finding:
    return Finding(
        one.order_sha256,
        one.result_sha256,
        one.update.item.round,
        0,
        "0xash",
        0.5,
        "unaudited",
        provider_id="0xash",
    )


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_what_was_drawn_and_never_done_again_does_not_count_as_a_chance(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for number in range(4):
        run.round(number, standing="pending", chance=1.0)
    for _ in range(2):
        asyncio.run(run.resume(4))
        history = summarise(ProvenanceFolder(run.directory.provenance).read())
        works = [work for one in history.rounds for work in one.work]
        assert {(work.standing, work.chance) for work in works} == {("unaudited", 0.0)}
        (voice,) = voice_records(history.rounds)
        assert set(voice.caught) == {0.0}
        lines = (run.directory.provenance / "chain.jsonl").read_bytes().splitlines()
        assert len(lines) == 4 + 4  # told once


def test_what_is_known_of_rounds_done_again_is_not_drawn_anew_after_a_crash(
    tmp_path: Path,
) -> None:
    """It went back to round 20, of 200, and died before it was done again."""
    run = Run(tmp_path)
    for number in range(20 + 2 * ROUNDS_AT_HAND):
        run.round(number, standing="contradicted" if number in (20, 21) else "unaudited")
    run.log.void(20, "faked work had been merged before it was found out")
    before = run.directory.audits.read_text()
    # as where the model after the round is what it was
    asyncio.run(run.resume(20, *(delivery(0, "ash", round_index=n) for n in (20, 21))))
    drawn = run.directory.audits.read_text().removeprefix(before)
    assert [json.loads(line)["round"] for line in drawn.splitlines()] == []
