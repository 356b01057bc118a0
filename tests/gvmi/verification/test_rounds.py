"""A tiny round, played with a worker of this machine, and with ones that cheat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from gvmi.verification.local_worker import LocalWorker, local_worker
from gvmi.verification.rounds import RoundFailed, Worker, make_model, play
from provider_image.wire import (
    ModelMetadata,
    Order,
    TrainResult,
    decode_metadata,
    read_bundle,
    write_bundle,
)

pytestmark = pytest.mark.asyncio
Change = Callable[[Path], object]


class Cheat:
    """Passes orders on and changes the files that come back."""

    def __init__(self, worker: LocalWorker, changes: dict[str, Change]) -> None:
        self._worker = worker
        self._changes = changes

    async def execute(self, name: str, order: Order, *inputs: Path) -> Path:
        path = await self._worker.execute(name, order, *inputs)
        if path.name in self._changes:
            self._changes[path.name](path)
        return path


async def test_the_same_round_has_the_same_bits_and_another_one_not(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with local_worker(tmp_path / "one", "native") as worker:
        model = await make_model(worker, "native")
        played = [await play(worker, model)]
    async with local_worker(tmp_path / "two", "native") as worker:
        played.append(await play(worker, model))
    assert played[0].same_bits(played[1])
    assert "native_kernels" in played[0].packages
    first = min(played[1].update)
    nudged = dict(played[1].update) | {first: np.nextafter(played[1].update[first], np.float32(9))}
    assert not played[0].same_bits(replace(played[1], update=nudged))


def rewritten(
    path: Path,
    metadata: Callable[[TrainResult], TrainResult] = lambda told: told,
    factor: float = 1,
) -> None:
    bundle = read_bundle(path, max_bytes=1 << 20)
    tensors = {
        name: (tensor * factor).astype(tensor.dtype) for name, tensor in bundle.tensors.items()
    }
    write_bundle(path, tensors, metadata(decode_metadata(bundle, TrainResult)))


def by_another_learner(path: Path) -> None:
    bundle = read_bundle(path, max_bytes=1 << 20)
    told = decode_metadata(bundle, ModelMetadata)
    write_bundle(path, bundle.tensors, msgspec.structs.replace(told, learner="sb3"))


CHEATS: dict[str, tuple[str, Change, str]] = {
    "junk": ("native.update", lambda path: path.write_bytes(b"junk"), "native round: "),
    "zeros": ("native.update", lambda path: rewritten(path, factor=0), "changed nothing"),
    "nan": ("native.update", lambda path: rewritten(path, factor=float("nan")), "native round: "),
    "another order": (
        "native.update",
        lambda path: rewritten(path, lambda t: msgspec.structs.replace(t, order_sha256="0" * 64)),
        "of another order",
    ),
    "fewer steps": (
        "native.update",
        lambda path: rewritten(path, lambda t: msgspec.structs.replace(t, steps=127)),
        "of 127 steps",
    ),
    "no model": ("native.model", lambda path: path.write_bytes(b""), "native model: "),
    "another learner": ("native.model", by_another_learner, "was made by sb3"),
}


@pytest.mark.parametrize("cheat", CHEATS)
async def test_a_worker_that_cheats_is_told(tmp_path: Path, cheat: str) -> None:
    name, change, complaint = CHEATS[cheat]
    async with local_worker(tmp_path, "native") as worker:
        cheating: Worker = Cheat(worker, {name: change})
        with pytest.raises(RoundFailed, match=complaint):
            await play(cheating, await make_model(cheating, "native"))


async def test_a_worker_that_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "worker.log").mkdir()
    with pytest.raises(RoundFailed, match="the worker of this machine failed"):
        async with local_worker(tmp_path, "native"):
            pass
