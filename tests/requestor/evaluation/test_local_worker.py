"""The worker of our own: which learner it begins with, and when it begins."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from provider_image.wire import (
    EnvironmentSpec,
    InitialiseOrder,
    LearnerSpec,
    ModelMetadata,
    decode_metadata,
    read_bundle,
)
from requestor.evaluation.local_worker import LocalOrderFailed, LocalWorker

ORDER = InitialiseOrder(
    run_id="r",
    seed=1,
    environment=EnvironmentSpec("CartPole-v1"),
    learner=LearnerSpec("ppo", learner="auto"),
    output="model",
)


@pytest.mark.parametrize(
    ("learner", "is_light"),
    [
        (None, False),
        (LearnerSpec("ppo", learner="auto"), True),
        (LearnerSpec("ppo", learner="native"), True),
        (LearnerSpec("ppo", learner="sb3"), False),
        (LearnerSpec("sac", learner="auto"), False),
    ],
)
def test_it_begins_light_where_the_native_learner_may_do(
    tmp_path: Path, learner: LearnerSpec | None, is_light: bool
) -> None:
    assert LocalWorker(tmp_path, learner).is_light is is_light


def test_one_that_waits_for_work_is_started_by_its_first_order(tmp_path: Path) -> None:
    async def work() -> None:
        folder = tmp_path / "worker"
        async with LocalWorker(folder, ORDER.learner, waits_for_work=True) as worker:
            assert list(folder.iterdir()) == []
            await worker.execute(ORDER, {})
            ready = json.loads((folder / "serve.log").read_text().splitlines()[0])
            assert ready["learner"] == "native"
            bundle = read_bundle(folder / "model", max_bytes=1 << 20)
            assert decode_metadata(bundle, ModelMetadata).learner == "native"
        assert not (folder / "worker.sock").exists()

    asyncio.run(work())


def test_one_that_never_had_work_ends_without_a_process(tmp_path: Path) -> None:
    async def rest() -> None:
        async with LocalWorker(tmp_path / "worker", waits_for_work=True):
            pass

    asyncio.run(rest())
    assert list((tmp_path / "worker").iterdir()) == []


def test_a_worker_that_dies_of_an_order_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly = replace(ORDER, environment=EnvironmentSpec("deadly_module:Deadly"))
    package = tmp_path / "package"
    package.mkdir()
    (package / "deadly_module.py").write_text("import os\nprint('I am', 'so dead')\nos._exit(9)\n")
    monkeypatch.setenv("PYTHONPATH", str(package))

    async def work() -> None:
        async with LocalWorker(tmp_path / "worker", ORDER.learner) as worker:
            with pytest.raises(LocalOrderFailed, match="the worker died"):
                await worker.execute(deadly, {})
            await worker.execute(ORDER, {})

    asyncio.run(work())


def test_a_cancelled_order_leaves_nothing_of_it_at_work(tmp_path: Path) -> None:
    async def work() -> None:
        folder = tmp_path / "worker"
        async with LocalWorker(folder, ORDER.learner) as worker:
            await worker.execute(ORDER, {})
            (folder / "model").unlink()
            cancelled = asyncio.create_task(worker.execute(ORDER, {}))
            await asyncio.sleep(0)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            assert not (folder / "model").exists()
            await worker.execute(ORDER, {})
            assert (folder / "model").exists()

    asyncio.run(work())


def test_several_work_side_by_side_in_folders_with_long_names(tmp_path: Path) -> None:
    folders = [tmp_path / ("long" * 30) / str(number) for number in range(3)]

    async def work(folder: Path) -> bytes:
        async with LocalWorker(folder, ORDER.learner) as worker:
            await worker.execute(ORDER, {})
            return (folder / "model").read_bytes()

    async def work_all() -> list[bytes]:
        return await asyncio.gather(*map(work, folders))

    assert len(set(asyncio.run(work_all()))) == 1
