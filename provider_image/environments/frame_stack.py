"""Frame stacking per environment, with the numbers of SB3's VecFrameStack."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces


class ConcatenateFrames(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The last `frames` observations, joined along one axis; zeros before the first.

    The axis is the last one, or the first for images whose channels come first. A policy trained
    on this opens in plain SB3 behind `VecFrameStack(venv, frames)`.
    """

    def __init__(self, environment: gymnasium.Env[Any, Any], frames: int) -> None:
        super().__init__(environment)
        space = environment.observation_space
        if not isinstance(space, spaces.Box) or not space.shape:
            raise ValueError(f"frame_stack needs a Box observation with axes, not {space}")
        self._axis = 0 if _channels_come_first(space) else -1
        self._frames = frames
        self._stacked: npt.NDArray[Any] = np.zeros(
            np.repeat(space.low, frames, axis=self._axis).shape, space.dtype
        )
        self.observation_space = spaces.Box(
            low=np.repeat(space.low, frames, axis=self._axis),
            high=np.repeat(space.high, frames, axis=self._axis),
            dtype=space.dtype.type,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        """Reset the environment; the observation is zeros and one frame."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._stacked = np.zeros_like(self._stacked)
        return self._push(observation), info

    def step(
        self, action: Any
    ) -> tuple[npt.NDArray[Any], SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment and push its observation onto the stack."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._push(observation), reward, terminated, truncated, info

    def _push(self, observation: npt.NDArray[Any]) -> npt.NDArray[Any]:
        width = observation.shape[self._axis]
        kept = self._stacked[width:] if self._axis == 0 else self._stacked[..., width:]
        self._stacked = np.concatenate((kept, observation), axis=self._axis)
        return self._stacked


def _channels_come_first(space: spaces.Box) -> bool:
    is_image = len(space.shape) == 3 and space.dtype == np.uint8
    return is_image and int(np.argmin(space.shape)) == 0
