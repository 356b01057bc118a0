"""An auditor with fakes around it: this machine, what is remembered, and where convictions end."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from provider_image.wire import (
    EnvironmentSpec,
    FileRef,
    LearnerSpec,
    StateRules,
    TensorSpec,
    tensors_digest,
)
from requestor.federation.rounds import ClientUpdate, RoundPlan, WorkItem
from requestor.marketplace.choice.history import Who
from requestor.training_run import events
from requestor.training_run.auditing.auditor import Auditor
from requestor.training_run.auditing.evidence import EvidenceFolder
from requestor.training_run.auditing.findings import Finding, Findings
from requestor.training_run.auditing.held_files import HeldFiles
from requestor.training_run.auditing.means import AuditDoors, AuditTools
from requestor.training_run.auditing.options import AuditOptions
from requestor.training_run.auditing.replaying import Replayed, Work
from requestor.training_run.auditing.witnesses import NoWitnesses, Witnesses
from requestor.training_run.orders.deliveries import Delivery, Source
from requestor.training_run.orders.round_files import RoundFiles
from requestor.trust.audit_draw import AuditCoin
from requestor.trust.audit_rates import AuditRates
from requestor.trust.disputes import Account, Replay

KEY = bytes(range(32))
SPECS = {"policy/w": TensorSpec("float32", (2,))}
TRUTH = {"policy/w": np.array([1.0, 2.0], dtype=np.float32)}
LIE = {"policy/w": np.array([1.0, 3.0], dtype=np.float32)}
TRUE_LINKS, FALSE_LINKS = ("a" * 64, "b" * 64), ("a" * 64, "f" * 64)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def item(client: int, round_index: int = 0) -> WorkItem:
    return WorkItem(round_index, client, client, 64, 0, 640)


def delivery(
    client: int,
    name: str,
    *,
    lies: bool = False,
    round_index: int = 0,
    wallet: str | None = None,
) -> Delivery:
    tensors = LIE if lies else TRUTH
    return Delivery(
        ClientUpdate(item(client, round_index), tensors, wallet or f"0x{name}"),
        {},
        order_sha256=sha(f"order {round_index} {client}"),
        result_sha256=tensors_digest(tensors),
        links=FALSE_LINKS if lies else TRUE_LINKS,
        source=Source(f"lease {name}", f"0x{name}", name, f"agreement {name}", wallet, 1.0),
    )


@dataclass
class Replays:
    """This machine: right unless it is told otherwise."""

    said: list[Replayed | Exception] = field(default_factory=list)
    asked: list[tuple[Replay, bool]] = field(default_factory=list)
    gate: asyncio.Event | None = None

    async def replay(self, work: Work, replay: Replay, *, is_fresh: bool = False) -> Replayed:
        self.asked.append((replay, is_fresh))
        if self.gate is not None:
            await self.gate.wait()
        assert work.inputs["model.safetensors"].read_bytes() == b"model"
        said = self.said.pop(0) if self.said else right(replay.last)
        if isinstance(said, Exception):
            raise said
        return said


def right(last: int | None = None) -> Replayed:
    digest = tensors_digest(TRUTH) if last is None else ""
    return Replayed(Account(None, TRUE_LINKS[:last], digest), TRUTH, {})


def wrong() -> Replayed:
    return Replayed(Account(None, FALSE_LINKS, tensors_digest(LIE)), LIE, {})


@dataclass
class Memory:
    """What is remembered of nodes."""

    counts: Counter[str] = field(default_factory=Counter)

    def verified(self, node_id: str) -> int:
        return self.counts[node_id]

    def audited(self, who: Who) -> None:
        self.counts[who.node_id] += 1


@dataclass
class Court:
    """Where convictions end."""

    sentences: list[tuple[str, bool]] = field(default_factory=list)

    def convict(self, who: Who, reason: str, *, refuse_bills: bool) -> None:
        self.sentences.append((who.node_id, refuse_bills))


@dataclass
class Bench:
    """An auditor with everything around it."""

    folder: Path
    options: AuditOptions = field(default_factory=lambda: AuditOptions(rates=AuditRates(1.0, 0.0)))
    has_equal_bits: bool = True
    replays: Replays = field(default_factory=Replays)
    witnesses: Witnesses = field(default_factory=NoWitnesses)
    memory: Memory = field(default_factory=Memory)
    court: Court = field(default_factory=Court)
    told: list[events.Event] = field(default_factory=list)
    became_known: list[Finding] = field(default_factory=list)

    def auditor(self, round_index: int = 0) -> Auditor:
        """Start the process that audits, with what an earlier one has left."""
        self.findings = Findings(self.folder / "audits.jsonl")
        self.findings.abandon(round_index, self.became_known.append)
        tools = AuditTools(
            AuditCoin(KEY),
            self.findings,
            self.replays,
            EvidenceFolder(self.folder / "evidence"),
            HeldFiles(self.folder / "held"),
            lambda _: self.has_equal_bits,
            self.witnesses,
        )
        auditor = Auditor(
            tools,
            AuditDoors(self.memory, self.court),
            self.options,
            emit=self.told.append,
            clock=lambda: 0.0,
            on_finding=self.became_known.append,
        )
        auditor.begin(self.plan(round_index), self.files())
        return auditor

    def plan(self, round_index: int = 0) -> RoundPlan:
        return RoundPlan(round_index, tuple(item(c, round_index) for c in range(4)), quorum=4)

    def files(self) -> RoundFiles:
        model = self.folder / "model"
        model.write_bytes(b"model")
        inbox = self.folder / "inbox"
        inbox.mkdir(exist_ok=True)
        return RoundFiles(
            run_id="run",
            environment=EnvironmentSpec(id="CartPole-v1"),
            learner=LearnerSpec(algorithm="ppo", learner="native", hyperparameters={}),
            rules=StateRules(),
            model=FileRef("model", sha("model"), 5),
            model_path=model,
            model_specs=SPECS,
            client_states={},
            inbox=inbox,
            order_timeout_seconds=1.0,
        )

    async def reviewed(self, auditor: Auditor, deliveries: Sequence[Delivery]) -> list[int]:
        """Have a round noted and reviewed; return the clients whose work is objected to."""
        for one in deliveries:
            auditor.note(one)
        objections = await auditor.review(self.plan(), deliveries)
        assert all(one.kind == "fraud" for one in objections)
        return [one.delivery.update.item.client for one in objections]

    def standing(self, one: Delivery) -> str:
        finding = self.findings.of_delivery(one)
        return finding.standing if finding is not None else "not known"

    def chances(self, deliveries: Sequence[Delivery]) -> list[float]:
        found = (self.findings.of_delivery(one) for one in deliveries)
        return [one.chance for one in found if one is not None]
