"""The program `derl-liar` around a real worker of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from provider_image.wire import (
    EnvironmentSpec,
    FileRef,
    InitialiseOrder,
    LearnerSpec,
    TrainOrder,
    TrainResult,
    decode_metadata,
    encode_order,
    order_digest,
    read_bundle,
)

ENVIRONMENT = EnvironmentSpec("CartPole-v1", n_envs=2)
LEARNER = LearnerSpec(
    "ppo", hyperparameters={"n_steps": 16, "batch_size": 32, "n_epochs": 2}, learner="native"
)


class Workplace:
    """A folder with a worker in it, and a liar before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = FileRef("model", "0" * 64, 0)

    def call(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", program, *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ
            | {"PATH": f"{self.folder.parent}:{os.environ['PATH']}", "PYTHONPATH": os.getcwd()},
        )

    def prepare(self) -> None:
        """Put `derl-worker` on the PATH, start it, have it make a model."""
        program = self.folder.parent / "derl-worker"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m provider_image.worker_cli "$@"\n')
        program.chmod(0o755)
        started = self.call("requestor.attacks.lying_worker", "start", "--learner", "native")
        assert started.returncode == 0, started.stderr
        order = InitialiseOrder(
            run_id="r", seed=1, environment=ENVIRONMENT, learner=LEARNER, output="model"
        )
        (self.folder / "make.json").write_bytes(encode_order(order))
        made = self.call("requestor.attacks.lying_worker", "work", "make.json")
        assert made.returncode == 0, made.stderr
        size = (self.folder / "model").stat().st_size
        self.model = FileRef("model", json.loads(made.stdout)["files"]["model"], size)

    def order(self, number: int = 0) -> TrainOrder:
        return TrainOrder(
            run_id="r",
            round=number,
            client=2,
            seed=5,
            environment=ENVIRONMENT,
            learner=LEARNER,
            local_steps=64,
            steps_done=0,
            steps_total=640,
            model=self.model,
            output="result",
        )

    def update(self, *words: str, number: int = 0) -> np.ndarray:
        """Have an order done; the update, once it has been checked that all belongs together."""
        order = self.order(number)
        (self.folder / "order.json").write_bytes(encode_order(order))
        program = "requestor.attacks.lying_worker" if words else "provider_image.worker_cli"
        done = self.call(program, *words, "work", "order.json")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["order_sha256"] == order_digest(order)
        bundle = read_bundle(
            self.folder / "result", max_bytes=1 << 20, sha256=said["files"]["result"]
        )
        metadata = decode_metadata(bundle, TrainResult)
        assert metadata.order_sha256 == order_digest(order)
        assert metadata.steps == 64
        return np.concatenate([bundle.tensors[name].ravel() for name in sorted(bundle.tensors)])


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    place = Workplace(tmp_path_factory.mktemp("liar") / "work")
    place.folder.mkdir()
    place.prepare()
    yield place
    place.call("provider_image.worker_cli", "stop")


def test_signs_are_flipped(workplace: Workplace) -> None:
    honest = workplace.update()
    lie = workplace.update("--attack", "sign_flip")
    assert np.any(honest)
    assert lie == pytest.approx(-2.5 * honest, rel=1e-6)


def test_a_free_rider_sends_nothing(workplace: Workplace) -> None:
    assert not np.any(workplace.update("--attack", "zero"))


@pytest.mark.parametrize("name", ["reward_flip", "random_action", "wrong_environment"])
def test_other_worlds_give_other_updates(workplace: Workplace, name: str) -> None:
    lie = workplace.update("--attack", name)
    assert np.any(lie)
    assert not np.array_equal(lie, workplace.update())


def test_an_old_result_comes_again(workplace: Workplace) -> None:
    first = workplace.update("--attack", "replayed", number=0)
    assert np.array_equal(workplace.update("--attack", "replayed", number=1), first)


def test_colluders_share_what_they_did(workplace: Workplace, tmp_path: Path) -> None:
    words = ("--attack", "ipm", "--shared", str(tmp_path))
    lie = workplace.update(*words)
    told = np.fromfile(tmp_path / "r-00000" / "00002.f32", dtype=np.float32)
    assert lie == pytest.approx(-0.5 * told, rel=1e-6)


def test_every_second_order_is_refused(workplace: Workplace) -> None:
    (workplace.folder / "liar-count").unlink(missing_ok=True)
    workplace.update("--attack", "selective_failure")
    done = workplace.call(
        "requestor.attacks.lying_worker", "--attack", "selective_failure", "work", "order.json"
    )
    assert done.returncode == 3
    assert "out of memory" in done.stderr


def test_an_unknown_attack_is_told(workplace: Workplace) -> None:
    done = workplace.call(
        "requestor.attacks.lying_worker", "--attack", "sing_flip", "work", "order.json"
    )
    assert done.returncode == 2
    assert "sign_flip" in done.stderr


def test_help_lists_the_attacks(workplace: Workplace) -> None:
    assert "just_outside" in workplace.call("requestor.attacks.lying_worker", "--help").stdout
