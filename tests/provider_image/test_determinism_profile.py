"""SB3's orders give equal bits in every process under the profile, whatever it was started in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from provider_image.wire import (
    Algorithm,
    EnvironmentSpec,
    FileRef,
    InitialiseOrder,
    JsonObject,
    LearnerSpec,
    NormalizeSpec,
    Order,
    TrainOrder,
    TrainResult,
    decode_metadata,
    encode_order,
    read_bundle,
    tensors_digest,
)
from provider_image.worker_cli import worker_environment

CARTPOLE = EnvironmentSpec("CartPole-v1", n_envs=2)
PENDULUM = EnvironmentSpec("Pendulum-v1", normalize=NormalizeSpec())
PPO: JsonObject = {"n_steps": 64, "batch_size": 64, "n_epochs": 4}
OFF_POLICY: JsonObject = {"learning_starts": 50, "buffer_size": 1000}
HOSTILE = {
    "ATEN_CPU_CAPABILITY": "avx512",
    "MKL_CBWR": "AUTO",
    "OMP_NUM_THREADS": "2",
    "MKL_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "2",
    "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
    "OPENBLAS_CORETYPE": "Sandybridge",
    "PYTHONHASHSEED": "77",
}
COMMAND = (sys.executable, "-m", "provider_image.worker_cli")
Case = tuple[EnvironmentSpec, LearnerSpec, int]
"""What is trained, and for how many steps."""
Digests = list[tuple[str, tuple[str, ...]]]


class Worker:
    """A worker in a folder of its own, started in this environment and on these CPUs."""

    def __init__(self, folder: Path, environment: Mapping[str, str], cpus: set[int]) -> None:
        folder.mkdir()
        self.folder, self.environment, self.cpus = folder, environment, cpus

    def run(self, *arguments: str) -> str:
        """One command of `derl-worker`."""
        done = subprocess.run(
            ["taskset", "-c", ",".join(map(str, sorted(self.cpus))), *COMMAND, *arguments],
            cwd=self.folder,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def ordered(self, order: Order) -> dict[str, str]:
        """Have an order executed; SHA-256 by output."""
        (self.folder / "order.json").write_bytes(encode_order(order))
        files: dict[str, str] = json.loads(self.run("work", "order.json"))["files"]
        return files

    def trained(self, case: Case) -> tuple[str, tuple[str, ...]]:
        """Make a model and train it: the digest of the update, and the links."""
        environment, learner, steps = case
        made = self.ordered(
            InitialiseOrder(
                run_id="r", seed=3, environment=environment, learner=learner, output="model"
            )
        )
        order = TrainOrder(
            run_id="r",
            round=0,
            client=0,
            seed=7,
            environment=environment,
            learner=learner,
            local_steps=steps,
            steps_done=0,
            steps_total=10 * steps,
            model=FileRef("model", made["model"], (self.folder / "model").stat().st_size),
            output="update",
        )
        self.ordered(order)
        bundle = read_bundle(self.folder / "update", max_bytes=1 << 26)
        return tensors_digest(bundle.tensors), decode_metadata(bundle, TrainResult).links


def work(worker: Worker, cases: Sequence[Case]) -> Digests:
    """Do all cases in one process."""
    worker.run("start")
    try:
        return [worker.trained(case) for case in cases]
    finally:
        worker.run("stop")


def check_equal(folder: Path, cases: Sequence[Case]) -> None:
    """The same work in a plain process, and in one that everything speaks against."""
    usual = {"PATH": os.environ["PATH"], "HOME": "/"}
    all_cpus = os.sched_getaffinity(0)
    plain = Worker(folder / "plain", usual, all_cpus)
    other = Worker(folder / "other", usual | HOSTILE | {"HOME": str(folder)}, {min(all_cpus)})
    expected = work(plain, cases)
    assert work(other, cases) == expected
    assert len({digest for digest, _ in expected}) == len(cases)


def test_a_process_in_another_environment_has_the_same_bits(tmp_path: Path) -> None:
    check_equal(tmp_path, [(PENDULUM, LearnerSpec("ppo", hyperparameters=PPO), 64)])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_algorithm_has_the_same_bits_in_another_process(tmp_path: Path) -> None:
    off: dict[Algorithm, object] = {"ddpg": [1, "episode"], "td3": 1, "sac": 2}
    cases: list[Case] = [
        (CARTPOLE, LearnerSpec("ppo", hyperparameters=PPO), 512),
        (PENDULUM, LearnerSpec("ppo", hyperparameters=PPO), 512),
        (CARTPOLE, LearnerSpec("a2c", hyperparameters={"n_steps": 8}), 512),
        (CARTPOLE, LearnerSpec("dqn", hyperparameters=OFF_POLICY), 300),
        *(
            (PENDULUM, LearnerSpec(name, hyperparameters=OFF_POLICY | {"train_freq": freq}), 200)
            for name, freq in off.items()
        ),
    ]
    check_equal(tmp_path, cases)


def test_the_profile_drops_what_could_change_arithmetic() -> None:
    kept = {"PATH": "/bin", "HOME": "/root"}
    assert worker_environment(kept | HOSTILE) == worker_environment(kept)
    found = worker_environment(HOSTILE)
    assert found["MKL_CBWR"] == "COMPATIBLE"
    assert found["ATEN_CPU_CAPABILITY"] in ("avx2", "default")
