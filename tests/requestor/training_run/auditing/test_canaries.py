"""Canaries: whose bits can be compared with ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provider_image.wire import (
    EnvironmentSpec,
    FileRef,
    LearnerSpec,
    TensorSpec,
    TrainOrder,
    TrainResult,
    order_digest,
    sha256_file,
    tensors_digest,
    write_bundle,
)
from requestor.evaluation.local_worker import LocalOrderFailed
from requestor.federation.rounds import ClientUpdate, WorkItem
from requestor.marketplace.choice.failures import FailureKind
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.ports import Job, LeaseInfo, LeaseLost, OrderFailed
from requestor.training_run.auditing import canaries as canaries_module
from requestor.training_run.auditing.canaries import Canaries, Fingerprints
from requestor.training_run.auditing.replaying import Replayed, Work
from requestor.training_run.orders.deliveries import Delivery, Source
from requestor.trust.disputes import Account, Replay

pytestmark = pytest.mark.asyncio

SPECS = {"policy/w": TensorSpec("float32", (2,))}
ORDER = TrainOrder(
    run_id="canary",
    round=0,
    client=0,
    seed=1,
    environment=EnvironmentSpec(id="Pendulum-v1"),
    learner=LearnerSpec(algorithm="ppo", learner="sb3", hyperparameters={}),
    local_steps=64,
    steps_done=0,
    steps_total=64,
    model=FileRef("model.safetensors", "0" * 64, 1),
    output="result.safetensors",
)


def bits(value: float) -> dict[str, np.ndarray]:
    return {"policy/w": np.array([value, 0.0], dtype=np.float32)}


@dataclass
class Here:
    """This machine."""

    value: float | None = 1.0
    times: int = 0

    async def replay(self, work: Work, replay: Replay, *, is_fresh: bool = False) -> Replayed:
        self.times += 1
        if self.value is None:
            raise LocalOrderFailed("no torch here")
        tensors = bits(self.value)
        return Replayed(Account(None, (), tensors_digest(tensors)), tensors, {})


@dataclass
class Machine:
    """A lease on a machine with bits of its own."""

    name: str
    folder: Path
    value: float
    fails: Exception | None = None
    orders: list[bytes] = field(default_factory=list)

    @property
    def info(self) -> LeaseInfo:
        return LeaseInfo(self.name, self.name, f"0x{self.name}", "agreement", Prices())

    async def execute(self, job: Job) -> Mapping[str, str]:
        self.orders.append(job.order)
        if self.fails is not None:
            raise self.fails
        made = self.folder / f"made-{self.name}"
        result = TrainResult(
            order_sha256=order_digest(ORDER), steps=64, episodes=0, wall_seconds=1, cpu_seconds=1
        )
        write_bundle(made, bits(self.value), result)
        (output,) = job.outputs.values()
        shutil.copyfile(made, output.path)
        return {"result.safetensors": sha256_file(made, 1 << 20)}

    def assess(self, useful_steps: int, seconds: float) -> None: ...

    def release(self, reason: str, *, avoid: bool, failure: FailureKind = "other") -> None: ...

    @property
    def delivery(self) -> Delivery:
        source = Source(self.name, f"0x{self.name}", self.name, "agreement", None, 1.0)
        update = ClientUpdate(WorkItem(0, 0, 0, 64, 0, 64), bits(self.value))
        return Delivery(update, {}, source=source)


def canaries(folder: Path, here: Here, told: list[str], canary: str = "one") -> Canaries:
    known = Fingerprints(folder / "canaries.jsonl", canary)
    return Canaries(Work(ORDER, {}, SPECS), here, folder, 1.0, told.append, known)


async def test_of_a_strangers_file_no_more_is_read_than_a_run_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canaries_module, "MAX_RECORDS", 3, raising=False)
    path = tmp_path / "canaries.jsonl"
    lines: list[dict[str, Any]] = [
        {"canary": "one", "provider_id": f"0x{number}", "agreement_id": "a", "fingerprint": "f"}
        for number in range(5)
    ]
    lines[1]["fingerprint"] = ["f"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    known = Fingerprints(path, "one")
    found = [known.of(LeaseInfo("x", "x", f"0x{n}", "a", Prices())) for n in range(5)]
    known.close()
    assert found == ["f", "", "f", "", ""]


async def test_equal_machines_are_told_from_others(tmp_path: Path) -> None:
    told: list[str] = []
    here = Here()
    all_of_them = canaries(tmp_path, here, told)
    equal, other = Machine("equal", tmp_path, 1.0), Machine("other", tmp_path, 1.5)
    failing = Machine("failing", tmp_path, 1.0, OrderFailed("no"))
    for machine in (equal, other, failing):
        await all_of_them.greet(machine)
    stranger = Machine("stranger", tmp_path, 1.0)
    can = [all_of_them.has_equal_bits(m.delivery) for m in (equal, other, failing, stranger)]
    assert can == [True, False, False, False]
    assert here.times == 1 and len(equal.orders) == 1
    assert [line.split(":")[0] for line in told] == ["other", "failing"]
    assert not list(tmp_path.glob("canary-*"))


async def test_a_lease_that_ends_meanwhile_is_over(tmp_path: Path) -> None:
    gone = Machine("gone", tmp_path, 1.0, LeaseLost("it left"))
    with pytest.raises(LeaseLost):
        await canaries(tmp_path, Here(), []).greet(gone)


async def test_where_this_machine_cannot_nobody_is_compared(tmp_path: Path) -> None:
    told: list[str] = []
    none = canaries(tmp_path, Here(None), told)
    machine = Machine("equal", tmp_path, 1.0)
    await none.greet(machine)
    assert not none.has_equal_bits(machine.delivery)
    assert "cannot do the run's canary" in told[0]


async def test_who_sent_something_before_a_crash_is_compared_after_it(tmp_path: Path) -> None:
    before = canaries(tmp_path, Here(), [])
    equal, other = Machine("equal", tmp_path, 1.0), Machine("other", tmp_path, 1.5)
    await before.greet(equal)
    await before.greet(other)
    with (tmp_path / "canaries.jsonl").open("ab") as file:
        file.write(b'{"canary": "one", "provider_id": "0xtorn')
    here = Here()
    after = canaries(tmp_path, here, [])
    await after.take_up()
    assert here.times == 1
    assert after.has_equal_bits(equal.delivery)
    assert not after.has_equal_bits(other.delivery)
    again = Machine("again", tmp_path, 1.5)
    await after.greet(again)
    assert after.has_bits_of(again.info, other.delivery)
    assert not after.has_bits_of(again.info, equal.delivery)


async def test_fingerprints_of_another_canary_are_compared_with_nothing(tmp_path: Path) -> None:
    equal = Machine("equal", tmp_path, 1.0)
    await canaries(tmp_path, Here(), []).greet(equal)
    here = Here()
    after = canaries(tmp_path, here, [], "another")
    await after.take_up()
    assert here.times == 0  # nothing to compare, nothing done
    await after.greet(Machine("next", tmp_path, 1.0))
    assert not after.has_equal_bits(equal.delivery)
