"""Rollouts of the native policy in environments that are stepped from Python.

The counterpart of `native_kernels.rollouts.Collector`, with the same face, for any Gymnasium
environment, and for native ones behind a normaliser. Axes: T steps, B environments, O observation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from native_kernels.advantages import generalized_advantages
from native_kernels.ppo import Ppo, Rollout
from provider_image.learners.native_normalizer import Normalizer
from provider_image.learners.native_stepping import Transition, VectorStepper

Float32 = npt.NDArray[np.float32]


class SteppedCollector:
    """Goes on from rollout to rollout; `steps` counts vector steps since the beginning."""

    def __init__(
        self, ppo: Ppo, environment: VectorStepper, normalizer: Normalizer | None, *, seed: int
    ) -> None:
        """Act in `environment` as `ppo` says, noise drawn from `seed`; resets it."""
        self._ppo, self._environment, self._normalizer = ppo, environment, normalizer
        self._seed = seed
        self.steps = 0
        first = environment.reset()
        self._observations = first if normalizer is None else normalizer.reset(first)
        count = len(first)
        self._starts = np.ones(count, np.bool_)
        self._totals, self._lengths = np.zeros(count), np.zeros(count, np.int64)
        self._finished: list[tuple[float, int]] = []

    @property
    def episode_returns(self) -> npt.NDArray[np.float64]:
        """Undiscounted, unnormalised returns of the last rollout's finished episodes."""
        return np.array([total for total, _ in self._finished], np.float64)

    @property
    def episode_lengths(self) -> npt.NDArray[np.int64]:
        """Their lengths in steps."""
        return np.array([length for _, length in self._finished], np.int64)

    def collect(self, n_steps: int, *, gamma: float, gae_lambda: float) -> Rollout:
        """Take `n_steps` steps of every environment; advantages as in SB3's rollout buffer."""
        self._finished = []
        pieces: dict[str, list[npt.NDArray[Any]]] = {
            name: [] for name in ("observations", "actions", "rewards", "starts", "values", "logs")
        }
        for _ in range(n_steps):
            seen = flat(self._observations)
            actions, values, log_probs = self._ppo.act(seen, seed=self._seed, step=self.steps)
            rewards, dones = self._step(actions, gamma)
            now = (seen, actions, rewards, self._starts, values, log_probs)
            for piece, value in zip(pieces.values(), now, strict=True):
                piece.append(value)
            self._starts = dones
        stacked = {name: np.stack(piece) for name, piece in pieces.items()}
        advantages, returns = generalized_advantages(
            stacked["rewards"],
            stacked["values"],
            stacked["starts"],
            self._ppo.values(flat(self._observations)),
            self._starts,
            gamma,
            gae_lambda,
        )
        return Rollout(
            observations=stacked["observations"],
            actions=stacked["actions"],
            log_probs=stacked["logs"],
            values=stacked["values"],
            advantages=advantages,
            returns=returns,
        )

    def _step(
        self, actions: npt.NDArray[Any], gamma: float
    ) -> tuple[Float32, npt.NDArray[np.bool_]]:
        """Step and normalise; where a time limit cut, the reward is what may have come after."""
        transition = self._environment.step(actions)
        self.steps += 1
        self._count(transition)
        rewards = transition.rewards.astype(np.float32)
        observations = transition.observations
        if self._normalizer is not None:
            observations, rewards = self._normalizer.step(observations, rewards, transition.dones)
        if transition.cut.any():
            finals = transition.final_observations[transition.cut]
            if self._normalizer is not None:
                finals = self._normalizer.observed(finals)
            rewards[transition.cut] += np.float32(gamma) * self._ppo.values(flat(finals))
        self._observations = observations
        return rewards, transition.dones

    def _count(self, transition: Transition) -> None:
        self._totals += transition.rewards
        self._lengths += 1
        for number in np.flatnonzero(transition.dones):
            # SB3's Monitor rounds so
            self._finished.append((round(float(self._totals[number]), 6), self._lengths[number]))
        self._totals[transition.dones] = 0
        self._lengths[transition.dones] = 0


def flat(observations: npt.NDArray[Any]) -> Float32:
    """Observations [B, ...] of any numeric dtype as the network takes them: float32[B, O]."""
    return np.ascontiguousarray(observations.reshape(len(observations), -1), np.float32)
