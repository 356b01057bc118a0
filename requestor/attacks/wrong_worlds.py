"""Gymnasium wrappers with which a liar trains in another world than it was told to.

They are named in the altered order and imported by the worker that executes it, so they must be
installed where that runs: on this machine they are, in the provider image they are not.
"""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium
import numpy as np


class FlippedRewards(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Gives `-r` for every reward r."""

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step, and turn the reward's sign."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, -float(reward), terminated, truncated, info


class RandomActions(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Takes an action drawn from the action space in place of each that it is given."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset, and draw from `seed` from now on."""
        if seed is not None:
            self.action_space.seed(seed)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step with another action."""
        return self.env.step(self.action_space.sample())


class MirroredActions(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Takes the opposite action: of n the last for the first, of a box its mirror image."""

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step with the opposite action.

        Raises:
            TypeError: the action space is neither Discrete nor a Box.
        """
        space = self.action_space
        if isinstance(space, gymnasium.spaces.Discrete):
            mirrored: Any = 2 * space.start + space.n - 1 - action
        elif isinstance(space, gymnasium.spaces.Box):
            mirrored = np.asarray(space.low + space.high - action, dtype=space.dtype)
        else:
            raise TypeError(f"actions of {space} have no mirror image")
        return self.env.step(mirrored)
