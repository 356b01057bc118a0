"""Stacked frames are SB3's VecFrameStack, number for number."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from provider_image.environments.frame_stack import ConcatenateFrames


class Counter(gymnasium.Env[npt.NDArray[Any], Any]):
    """Shows the number of its step in every element; an episode has five steps."""

    def __init__(self, space: spaces.Box) -> None:
        self.observation_space = space
        self.action_space = spaces.Discrete(2)
        self._step = 0

    def _observation(self) -> npt.NDArray[Any]:
        shape = self.observation_space.shape
        assert shape is not None
        return np.full(shape, self._step, self.observation_space.dtype)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        super().reset(seed=seed)
        self._step += 1
        return self._observation(), {}

    def step(self, action: Any) -> tuple[npt.NDArray[Any], float, bool, bool, dict[str, Any]]:
        self._step += 1
        return self._observation(), 0.0, self._step % 5 == 0, False, {}


SPACES: dict[str, spaces.Box] = {
    "vector": spaces.Box(-9, 99, (3,), np.float32),
    "matrix": spaces.Box(-9, 99, (2, 3), np.float64),
    "channels first": spaces.Box(0, 255, (3, 40, 50), np.uint8),
    "channels last": spaces.Box(0, 255, (40, 50, 1), np.uint8),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())
def test_observations_are_those_of_vec_frame_stack(space: spaces.Box) -> None:
    ours = DummyVecEnv([lambda: ConcatenateFrames(Counter(space), 3)])
    theirs = VecFrameStack(DummyVecEnv([lambda: Counter(space)]), 3)
    assert ours.observation_space == theirs.observation_space
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    for _ in range(12):
        our_step, their_step = ours.step(np.array([0])), theirs.step(np.array([0]))
        np.testing.assert_array_equal(our_step[0], their_step[0])
        if our_step[2][0]:
            np.testing.assert_array_equal(
                our_step[3][0]["terminal_observation"], their_step[3][0]["terminal_observation"]
            )


def test_an_observation_once_given_does_not_change() -> None:
    environment = ConcatenateFrames(Counter(SPACES["vector"]), 2)
    first, _ = environment.reset()
    copy = first.copy()
    environment.step(0)
    np.testing.assert_array_equal(first, copy)
