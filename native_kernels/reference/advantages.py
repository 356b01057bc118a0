"""Advantages and returns of a rollout, in NumPy."""

import numpy as np
from numpy.typing import NDArray


def generalized_advantages(
    rewards: NDArray[np.float32],
    values: NDArray[np.float32],
    episode_starts: NDArray[np.bool_],
    last_values: NDArray[np.float32],
    last_dones: NDArray[np.bool_],
    gamma: float,
    gae_lambda: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """rewards, values: float32[T, B]; returns (advantages, returns), float32[T, B] each."""
    advantages = np.empty_like(rewards)
    advantage = np.zeros(rewards.shape[1], dtype=np.float32)
    next_value, goes_on = last_values, np.float32(1) - last_dones.astype(np.float32)
    for step in reversed(range(len(rewards))):
        delta = rewards[step] + np.float32(gamma) * next_value * goes_on - values[step]
        advantage = delta + np.float32(gamma * gae_lambda) * goes_on * advantage
        advantages[step] = advantage
        next_value = values[step]
        goes_on = np.float32(1) - episode_starts[step].astype(np.float32)
    return advantages, advantages + values


def discounted_returns(
    rewards: NDArray[np.float32],
    episode_starts: NDArray[np.bool_],
    last_values: NDArray[np.float32],
    last_dones: NDArray[np.bool_],
    gamma: float,
) -> NDArray[np.float32]:
    """rewards: float32[T, B]; returns float32[T, B]."""
    returns = np.empty_like(rewards)
    value, goes_on = last_values, np.float32(1) - last_dones.astype(np.float32)
    for step in reversed(range(len(rewards))):
        value = rewards[step] + np.float32(gamma) * value * goes_on
        returns[step] = value
        goes_on = np.float32(1) - episode_starts[step].astype(np.float32)
    return returns
