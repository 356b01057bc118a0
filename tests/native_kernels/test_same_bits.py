"""A local round gives the same bits at every level, for any threads, and on other processors.

Run as a program, this file prints the digests of its rounds: that is what emulated processors do.
Other compilers and architectures: ``scripts/prove same-bits``.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from native_kernels import _native
from native_kernels.environments import ENVIRONMENTS, BatchEnvironment
from native_kernels.ppo import PolicyShape, Ppo, PpoSettings, Rollout
from native_kernels.rollouts import Collector

CASES = {
    "default": ("CartPole-v1", 1, 160, PpoSettings(learning_rate=3e-4, clip_range=0.2, n_epochs=2)),
    "many": ("CartPole-v1", 130, 5, PpoSettings(learning_rate=1e-3, clip_range=0.1, n_epochs=2)),
    "gaussian": (
        "Pendulum-v1",
        4,
        60,
        PpoSettings(
            learning_rate=1e-3, clip_range=0.2, clip_range_vf=0.2, n_epochs=2, batch_size=70
        ),
    ),
    "relu": (
        "Acrobot-v1",
        65,
        6,
        PpoSettings(learning_rate=1e-3, clip_range=0.2, ent_coef=0.01, n_epochs=1, batch_size=390),
    ),
    "separate": (
        "MountainCar-v0",
        17,
        13,
        PpoSettings(learning_rate=1e-3, clip_range=0.2, n_epochs=2, target_kl=0.01),
    ),
    "continuous": (
        "MountainCarContinuous-v0",
        3,
        50,
        PpoSettings(learning_rate=1e-2, clip_range=0.2, n_epochs=2, normalize_advantage=False),
    ),
}
NETWORKS: dict[str, dict[str, tuple[int, ...] | str]] = {
    "relu": {"pi": (40, 24, 9), "vf": (33,), "activation": "relu"},
    "separate": {"pi": (), "vf": (100, 7)},
}
ROUNDS = 2


def shape_of(case: str) -> PolicyShape:
    facts = ENVIRONMENTS[CASES[case][0]]
    pi, vf, activation = (
        NETWORKS.get(case, {}).get(name, default)
        for name, default in (("pi", (64, 64)), ("vf", (64, 64)), ("activation", "tanh"))
    )
    assert isinstance(pi, tuple) and isinstance(vf, tuple)
    return PolicyShape(
        facts.observation_size,
        facts.n_actions or facts.action_size,
        "categorical" if facts.n_actions else "gaussian",
        pi=pi,
        vf=vf,
        activation="relu" if activation == "relu" else "tanh",
    )


def weights(shape: PolicyShape) -> NDArray[np.float32]:
    """Evenly from -1/4 to 1/4, of whole numbers alone."""
    counters = np.zeros((4, shape.parameter_count), np.uint32)
    counters[0] = np.arange(shape.parameter_count)
    uniforms = _native.philox.uniforms(_native.philox.words(counters, 1))[0]
    return np.asarray((uniforms - np.float32(0.5)) * np.float32(0.5), np.float32)


def rounds_of(case: str, threads: int) -> Iterator[bytes]:
    """What two rounds leave: rollouts, reports, weights, the optimizer."""
    name, environments, steps, settings = CASES[case]
    shape = shape_of(case)
    ppo = Ppo(shape, weights(shape), threads=threads)
    environment = BatchEnvironment(name, environments, seed=2, threads=threads)
    collector = Collector(ppo, environment, seed=3)
    for first_epoch in range(0, ROUNDS * settings.n_epochs, settings.n_epochs):
        rollout = collector.collect(steps, gamma=0.99, gae_lambda=0.95)
        yield from bytes_of(rollout)
        yield collector.episode_returns.tobytes() + collector.episode_lengths.tobytes()
        report = ppo.update(rollout, settings, seed=4, first_epoch=first_epoch)
        yield np.array(astuple(report), np.float64).tobytes()
        count, first, second = ppo.optimizer_state
        yield b"%d" % count + ppo.parameters.tobytes() + first.tobytes() + second.tobytes()


def bytes_of(rollout: Rollout) -> Iterator[bytes]:
    for name in ("observations", "actions", "log_probs", "values", "advantages", "returns"):
        yield getattr(rollout, name).tobytes()


def digest(case: str, threads: int = 1) -> str:
    whole = hashlib.sha256()
    for part in rounds_of(case, threads):
        whole.update(part)
    return whole.hexdigest()


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    return {case: digest(case) for case in CASES}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_level_and_number_of_threads_gives_the_same_round(
    case: str, threads: int, level: str, expected: dict[str, str]
) -> None:
    assert digest(case, threads) == expected[case], level


def test_another_seed_gives_another_round(expected: dict[str, str]) -> None:
    assert len(set(expected.values())) == len(CASES)
    first = next(rounds_of("default", 1))
    assert first == next(rounds_of("default", 1))
    shape = shape_of("default")
    ppo = Ppo(shape, weights(shape))
    other = Collector(ppo, BatchEnvironment("CartPole-v1", 1, seed=2), seed=30)
    assert next(bytes_of(other.collect(160, gamma=0.99, gae_lambda=0.95))) != first


@pytest.mark.parametrize("case", CASES)
def test_stepping_by_hand_gives_what_the_fused_rollout_gives(case: str, level: str) -> None:
    name, environments, steps, _ = CASES[case]
    facts, shape = ENVIRONMENTS[name], shape_of(case)
    ppo = Ppo(shape, weights(shape))
    fused = Collector(ppo, BatchEnvironment(name, environments, seed=2), seed=3).collect(
        steps, gamma=0.99, gae_lambda=0.95
    )
    environment = BatchEnvironment(name, environments, seed=2)
    seen = environment.reset().copy()
    for step in range(steps):
        actions, values, log_probs = ppo.act(seen, seed=3, step=step)
        for mine, theirs in (
            (seen, fused.observations),
            (actions, fused.actions),
            (values, fused.values),
            (log_probs, fused.log_probs),
        ):
            np.testing.assert_array_equal(mine, theirs[step], err_msg=f"{level} step {step}")
        taken: NDArray[Any] = actions
        if not facts.n_actions:
            taken = np.clip(actions, np.float32(facts.action_low), np.float32(facts.action_high))
        seen = environment.step(taken)[0].copy()


# not all: processors that emulation has, one for each level below AVX-512, Intel's and AMD's
EMULATED = {"Nehalem": "v2", "IvyBridge": "v2", "Haswell": "avx2", "EPYC": "avx2"}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("processor", EMULATED)
def test_emulated_processors_give_the_same_round(processor: str, expected: dict[str, str]) -> None:
    """The very module that is installed here, by a Python that runs under qemu-user."""
    qemu = shutil.which("qemu-x86_64")
    if qemu is None or platform.machine() != "x86_64":
        pytest.skip("NOT RUN: needs qemu-x86_64 (apt install qemu-user) on x86-64")
    ran = under(qemu, processor, str(Path(__file__)))
    lines = dict(line.split() for line in ran.stdout.splitlines())
    assert lines.pop("level") == EMULATED[processor], ran.stderr
    assert lines == expected


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_self_test_passes_on_an_emulated_processor_without_avx() -> None:
    qemu = shutil.which("qemu-x86_64")
    if qemu is None or platform.machine() != "x86_64":
        pytest.skip("NOT RUN: needs qemu-x86_64 (apt install qemu-user) on x86-64")
    ran = under(qemu, "Nehalem", "-m", "native_kernels", "selftest", "--quick")
    assert "in force: v2" in ran.stdout


def under(qemu: str, processor: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(
        [qemu, "-cpu", processor, sys.executable, *arguments],
        env={**os.environ, "DERL_CPU_LEVEL": ""},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran


@pytest.mark.slow
def test_what_the_emulated_fused_multiply_add_costs(levels: list[str]) -> None:
    """Printed for the README with -s; the bound is loose, for machines with other work."""
    seconds = {}
    before = _native.levels.in_force()
    for name in levels:
        _native.levels.force(name)
        start = time.process_time()
        digest("default")
        seconds[name] = time.process_time() - start
    _native.levels.force(before)
    print({name: f"{value / seconds[levels[-1]]:.1f}" for name, value in seconds.items()})
    assert seconds[levels[0]] < 500 * seconds[levels[-1]]


if __name__ == "__main__":
    print("level", _native.levels.in_force())
    for each in CASES:
        print(each, digest(each))
