"""Advantages and returns of a rollout, in the order of operations of Stable-Baselines3.

Arrays are [T, B]: T steps of B environments. ``include/derl/advantages.hpp`` has the mathematics.
"""

import numpy as np
from numpy.typing import NDArray

from native_kernels import _native

__all__ = ["discounted_returns", "generalized_advantages"]


def generalized_advantages(
    rewards: NDArray[np.float32],
    values: NDArray[np.float32],
    episode_starts: NDArray[np.bool_],
    last_values: NDArray[np.float32],
    last_dones: NDArray[np.bool_],
    gamma: float,
    gae_lambda: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Advantages and their sum with the values (Schulman et al. 2016, arXiv 1506.02438).

    rewards, values: float32[T, B]; values are the critic's, of the state before each step.
    episode_starts: bool[T, B], whether an episode starts at that step.
    last_values: float32[B], of the states after the last step; last_dones: bool[B], whether the
    last step ended an episode. gamma and gae_lambda: from 0 to 1.
    Returns (advantages float32[T, B], returns float32[T, B]), bit for bit those of
    ``RolloutBuffer.compute_returns_and_advantage``; what is not finite stays so.

    Raises TypeError for another dtype, ValueError for another shape or order or gamma or
    gae_lambda out of range; the message names the argument.
    """
    return _native.advantages.generalized_advantages(
        rewards, values, episode_starts, last_values, last_dones, gamma, gae_lambda
    )


def discounted_returns(
    rewards: NDArray[np.float32],
    episode_starts: NDArray[np.bool_],
    last_values: NDArray[np.float32],
    last_dones: NDArray[np.bool_],
    gamma: float,
) -> NDArray[np.float32]:
    """Returns G[t] = rewards[t] + gamma * G[t + 1], cut where episodes end.

    rewards: float32[T, B]; episode_starts: bool[T, B]; last_values: float32[B], the value put in
    for what comes after the last step, unless last_dones (bool[B]) says that nothing does.
    gamma: from 0 to 1. Returns float32[T, B], summed in float32 from the last step to the first.

    Raises TypeError for another dtype, ValueError for another shape or order or gamma out of
    range; the message names the argument.
    """
    return _native.advantages.discounted_returns(
        rewards, episode_starts, last_values, last_dones, gamma
    )
