"""Rollouts of the native policy in environments that are stepped from Python.

The counterpart of `native_batches.FusedCollector` for any Gymnasium environment, and for native
ones behind a normaliser. Axes: T steps, B environments, O observation.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from native_kernels.advantages import generalized_advantages
from native_kernels.ppo import Ppo, Rollout
from provider_image.learners.native_batches import ELAPSED, RETURNS
from provider_image.learners.native_normalizer import Normalizer
from provider_image.learners.native_stepping import Transition, VectorStepper
from provider_image.wire import Tensors

Float32 = npt.NDArray[np.float32]


class Collector(Protocol):
    """Gathers rollouts and goes on from one to the next: `SteppedCollector`, `FusedCollector`."""

    def collect(self, n_steps: int, *, gamma: float, gae_lambda: float) -> Rollout:
        """Take `n_steps` steps of every environment."""
        ...

    def standing(self) -> Tensors:
        """What the next steps depend on, policy and normaliser aside; nothing if unknown."""
        ...

    def go_on(self, state: Tensors, steps: int) -> None:
        """Be as `standing` was after so many steps of every environment; before any `collect`."""
        ...

    @property
    def episode_returns(self) -> npt.NDArray[np.float64]:
        """Returns of the episodes that ended in the last rollout."""
        ...

    @property
    def episode_lengths(self) -> npt.NDArray[np.int64]:
        """Their lengths."""
        ...


class SteppedCollector:
    """Fulfils `Collector` in Python; `steps` counts vector steps since the beginning."""

    def __init__(
        self, ppo: Ppo, environment: VectorStepper, normalizer: Normalizer | None, *, seed: int
    ) -> None:
        """Act in `environment` as `ppo` says, noise drawn from `seed`."""
        self._ppo, self._environment, self._normalizer = ppo, environment, normalizer
        self._seed = seed
        self.steps = 0
        self._observations: npt.NDArray[Any] = np.zeros(0)
        self._totals, self._lengths = np.zeros(0), np.zeros(0, np.int64)
        self._starts = np.zeros(0, np.bool_)
        self._finished: list[tuple[float, int]] = []

    def standing(self) -> Tensors:
        """What the next steps depend on, policy and normaliser aside; nothing if unknown."""
        standing = self._environment.standing()
        return standing | {RETURNS: np.array(self._totals)} if standing else {}

    def go_on(self, state: Tensors, steps: int) -> None:
        """Be as `standing` was after so many steps; the normaliser was set before."""
        observations = self._environment.go_on(state)
        self._begin(observations, np.array(state[RETURNS]), np.array(state[ELAPSED]))
        if self._normalizer is not None:
            self._observations = self._normalizer.observed(observations)
        self.steps = steps

    def _begin(
        self,
        observations: npt.NDArray[Any],
        totals: npt.NDArray[np.float64],
        lengths: npt.NDArray[np.int64],
    ) -> None:
        self._observations, self._totals, self._lengths = observations, totals, lengths
        self._starts = lengths == 0

    def _reset(self) -> None:
        first = self._environment.reset()
        observed = first if self._normalizer is None else self._normalizer.reset(first)
        self._begin(observed, np.zeros(len(first)), np.zeros(len(first), np.int64))

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
        if not len(self._observations):
            self._reset()
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
