"""Under the profile SB3's bits are those of another vendor's processor, an emulated one."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from provider_image.worker_cli import worker_environment

PROGRAM = """
from provider_image.learners import load_learner
from provider_image.wire import (
    EnvironmentSpec, FileRef, InitialiseOrder, LearnerSpec, NormalizeSpec, TrainOrder,
    tensors_digest,
)

OFF_POLICY = {"learning_starts": 20, "buffer_size": 300, "batch_size": 64}
PPO = {"n_steps": 64, "batch_size": 64, "n_epochs": 4}
for algorithm, name, fields, steps in (
    ("ppo", "CartPole-v1", PPO, 128),
    ("ppo", "Pendulum-v1", PPO, 128),
    ("a2c", "CartPole-v1", {"n_steps": 8}, 64),
    ("dqn", "CartPole-v1", OFF_POLICY, 100),
    ("sac", "Pendulum-v1", OFF_POLICY, 30),
):
    environment = EnvironmentSpec(name, normalize=NormalizeSpec())
    learner = LearnerSpec(algorithm, hyperparameters=fields)
    does = load_learner(algorithm, "sb3")
    made = InitialiseOrder(
        run_id="r", seed=3, environment=environment, learner=learner, output="model"
    )
    model = does.initialise(made).tensors
    order = TrainOrder(
        run_id="r", round=0, client=0, seed=7, environment=environment, learner=learner,
        local_steps=steps, steps_done=0, steps_total=1000, model=FileRef("model", "0" * 64, 0),
        output="result",
    )
    outcome = does.train(order, model, None)
    print(algorithm, name, tensors_digest(model), tensors_digest(outcome.tensors), outcome.links)
"""
EMULATOR = shutil.which("qemu-x86_64")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(EMULATOR is None, reason="needs qemu-x86_64 (Debian: qemu-user)")
def test_an_emulated_haswell_has_the_bits_of_this_machine() -> None:
    program = [sys.executable, "-c", PROGRAM]
    here, there = (
        subprocess.run(
            command, env=worker_environment({}), capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for command in (program, [str(EMULATOR), "-cpu", "Haswell", *program])
    )
    assert len(here) == 5
    assert there == here
