from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from provider_image.learners import load_learner
from provider_image.wire import (
    EnvironmentSpec,
    ExportOrder,
    FileRef,
    InitialiseOrder,
    LearnerSpec,
    NormalizeSpec,
    WrapperSpec,
)
from requestor.reporting.model_files import ModelFiles

WITHOUT_US = """
import sys
class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("provider_image", "requestor", "native_kernels"):
            raise ImportError(f"{name} is not to be found")
sys.meta_path.insert(0, Forbid())
"""
PLAY = """
observation = env.reset()
for _ in range(3):
    observation, rewards, _, _ = env.step(model.predict(observation, deterministic=True)[0])
print(observation.shape, float(rewards[0]) == float(env.get_original_reward()[0]))
"""


def files_in(folder: Path, environment: EnvironmentSpec | None = None) -> ModelFiles:
    return ModelFiles(
        "ppo",
        folder / "model.zip",
        folder / "best_model.zip",
        folder / "vecnormalize.pkl",
        folder / "best_vecnormalize.pkl",
        environment,
    )


def exported(folder: Path, environment: EnvironmentSpec) -> ModelFiles:
    spec = LearnerSpec(algorithm="ppo", hyperparameters={"n_steps": 8, "batch_size": 8})
    learner = load_learner("ppo")
    initial = learner.initialise(
        InitialiseOrder(run_id="r", seed=1, environment=environment, learner=spec, output="m")
    )
    files = files_in(folder, environment)
    order = ExportOrder(
        environment=environment,
        learner=spec,
        seed=1,
        model=FileRef(name="m", sha256="0" * 64, bytes=0),
        output=files.model.name,
        normalizer_output=files.normalizer.name,
    )
    learner.export(order, initial.tensors, folder)
    return files


@pytest.mark.parametrize(
    ("environment", "played"),
    [
        (
            EnvironmentSpec(
                id="Pendulum-v1", kwargs={"g": 9.0}, n_envs=2, normalize=NormalizeSpec()
            ),
            "(1, 3) True",
        ),
        (
            EnvironmentSpec(
                id="gymnasium.envs.classic_control:CartPoleEnv",
                wrappers=(
                    WrapperSpec(name="TimeLimit", kwargs={"max_episode_steps": 9}),
                    WrapperSpec(name="gymnasium.wrappers:FlattenObservation", kwargs={}),
                ),
                frame_stack=2,
                normalize=NormalizeSpec(observations=True),
            ),
            "(1, 8) True",
        ),
    ],
    ids=["registered", "class"],
)
def test_printed_lines_work_without_us(
    tmp_path: Path, environment: EnvironmentSpec, played: str
) -> None:
    folder = tmp_path / 'a "quoted" größe'
    folder.mkdir()
    lines = exported(folder, environment).opening_lines
    assert len(lines) == 2
    script = "\n".join([WITHOUT_US, *lines, PLAY])
    done = subprocess.run(
        [sys.executable, "-I", "-X", "utf8", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == played


def test_lines_name_the_environment(tmp_path: Path) -> None:
    files = files_in(tmp_path, EnvironmentSpec(id="shimmy:Some/Env-v0", normalize=NormalizeSpec()))
    files.model.touch()
    files.normalizer.touch()
    first, second = files.opening_lines
    assert first == (
        "import gymnasium; from stable_baselines3 import PPO; "
        "from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize"
    )
    assert second == (
        f'env = VecNormalize.load("{files.normalizer}", '
        'DummyVecEnv([lambda: gymnasium.make("shimmy:Some/Env-v0")])); '
        "env.training = env.norm_reward = False; "
        f'model = PPO.load("{files.model}", env=env)'
    )


def test_without_a_normalizer_one_line_is_enough(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    assert not files.opening_lines  # no model, nothing to open
    files.model.touch()
    assert files.opening_lines == (
        f'from stable_baselines3 import PPO; model = PPO.load("{files.model}")',
    )


def test_no_lines_that_would_not_work(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    files.model.touch()
    files.normalizer.touch()
    assert not files.opening_lines  # the environment is not known
