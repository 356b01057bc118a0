"""The judge orders exactly what it was asked for, and believes no result that does not fit."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from provider_image.wire import (
    EnvironmentSpec,
    EvaluateOrder,
    EvaluateResult,
    ExportOrder,
    InitialiseOrder,
    LearnerSpec,
    ModelMetadata,
    NormalizeSpec,
    Order,
    ProbeOrder,
    ProbeResult,
    StateRules,
    encode_order,
    read_bundle,
    write_bundle,
)
from requestor.evaluation.judge import Evaluation, Judge
from requestor.evaluation.local_worker import LocalOrderFailed, LocalWorker, LocalWorkerError

RULES = StateRules(replay="kept")
LEARNER = LearnerSpec("dqn", hyperparameters={"gamma": 0.9})


class FakeWorker(LocalWorker):
    """A worker whose episodes return what the test says."""

    def __init__(self, folder: Path, returns: Sequence[float] = (1.0, 2.0, 6.0)) -> None:
        super().__init__(folder)
        folder.mkdir()
        self.returns = returns
        self.orders: list[Order] = []
        self.inputs: list[Mapping[str, Path]] = []

    async def execute(self, order: Order, inputs: Mapping[str, Path]) -> None:
        encode_order(order)
        self.orders.append(order)
        self.inputs.append(inputs)
        if isinstance(order, EvaluateOrder):
            played = {
                "returns": np.array(self.returns),
                "lengths": np.arange(1, 1 + len(self.returns)),
            }
            result = EvaluateResult(order_sha256="0" * 64, episodes=len(self.returns))
            write_bundle(self.folder / order.output, played, result)
        elif isinstance(order, ProbeOrder):
            updates = read_bundle(inputs[order.updates.name], max_bytes=order.updates.bytes)
            sizes = {"divergences": np.abs(updates.tensors["updates"]).sum(axis=1, dtype=float)}
            about = ProbeResult(order_sha256="0" * 64, measure="kl", samples=order.samples)
            write_bundle(self.folder / order.output, sizes, about)
        elif isinstance(order, InitialiseOrder):
            metadata = ModelMetadata(
                algorithm="dqn", environment_id="E", observation_space="", action_space=""
            )
            tensors = {"policy/w": np.array([1.0], np.float32)}
            write_bundle(self.folder / order.output, tensors, metadata)
        elif isinstance(order, ExportOrder):
            (self.folder / order.output).write_bytes(b"zip")
            if order.normalizer_output is not None:
                (self.folder / order.normalizer_output).write_bytes(b"pickle")


def judge(worker: FakeWorker, *, is_normalized: bool = False) -> Judge:
    """A judge over a worker."""
    normalize = NormalizeSpec() if is_normalized else None
    return Judge(worker, EnvironmentSpec("E", n_envs=2, normalize=normalize), LEARNER, RULES)


def model(folder: Path) -> Path:
    """A file to be judged."""
    path = folder / "model-00003.safetensors"
    path.write_bytes(b"a model")
    return path


def test_an_evaluation_is_one_episode_for_each_seed_in_their_order(tmp_path: Path) -> None:
    worker = FakeWorker(tmp_path / "w")
    path = model(tmp_path)
    result = asyncio.run(judge(worker).evaluate(path, [9, 4, 7], deterministic=False))
    assert result == Evaluation((1.0, 2.0, 6.0), (1, 2, 3))
    (order,) = worker.orders
    assert isinstance(order, EvaluateOrder)
    assert order.seeds == (9, 4, 7)
    assert order.deterministic is False
    assert (order.environment.id, order.learner, order.rules) == ("E", LEARNER, RULES)
    assert order.model.sha256 == hashlib.sha256(b"a model").hexdigest()
    assert order.model.bytes == 7
    assert worker.inputs == [{order.model.name: path}]


def test_a_probe_hands_the_worker_the_updates_as_they_are(tmp_path: Path) -> None:
    worker = FakeWorker(tmp_path / "w")
    updates = np.array([[1.0, -2.0], [0.5, 0.0]], np.float32)
    found = asyncio.run(judge(worker).probe(model(tmp_path), updates, [3, 4], samples=32))
    assert (found.values.tolist(), found.measure) == ([3.0, 0.5], "kl")
    (order,) = worker.orders
    assert isinstance(order, ProbeOrder)
    assert (order.seeds, order.samples, order.learner) == ((3, 4), 32, LEARNER)
    assert order.model.sha256 == hashlib.sha256(b"a model").hexdigest()


def test_the_numbers_of_an_evaluation() -> None:
    evaluation = Evaluation((1.0, 2.0, 6.0), (10, 20, 60))
    assert evaluation.mean_return == 3.0
    assert evaluation.std_return == pytest.approx(math.sqrt((4 + 1 + 9) / 3))
    assert evaluation.mean_length == 30.0


def test_another_number_of_episodes_is_no_evaluation(tmp_path: Path) -> None:
    worker = FakeWorker(tmp_path / "w", [1.0])
    with pytest.raises(LocalWorkerError, match="1 episodes instead of 2"):
        asyncio.run(judge(worker).evaluate(model(tmp_path), [1, 2], deterministic=True))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_return_that_is_no_number_is_told_with_its_seed(tmp_path: Path, value: float) -> None:
    worker = FakeWorker(tmp_path / "w", [1.0, value])
    with pytest.raises(LocalOrderFailed, match=f"the episode with seed 8 returned {value}"):
        asyncio.run(judge(worker).evaluate(model(tmp_path), [3, 8], deterministic=True))


def test_a_fresh_model_comes_from_its_seed(tmp_path: Path) -> None:
    worker = FakeWorker(tmp_path / "w")
    bundle = asyncio.run(judge(worker).initialise("run-1", 42))
    assert bundle.tensors["policy/w"].tolist() == [1.0]
    (order,) = worker.orders
    assert isinstance(order, InitialiseOrder)
    assert (order.run_id, order.seed) == ("run-1", 42)


@pytest.mark.parametrize("is_normalized", [True, False])
def test_an_export_replaces_what_was_there(tmp_path: Path, is_normalized: bool) -> None:
    worker = FakeWorker(tmp_path / "w")
    archive, normalizer = tmp_path / "model.zip", tmp_path / "vecnormalize.pkl"
    archive.write_bytes(b"old")
    export = judge(worker, is_normalized=is_normalized).export
    asyncio.run(export(model(tmp_path), 5, archive, normalizer))
    assert archive.read_bytes() == b"zip"
    assert normalizer.exists() is is_normalized
    assert sorted(path.name for path in worker.folder.iterdir()) == []
    assert not list(tmp_path.glob("*.tmp"))


def test_an_exporter_exports_and_nobody_else(tmp_path: Path) -> None:
    worker, exporter = FakeWorker(tmp_path / "w"), FakeWorker(tmp_path / "e")
    divided = dataclasses.replace(judge(worker), exporter=exporter)
    archive = tmp_path / "model.zip"
    asyncio.run(divided.export(model(tmp_path), 5, archive, tmp_path / "none"))
    assert archive.read_bytes() == b"zip"
    assert (len(worker.orders), len(exporter.orders)) == (0, 1)


@pytest.mark.parametrize("name", ["native", "sb3"])
def test_where_it_is_left_open_each_model_says_its_learner(tmp_path: Path, name: str) -> None:
    worker = FakeWorker(tmp_path / "w", [1.0])
    left_open = Judge(worker, EnvironmentSpec("E"), LearnerSpec("ppo", learner="auto"), RULES)
    metadata = ModelMetadata(
        algorithm="ppo",
        learner=name,  # type: ignore[arg-type]
        environment_id="E",
        observation_space="",
        action_space="",
    )
    path = tmp_path / "m.safetensors"
    write_bundle(path, {"policy/w": np.array([1.0], np.float32)}, metadata)
    asyncio.run(left_open.evaluate(path, [1], deterministic=True))
    asyncio.run(left_open.export(path, 5, tmp_path / "model.zip", tmp_path / "none"))
    assert [order.learner.learner for order in worker.orders] == [name, name]
