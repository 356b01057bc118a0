"""A worker started for the native learner: light, checked, and bound to the order's bits alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from native_kernels import _native
from native_kernels.canary import BITS
from provider_image.wire import (
    EnvironmentSpec,
    FileRef,
    InitialiseOrder,
    LearnerSpec,
    ModelMetadata,
    NormalizeSpec,
    Order,
    StateRules,
    TrainOrder,
    TrainResult,
    decode_metadata,
    encode_order,
    read_bundle,
)

COMMAND = [sys.executable, "-m", "provider_image.worker_cli"]
LEVELS = [name for name in ("avx2", "avx512") if name <= _native.levels.of_this_machine()]
ENVIRONMENTS = {
    "fused": EnvironmentSpec("CartPole-v1", n_envs=3),
    "fused continuous": EnvironmentSpec("Pendulum-v1", n_envs=2),
    "batch": EnvironmentSpec("Pendulum-v1", n_envs=3, normalize=NormalizeSpec()),
    "gymnasium": EnvironmentSpec("MountainCar-v0", n_envs=2, frame_stack=2),
}


def run(directory: Path, *arguments: str, level: str = "") -> subprocess.CompletedProcess[str]:
    """Run `derl-worker` in a directory, its kernels held at a processor level."""
    environment = os.environ | ({"DERL_CPU_LEVEL": level} if level else {})
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


@contextmanager
def working(directory: Path, level: str = "") -> Iterator[dict[str, Any]]:
    """A running native worker in `directory`, stopped at the end; gives its ready line."""
    started = run(directory, "start", "--learner", "native", level=level)
    assert started.returncode == 0, started.stderr
    try:
        yield json.loads(started.stdout)
    finally:
        assert run(directory, "stop").returncode == 0


def loaded(directory: Path) -> str:
    """The shared libraries in the worker's memory."""
    process = (directory / "worker.lock").read_text().split("\n")[0]
    return Path(f"/proc/{process}/maps").read_text()


def handed(directory: Path, name: str, order: Order) -> Path:
    """Have an order executed; returns its output."""
    (directory / name).write_bytes(encode_order(order))
    done = run(directory, "work", name)
    assert done.returncode == 0, done.stderr
    return directory / order.output


def round_of(directory: Path, environment: EnvironmentSpec, tag: str) -> tuple[bytes, ...]:
    """Make a model, train it for two rollouts; the bytes of all tensors."""
    learner = LearnerSpec(
        "ppo",
        hyperparameters={"n_steps": 64, "batch_size": 48, "n_epochs": 3},
        learner="auto",
    )
    rules = StateRules(optimizer="kept")
    model = handed(
        directory,
        f"{tag}.json",
        InitialiseOrder(
            run_id="r",
            seed=1,
            environment=environment,
            learner=learner,
            rules=rules,
            output=f"{tag}.model",
        ),
    )
    bundle = read_bundle(model, max_bytes=1 << 20)
    metadata = decode_metadata(bundle, ModelMetadata)
    assert metadata.learner == "native"
    assert environment.id in metadata.learner_reason
    content = model.read_bytes()
    order = TrainOrder(
        run_id="r",
        round=0,
        client=0,
        seed=7,
        environment=environment,
        learner=LearnerSpec(
            "ppo", hyperparameters=learner.hyperparameters, learner=metadata.learner
        ),
        rules=rules,
        local_steps=128 * environment.n_envs,
        steps_done=0,
        steps_total=1000,
        model=FileRef(model.name, _sha256(content), len(content)),
        output=f"{tag}.update",
        client_state_output=f"{tag}.state",
    )
    update = read_bundle(handed(directory, f"{tag}.train", order), max_bytes=1 << 20)
    assert decode_metadata(update, TrainResult).packages["native_kernels"] in LEVELS
    state = read_bundle(directory / f"{tag}.state", max_bytes=1 << 20)
    tensors = [*bundle.tensors.items(), *update.tensors.items(), *state.tensors.items()]
    return tuple(tensor.tobytes() for _, tensor in sorted(tensors, key=lambda item: item[0]))


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def test_it_is_ready_without_torch_and_says_what_computes(tmp_path: Path) -> None:
    with working(tmp_path) as ready:
        assert (ready["format"], ready["learner"], ready["threads"]) == (3, "native", 1)
        assert ready["packages"].keys() == {"python", "numpy", "native_kernels"}
        assert ready["packages"]["native_kernels"] == _native.levels.in_force()
        round_of(tmp_path, ENVIRONMENTS["fused"], "a")
        assert "libtorch" not in loaded(tmp_path)


def test_it_starts_only_where_its_bits_are_those_that_are_wanted(tmp_path: Path) -> None:
    another = "0" * len(BITS)
    refused = run(tmp_path, "start", "--learner", "native", "--bits", another)
    assert refused.returncode == 1 and refused.stdout == ""
    assert f"give the bits {BITS}, wanted are {another}" in refused.stderr
    assert "different versions of DeRL" in refused.stderr
    started = run(tmp_path, "start", "--learner", "native", "--bits", BITS)
    assert started.returncode == 0, started.stderr
    assert run(tmp_path, "stop").returncode == 0


def test_other_learners_orders_are_done_as_well(tmp_path: Path) -> None:
    with working(tmp_path):
        order = InitialiseOrder(
            run_id="r",
            seed=1,
            environment=ENVIRONMENTS["fused"],
            learner=LearnerSpec("dqn", learner="auto", hyperparameters={"buffer_size": 10}),
            output="model",
        )
        bundle = read_bundle(handed(tmp_path, "order.json", order), max_bytes=1 << 20)
        metadata = decode_metadata(bundle, ModelMetadata)
        assert (metadata.learner, metadata.learner_reason) == (
            "sb3",
            "dqn has no other learner",
        )


@pytest.mark.skipif(len(LEVELS) < 2, reason="this processor has no AVX-512 to compare with")
def test_an_order_has_the_same_result_at_every_level(tmp_path: Path) -> None:
    found: dict[str, dict[str, tuple[bytes, ...]]] = {}
    for level in LEVELS:
        folder = tmp_path / level
        folder.mkdir()
        with working(folder, level) as ready:
            assert ready["packages"]["native_kernels"] == level
            found[level] = {
                name: round_of(folder, environment, name.replace(" ", "-"))
                for name, environment in ENVIRONMENTS.items()
            }
    first, second = (found[level] for level in LEVELS)
    assert first == second


def test_kernels_that_give_other_bits_take_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from native_kernels import canary
    from provider_image import worker_server

    (first, *others) = canary.CANARY.items()
    monkeypatch.setattr(canary, "CANARY", dict([(first[0], "0" * 64), *others]))
    with pytest.raises(canary.KernelsUnfitError, match="a round on CartPole-v1: the digest is "):
        worker_server._load("native")


@pytest.mark.parametrize(
    "arguments",
    [
        ["start", "--learner"],
        ["start", "--learner", "tf"],
        ["start", "--stop-on-stdin-eof"],
        ["serve", "--ready-fd", "5"],
    ],
)
def test_other_options_are_refused(tmp_path: Path, arguments: list[str]) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert "--learner native|sb3" in done.stderr
