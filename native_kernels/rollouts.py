"""Experience for an on-policy learner: policy, sampling, environments and advantages in one call.

The parts are those of :mod:`native_kernels.ppo`, :mod:`native_kernels.environments` and
:mod:`native_kernels.advantages`; put together in Python they give the same bits, only later.
"""

import numpy as np
from numpy.typing import NDArray

from native_kernels import _native
from native_kernels.environments import BatchEnvironment
from native_kernels.ppo import Ppo, Rollout

__all__ = ["Collector"]

MAX_STEPS = 2**24
MAX_SAMPLES = 2**28


class Collector:
    """Collects rollouts of ``ppo`` in ``environment``; T stands for steps, B for environments.

    ppo: its policy must fit the environment: as many observations and actions, categorical for
    discrete actions and gaussian for continuous ones. Its weights are those of the moment of each
    call. environment: stepped from where it stands (or reset first, with its own seed); others
    should not step it meanwhile, or sums and lengths of episodes miss those steps.
    seed: 0 to 2^64 - 1, of the actions. threads are the environment's: each takes tiles of 64
    environments, and no result depends on their number.

    Raises ValueError naming ``ppo`` where it does not fit, or another argument.
    """

    def __init__(self, ppo: Ppo, environment: BatchEnvironment, *, seed: int) -> None:
        if type(seed) is not int:
            raise TypeError(f"seed: must be an int, is {type(seed).__name__}")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed: must be from 0 to {2**64 - 1}, is {seed}")
        self.ppo = ppo
        self.environment = environment
        self._native = _native.rollouts.Collector(ppo.native, environment.native, seed)
        self.rewards: NDArray[np.float32] = np.empty((0, environment.count), np.float32)
        """float32[T, B] of the last call: what the advantages were computed from."""
        self.episode_starts: NDArray[np.bool_] = np.empty((0, environment.count), np.bool_)
        """bool[T, B] of the last call."""

    def collect(self, n_steps: int, *, gamma: float, gae_lambda: float) -> Rollout:
        """Take T = ``n_steps`` steps in every environment; episodes go on from call to call.

        Continuous actions are stored as drawn and clipped to the action space for the
        environment only. Where the time limit alone ends an episode, gamma times the value of its
        last observation is added to the reward, as SB3 does. gamma, gae_lambda: from 0 to 1.

        Returns a Rollout of new arrays (observations float32[T, B, O] and so on).

        Raises ValueError for an argument out of range, FloatingPointError where the policy gives
        values that are not finite: its weights have diverged, and the environment needs a reset.
        """
        if type(n_steps) is not int:
            raise TypeError(f"n_steps: must be an int, is {type(n_steps).__name__}")
        limit = min(MAX_STEPS, MAX_SAMPLES // self.environment.count)
        if not 1 <= n_steps <= limit:
            raise ValueError(
                f"n_steps: must be from 1 to {limit} for {self.environment.count} environments, "
                f"is {n_steps}"
            )
        for name, value in (("gamma", gamma), ("gae_lambda", gae_lambda)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name}: must be from 0 to 1, is {value}")
        arrays = self._native.collect(n_steps, gamma, gae_lambda)
        self.rewards = arrays.pop("rewards")
        self.episode_starts = arrays.pop("episode_starts")
        if not np.isfinite(arrays.pop("last_values")).all():
            raise FloatingPointError(
                "the policy's values are not finite; fix: load weights that are, a smaller "
                "learning rate"
            )
        return Rollout(**arrays)

    @property
    def episode_returns(self) -> NDArray[np.float64]:
        """Sums of rewards, float64[K], of the K episodes that ended in the last call.

        In the order of their last steps, then of environments; without what was added at time
        limits.
        """
        return self._native.episodes()[0]

    @property
    def episode_lengths(self) -> NDArray[np.int64]:
        """Steps of the same episodes: int64[K]."""
        return self._native.episodes()[1]

    @property
    def steps(self) -> int:
        """Steps that each environment has taken, over all calls; names the random numbers.

        Set it to go on where another collector with the same seed stopped.
        """
        return self._native.steps()

    @steps.setter
    def steps(self, steps: int) -> None:
        self._native.set_steps(_checked_steps(steps))

    @property
    def running_returns(self) -> NDArray[np.float64]:
        """Sums of rewards of the running episodes so far: float64[B], a copy."""
        return self._native.running_returns()

    def resume(self, steps: int, running_returns: NDArray[np.float64]) -> None:
        """Go on where another collector with the same seed stopped, to the same bits.

        Its environment was resumed before. steps, running_returns float64[B]: what the other one
        had under these names.

        Raises TypeError for another type, ValueError for another length, steps out of range or
        returns that are not finite, RuntimeError before the environment was begun.
        """
        self._native.resume(_checked_steps(steps), running_returns)


def _checked_steps(steps: int) -> int:
    if type(steps) is not int:
        raise TypeError(f"steps: must be an int, is {type(steps).__name__}")
    if not 0 <= steps < 2**62:
        raise ValueError(f"steps: must be from 0 to {2**62 - 1}, is {steps}")
    return steps
