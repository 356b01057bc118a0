"""What is exported opens in plain SB3, where our code is not to be found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provider_image.learners import LearnerRefused, load_learner
from provider_image.wire import (
    Algorithm,
    EnvironmentSpec,
    ExportOrder,
    FileRef,
    InitialiseOrder,
    LearnerSpec,
    NormalizeSpec,
    Schedule,
    Tensors,
)

FILE = FileRef(name="m", sha256="0" * 64, bytes=0)

READER = """
import json, sys
class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("provider_image", "requestor", "native_kernels"):
            raise ImportError(f"{name} is not to be found")
sys.meta_path.insert(0, Forbid())
import gymnasium, numpy as np, stable_baselines3 as sb3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
algorithm, env_id, zip_path, pickle_path = sys.argv[1:]
model = getattr(sb3, algorithm.upper()).load(zip_path, device="cpu")
out = {n: p.numpy().ravel().tolist() for n, p in model.policy.state_dict().items()}
extra = {"n_envs": model.n_envs, "lr": model.lr_schedule(0.5)}
extra["buffer_size"] = getattr(model, "buffer_size", None)
if getattr(model, "log_ent_coef", None) is not None:
    extra["log_ent_coef"] = model.log_ent_coef.item()
venv = DummyVecEnv([lambda: gymnasium.make(env_id)] * 1)
if pickle_path:
    venv = VecNormalize.load(pickle_path, venv)
    extra["mean"], extra["training"] = venv.obs_rms.mean.tolist(), venv.training
observation = venv.reset()
model.set_env(venv) if model.n_envs == 1 else None
extra["actions"] = np.asarray(model.predict(observation, deterministic=True)[0]).shape
again = getattr(sb3, algorithm.upper()).load(zip_path, env=venv, device="cpu")
again.learn(64)
print(json.dumps([out, extra]))
"""


def exported(
    directory: Path, environment: EnvironmentSpec, learner: LearnerSpec, normalizer: bool
) -> tuple[Tensors, dict[str, list[float]], dict[str, Any]]:
    """Export a fresh model, read it in a process without our code: (ours, policy, the rest)."""
    sb3 = load_learner(learner.algorithm)
    model = sb3.initialise(
        InitialiseOrder(run_id="r", seed=3, environment=environment, learner=learner, output="o")
    ).tensors
    if normalizer:
        model["normalizer/observation/mean"] += 0.5
    order = ExportOrder(
        environment=environment,
        learner=learner,
        seed=3,
        model=FILE,
        output="model.zip",
        normalizer_output="normalizer.pkl" if normalizer else None,
    )
    sb3.export(order, model, directory)
    pickle_path = str(directory / "normalizer.pkl") if normalizer else ""
    arguments = [learner.algorithm, environment.id, str(directory / "model.zip"), pickle_path]
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:stable_baselines3", "-c", READER, *arguments],
        capture_output=True,
        text=True,
        cwd=directory,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    policy, rest = json.loads(done.stdout)
    return model, policy, rest


@pytest.mark.parametrize(
    ("algorithm", "environment", "hyperparameters"),
    [
        (
            "ppo",
            EnvironmentSpec(id="CartPole-v1", n_envs=2, normalize=NormalizeSpec()),
            {"n_steps": 16, "batch_size": 16},
        ),
        (
            "sac",
            EnvironmentSpec(id="Pendulum-v1"),
            {"noise_type": "normal", "noise_std": 0.1, "learning_starts": 60},
        ),
    ],
)
def test_plain_sb3_opens_it_predicts_and_trains_on(
    tmp_path: Path,
    algorithm: Algorithm,
    environment: EnvironmentSpec,
    hyperparameters: dict[str, Any],
) -> None:
    learner = LearnerSpec(
        algorithm=algorithm,
        hyperparameters=hyperparameters,
        schedules={"learning_rate": Schedule("linear", 1e-3, 5e-4)},
        policy_kwargs={"net_arch": [8], "activation_fn": "elu"},
    )
    normalizer = environment.normalize is not None
    model, policy, rest = exported(tmp_path, environment, learner, normalizer)
    ours = {n.removeprefix("policy/"): t for n, t in model.items() if n.startswith("policy/")}
    assert policy.keys() == ours.keys()
    for name, tensor in ours.items():
        np.testing.assert_array_equal(np.array(policy[name], np.float32), tensor.ravel())
    assert rest["n_envs"] == environment.n_envs
    assert rest["lr"] == pytest.approx(7.5e-4)
    if normalizer:
        assert rest["mean"] == model["normalizer/observation/mean"].tolist()
        assert rest["training"] is False
    if algorithm == "sac":
        assert rest["buffer_size"] == 1_000_000
        assert rest["log_ent_coef"] == pytest.approx(float(model["extra/log_ent_coef"][0]))


def test_a_normaliser_that_does_not_exist_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(LearnerRefused, match="the environment is not normalised"):
        environment = EnvironmentSpec(id="CartPole-v1")
        learner = LearnerSpec(algorithm="ppo")
        sb3 = load_learner("ppo")
        model = sb3.initialise(
            InitialiseOrder(
                run_id="r", seed=3, environment=environment, learner=learner, output="o"
            )
        ).tensors
        order = ExportOrder(
            environment=environment,
            learner=learner,
            seed=3,
            model=FILE,
            output="model.zip",
            normalizer_output="normalizer.pkl",
        )
        sb3.export(order, model, tmp_path)
