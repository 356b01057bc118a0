"""Running normalisation in NumPy: SB3's VecNormalize, and the moments of this round alone.

The running statistics take in what SB3's would, in its order and its arithmetic, so that both
learners' numbers are the same bits. The moments (`FORMAT.md`, section 6) start from nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from provider_image.learners.base import LearnerRefused
from provider_image.learners.moments import (
    Moments,
    RunningMoments,
    moment_tensors,
    received_statistics,
)
from provider_image.wire import (
    MOMENTS_PREFIX,
    NORMALIZER_PREFIX,
    NormalizeSpec,
    Tensors,
)

FRESH_COUNT = 1e-4
"""The weight of the prior of mean 0 and variance 1, as SB3's `RunningMeanStd` has it."""

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


class RunningStatistics:
    """Mean, population variance and count of a stream [B, ...]; SB3's `RunningMeanStd`."""

    def __init__(self, moments: Moments) -> None:
        """Go on from `moments`."""
        self.mean, self.variance, self.count = moments.mean, moments.variance, moments.count

    def update(self, batch: npt.NDArray[Any]) -> None:
        """Take in `batch` [B, ...], by the parallel-variance formula (Chan et al. 1979)."""
        mean, variance, added = np.mean(batch, axis=0), np.var(batch, axis=0), len(batch)
        delta = mean - self.mean
        total = self.count + added
        squares = (
            self.variance * self.count
            + variance * added
            + np.square(delta) * self.count * added / total
        )
        self.mean = self.mean + delta * added / total
        self.variance = squares / total
        self.count = added + self.count

    def moments(self) -> Moments:
        """What was taken in so far, the prior included."""
        return Moments(np.array(self.mean), np.array(self.variance), float(self.count))


class Normalizer:
    """Normalises what B environments show and pay, and learns from it while `is_learning`."""

    def __init__(
        self, spec: NormalizeSpec, shape: tuple[int, ...], count: int, *, is_learning: bool
    ) -> None:
        """Begin with a fresh prior, for `count` environments with observations of `shape`."""
        self._spec = spec
        self._is_learning = is_learning
        self._returns = np.zeros(count)
        self._statistics = {
            name: RunningStatistics(Moments(np.zeros(of), np.ones(of), FRESH_COUNT))
            for name, of in _normalised(spec, shape).items()
        }
        self._round = {name: RunningMoments(of) for name, of in _normalised(spec, shape).items()}

    def load(self, tensors: Tensors) -> None:
        """Take running statistics whose names and shapes were checked; LearnerRefused if unfit."""
        for name in self._statistics:
            self._statistics[name] = RunningStatistics(
                received_statistics(f"{NORMALIZER_PREFIX}{name}", tensors)
            )

    def reset(self, observations: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The first observations [B, ...], taken in and normalised."""
        self._returns = np.zeros_like(self._returns)
        self._see(observations)
        return self.observed(observations)

    def step(
        self, observations: npt.NDArray[Any], rewards: Float32, dones: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[Any], Float32]:
        """Observations [B, ...] after a step (those of new episodes included) and rewards."""
        self._see(observations)
        observed = self.observed(observations)
        if self._spec.rewards:
            self._returns = self._returns * self._spec.gamma + rewards
            self._round["return"].update(self._returns)
            if self._is_learning:
                self._statistics["return"].update(self._returns)
            rewards = self._rewarded(rewards)
            self._returns[dones] = 0
        return observed, rewards

    def observed(self, observations: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Observations [..., as the environment gives them] as the policy sees them."""
        if not self._spec.observations:
            return observations
        of, limit = self._statistics["observation"], self._spec.clip_observations
        scaled = (observations - of.mean) / np.sqrt(of.variance + self._spec.epsilon)
        normalised: Float32 = np.clip(scaled, -limit, limit).astype(np.float32)
        return normalised

    def tensors(self) -> Tensors:
        """`normalizer/<what>/{mean,var,count}` float64: the running statistics."""
        found: Tensors = {}
        for name, statistics in self._statistics.items():
            found |= moment_tensors(f"{NORMALIZER_PREFIX}{name}", statistics.moments())
        return found

    def round_moments(self) -> Tensors:
        """`moments/<what>/{mean,var,count}` float64: this round's own samples."""
        found: Tensors = {}
        for name, moments in self._round.items():
            found |= moment_tensors(f"{MOMENTS_PREFIX}{name}", moments.moments())
        return found

    def standing(self) -> Tensors:
        """What, with the round's moments, the next step depends on; see `native_link_state.py`."""
        found = self.tensors()
        for name, moments in self._round.items():
            found[f"squares/{name}"] = moments.squares
        if self._spec.rewards:
            found["environment/discounted_returns"] = np.array(self._returns)
        return found

    def go_on(self, state: Tensors, n_steps: int) -> None:
        """Be as after so many steps, by checked tensors; LearnerRefused if they are unfit."""
        self.load(state)
        for name, moments in self._round.items():
            # what a reset shows is a sample, too
            count = len(self._returns) * (n_steps + (name == "observation"))
            stem, squares = f"{MOMENTS_PREFIX}{name}", state[f"squares/{name}"]
            if float(state[f"{stem}/count"]) != count or (squares < 0).any():
                raise LearnerRefused(
                    f"link state: {stem}/count must be {count}, and no number of squares/{name} "
                    "negative"
                )
            moments.go_on(state[f"{stem}/mean"], squares, count)
        if self._spec.rewards:
            self._returns = np.array(state["environment/discounted_returns"])

    def _see(self, observations: npt.NDArray[Any]) -> None:
        if self._spec.observations:
            self._round["observation"].update(observations)
            if self._is_learning:
                self._statistics["observation"].update(observations)

    def _rewarded(self, rewards: Float32) -> Float32:
        of, limit = self._statistics["return"], self._spec.clip_rewards
        scaled = rewards / np.sqrt(of.variance + self._spec.epsilon)
        normalised: Float32 = np.clip(scaled, -limit, limit).astype(np.float32)
        return normalised


def _normalised(spec: NormalizeSpec, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    if spec.observations:
        found["observation"] = shape
    if spec.rewards:
        found["return"] = ()
    return found
