"""The native normaliser against SB3's VecNormalize behind our recorder: the same bits."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from provider_image.learners import LearnerRefused
from provider_image.learners.native_normalizer import Normalizer
from provider_image.learners.sb3_environments import (
    MomentRecorder,
    VectorEnvironment,
    load_normalizer,
    normalizer_tensors,
    training_environment,
)
from provider_image.wire import NormalizeSpec

SHAPE, COUNT, STEPS = (3,), 4, 50


class Scripted(gymnasium.Env[npt.NDArray[Any], np.int64]):
    """Says what a table holds; episodes end where the table says so."""

    def __init__(self, table: dict[str, npt.NDArray[Any]], number: int) -> None:
        dtype = table["observations"].dtype
        self.observation_space = spaces.Box(-np.inf, np.inf, SHAPE, dtype.type)
        self.action_space = spaces.Discrete(2)
        self._table, self._number, self._at = table, number, 0

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[npt.NDArray[Any], Any]:
        return self._table["starts"][self._at, self._number], {}

    def step(self, action: np.int64) -> tuple[npt.NDArray[Any], float, bool, bool, Any]:
        at, number = self._at, self._number
        self._at += 1
        done = bool(self._table["dones"][at, number])
        observation = self._table["observations"][at, number]
        return observation, float(self._table["rewards"][at, number]), False, done, {}


def table(dtype: str) -> dict[str, npt.NDArray[Any]]:
    """Random observations of unlike scales, rewards and ends."""
    random = np.random.default_rng(3)
    scale = np.array([1e-3, 1.0, 1e3])
    return {
        "observations": (random.normal(1, 2, (STEPS, COUNT, *SHAPE)) * scale).astype(dtype),
        "starts": (random.normal(0, 1, (STEPS + 1, COUNT, *SHAPE)) * scale).astype(dtype),
        "rewards": random.normal(0, 5, (STEPS, COUNT)).astype(np.float32),
        "dones": random.random((STEPS, COUNT)) < 0.1,
    }


def as_sb3(script: dict[str, npt.NDArray[Any]], spec: NormalizeSpec, learns: bool) -> Any:
    """The scripted environments dressed as `training_environment` does it."""
    base = DummyVecEnv([lambda n=n: Scripted(script, n) for n in range(COUNT)])  # type: ignore[misc]
    recorder = MomentRecorder(base, spec)
    normalizer = VecNormalize(
        recorder,
        training=learns,
        norm_obs=spec.observations,
        norm_reward=spec.rewards,
        clip_obs=spec.clip_observations,
        clip_reward=spec.clip_rewards,
        gamma=spec.gamma,
        epsilon=spec.epsilon,
    )
    return VectorEnvironment(normalizer, recorder, normalizer)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize(
    "spec",
    [
        NormalizeSpec(),
        NormalizeSpec(clip_observations=0.5, clip_rewards=0.2, gamma=0.9, epsilon=1e-2),
        NormalizeSpec(rewards=False),
        NormalizeSpec(observations=False),
    ],
    ids=["both", "tight", "observations", "rewards"],
)
def test_it_normalises_and_counts_as_sb3_does(
    dtype: str, learns: bool, spec: NormalizeSpec
) -> None:
    script = table(dtype)
    sb3 = as_sb3(script, spec, learns)
    native = Normalizer(spec, SHAPE, COUNT, is_learning=learns)
    received = {
        name: value + np.float64(3 if name.endswith("count") else 0.25)
        for name, value in native.tensors().items()
    }
    native.load(received)
    load_normalizer(sb3.normalizer, received)

    np.testing.assert_array_equal(native.reset(script["starts"][0]), sb3.outermost.reset())
    for step in range(STEPS):
        sb3.outermost.step_async(np.zeros(COUNT, np.int64))
        observations, rewards, dones, infos = sb3.outermost.step_wait()
        ended = script["dones"][step]
        shown = np.where(ended[:, None], script["starts"][step + 1], script["observations"][step])
        ours, paid = native.step(shown, script["rewards"][step], ended)
        np.testing.assert_array_equal(dones, ended)
        np.testing.assert_array_equal(ours, observations)
        np.testing.assert_array_equal(paid, rewards)
        assert paid.dtype == np.float32
        for number in np.flatnonzero(ended):
            final = native.observed(script["observations"][step, number])
            np.testing.assert_array_equal(final, infos[number]["terminal_observation"])
    for mine, theirs in (
        (native.tensors(), normalizer_tensors(sb3.normalizer)),
        (native.round_moments(), sb3.recorder.tensors()),
    ):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def test_a_fresh_one_has_sb3s_prior() -> None:
    from provider_image.wire import EnvironmentSpec, StateRules

    spec = EnvironmentSpec("CartPole-v1", normalize=NormalizeSpec())
    sb3 = training_environment(spec, StateRules())
    theirs = normalizer_tensors(sb3.normalizer)
    sb3.close()
    mine = Normalizer(NormalizeSpec(), (4,), 1, is_learning=True).tensors()
    assert {n: (t.tobytes(), t.shape) for n, t in mine.items()} == {
        n: (t.tobytes(), t.shape) for n, t in theirs.items()
    }


def test_unfit_statistics_are_refused() -> None:
    native = Normalizer(NormalizeSpec(), SHAPE, COUNT, is_learning=True)
    for name, value in (("observation/var", -1.0), ("return/count", 0.0)):
        tensors = native.tensors()
        tensors[f"normalizer/{name}"] = np.full_like(tensors[f"normalizer/{name}"], value)
        with pytest.raises(LearnerRefused, match=r"variance must not be negative, count positive"):
            native.load(tensors)
