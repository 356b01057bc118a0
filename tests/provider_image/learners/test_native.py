"""The native learner beside SB3: its models open there, SB3's open here, and it starts alone."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from native_kernels.ppo import Ppo
from provider_image.environments import read_spaces
from provider_image.learners import load_learner
from provider_image.learners.native_plan import plan_of
from provider_image.learners.native_state import policy_parameters
from provider_image.wire import (
    EnvironmentSpec,
    ExportOrder,
    FileRef,
    ImportOrder,
    InitialiseOrder,
    LearnerSpec,
    NormalizeSpec,
    Tensors,
)

CARTPOLE, PENDULUM = EnvironmentSpec("CartPole-v1"), EnvironmentSpec("Pendulum-v1")
NETS: list[dict[str, Any]] = [
    {},
    {"net_arch": {"pi": [32, 16], "vf": [24]}, "activation_fn": "relu"},
    {"net_arch": []},
]


def spec(kwargs: dict[str, Any]) -> LearnerSpec:
    """A native learner."""
    return LearnerSpec("ppo", policy_kwargs=kwargs, learner="native")


def initialise(environment: EnvironmentSpec, learner: LearnerSpec) -> InitialiseOrder:
    """The order for a fresh model."""
    return InitialiseOrder(run_id="r", seed=4, environment=environment, learner=learner, output="o")


def as_ppo(environment: EnvironmentSpec, learner: LearnerSpec, tensors: Tensors) -> Ppo:
    """The native policy with these weights."""
    plan = plan_of(learner, read_spaces(environment))
    return Ppo(plan.shape, policy_parameters(tensors, plan.shape))


def observations(environment: EnvironmentSpec) -> Any:
    """Some observations of the environment."""
    made = gymnasium.make(environment.id)
    made.observation_space.seed(0)
    return np.stack([made.reset(seed=n)[0] for n in range(20)]).astype(np.float32)


@pytest.mark.parametrize("kwargs", NETS, ids=["default", "split", "linear"])
@pytest.mark.parametrize("environment", [CARTPOLE, PENDULUM])
def test_a_native_model_opens_in_plain_sb3_and_acts_alike(
    tmp_path: Path, environment: EnvironmentSpec, kwargs: dict[str, Any]
) -> None:
    learner = load_learner("ppo", "native")
    tensors = learner.initialise(initialise(environment, spec(kwargs))).tensors
    order = ExportOrder(
        environment=environment,
        learner=spec(kwargs),
        seed=1,
        model=FileRef("m", "0" * 64, 0),
        output="model.zip",
    )
    learner.export(order, tensors, tmp_path)
    sb3 = PPO.load(tmp_path / "model.zip", device="cpu")
    shown = observations(environment)
    ours = as_ppo(environment, spec(kwargs), tensors)
    actions, _ = sb3.predict(shown, deterministic=True)
    assert isinstance(actions, np.ndarray)
    np.testing.assert_allclose(ours.best_actions(shown), actions, rtol=0, atol=1e-6)
    with torch.no_grad():
        values = sb3.policy.predict_values(torch.from_numpy(shown)).numpy()[:, 0]
    np.testing.assert_allclose(ours.values(shown), values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("environment", [CARTPOLE, PENDULUM])
def test_an_sb3_archive_opens_natively(tmp_path: Path, environment: EnvironmentSpec) -> None:
    sb3 = PPO("MlpPolicy", environment.id, n_steps=64, seed=3, device="cpu")
    sb3.learn(64)
    sb3.save(tmp_path / "model.zip")
    content = (tmp_path / "model.zip").read_bytes()
    order = ImportOrder(
        run_id="r",
        environment=environment,
        learner=spec({}),
        archive=FileRef("model.zip", hashlib.sha256(content).hexdigest(), len(content)),
        output="o",
    )
    tensors = load_learner("ppo", "native").import_archive(order, tmp_path).tensors
    ours, shown = as_ppo(environment, spec({}), tensors), observations(environment)
    with torch.no_grad():
        values = sb3.policy.predict_values(torch.from_numpy(shown)).numpy()[:, 0]
    np.testing.assert_allclose(ours.values(shown), values, rtol=0, atol=1e-6)


def test_a_normaliser_is_exported_as_sb3s(tmp_path: Path) -> None:
    environment = EnvironmentSpec("Pendulum-v1", normalize=NormalizeSpec())
    learner = load_learner("ppo", "native")
    tensors = learner.initialise(initialise(environment, spec({}))).tensors
    tensors["normalizer/observation/mean"] += 0.5
    order = ExportOrder(
        environment=environment,
        learner=spec({}),
        seed=1,
        model=FileRef("m", "0" * 64, 0),
        output="model.zip",
        normalizer_output="normalizer.pkl",
    )
    learner.export(order, tensors, tmp_path)
    read = VecNormalize.load(
        str(tmp_path / "normalizer.pkl"), DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")])
    )
    assert read.obs_rms.mean.tolist() == [0.5] * 3  # type: ignore[attr-defined]


def test_fresh_weights_are_orthogonal_with_sb3s_gains() -> None:
    learner = load_learner("ppo", "native")
    model = learner.initialise(initialise(PENDULUM, spec({"log_std_init": -0.5})))
    tensors = model.tensors
    for name, gain in (
        ("mlp_extractor.policy_net.2", 2**0.5),
        ("mlp_extractor.value_net.2", 2**0.5),
        ("action_net", 0.01),
        ("value_net", 1.0),
    ):
        weight = tensors[f"policy/{name}.weight"].astype(np.float64)
        np.testing.assert_allclose(weight @ weight.T, gain**2 * np.eye(len(weight)), atol=1e-5)
        assert not tensors[f"policy/{name}.bias"].any()
    assert tensors["policy/log_std"].tolist() == [-0.5]
    assert model.metadata.learner == "native"
    theirs = load_learner("ppo").initialise(initialise(PENDULUM, spec({}))).metadata
    assert model.metadata.observation_space == theirs.observation_space
    assert model.metadata.action_space == theirs.action_space


ROUND = """
import sys
from pathlib import Path
from provider_image.round_runner import execute
from provider_image.wire import decode_order
execute(decode_order(Path("order.json").read_bytes()), Path())
heavy = {"torch", "gymnasium", "stable_baselines3", "scipy", "pandas"}
print(sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize("normalize", [None, NormalizeSpec()], ids=["fused", "batch"])
def test_a_round_in_a_native_environment_imports_neither_torch_nor_gymnasium(
    tmp_path: Path, normalize: NormalizeSpec | None
) -> None:
    from provider_image.round_runner import execute
    from provider_image.wire import TrainOrder, encode_order

    environment = EnvironmentSpec("CartPole-v1", n_envs=2, normalize=normalize)
    learner = LearnerSpec("ppo", hyperparameters={"n_steps": 32}, learner="native")
    model = execute(initialise(environment, learner), tmp_path)["o"]
    order = TrainOrder(
        run_id="r",
        round=0,
        client=0,
        seed=1,
        environment=environment,
        learner=learner,
        local_steps=64,
        steps_done=0,
        steps_total=64,
        model=FileRef("o", model, (tmp_path / "o").stat().st_size),
        output="update",
    )
    (tmp_path / "order.json").write_bytes(encode_order(order))
    done = subprocess.run(
        [sys.executable, "-c", ROUND], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
    assert (tmp_path / "update").stat().st_size > 1000
