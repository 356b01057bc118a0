"""The worker of our own: which learner it begins with, and when it begins."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from provider_image.wire import (
    EnvironmentSpec,
    InitialiseOrder,
    LearnerSpec,
    ModelMetadata,
    decode_metadata,
    read_bundle,
)
from requestor.evaluation.local_worker import LocalWorker

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
