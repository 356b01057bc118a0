"""One judge for all sides: greedy episodes of CartPole from the same starts, in plain NumPy."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

EPISODES = 100
STEPS = 500

Weights = Mapping[str, NDArray[np.float32]]


def greedy_actions(weights: Weights, observations: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the likeliest action of each observation, float32[B, O], under SB3's names.

    weights: those of a tanh actor of two hidden layers.
    """
    hidden = observations
    for layer in (0, 2):
        place = f"mlp_extractor.policy_net.{layer}"
        hidden = np.tanh(hidden @ weights[f"{place}.weight"].T + weights[f"{place}.bias"])
    logits = hidden @ weights["action_net.weight"].T + weights["action_net.bias"]
    chosen: NDArray[np.int64] = np.argmax(logits, axis=1)
    return chosen


def cartpole_return(weights: Weights) -> float:
    """Return the mean return of EPISODES greedy episodes; the starts never change.

    The dynamics are those of Gymnasium's CartPole-v1, in float64.
    """
    random = np.random.default_rng(20_240_601)
    x, speed, angle, turn = random.uniform(-0.05, 0.05, (4, EPISODES))
    alive = np.ones(EPISODES, dtype=bool)
    total = 0
    for _ in range(STEPS):
        observations = np.stack([x, speed, angle, turn], axis=1).astype(np.float32)
        force = np.where(greedy_actions(weights, observations) == 1, 10.0, -10.0)
        cosine, sine = np.cos(angle), np.sin(angle)
        pushed = (force + 0.05 * np.square(turn) * sine) / 1.1
        turning = (9.8 * sine - cosine * pushed) / (0.5 * (4.0 / 3.0 - 0.1 * cosine**2 / 1.1))
        moving = pushed - 0.05 * turning * cosine / 1.1
        x, speed = x + 0.02 * speed, speed + 0.02 * moving
        angle, turn = angle + 0.02 * turn, turn + 0.02 * turning
        total += int(alive.sum())
        alive &= (np.abs(x) <= 2.4) & (np.abs(angle) <= 12 * np.pi / 180)
        if not alive.any():
            break
    return total / EPISODES
