"""Experience collected on a CUDA device: policy, sampling, environments and advantages.

The same weights, seeds and environments give the same bits as ``native_kernels.rollouts``: every
thread does for one environment what the CPU does for a row, in the same order.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from native_kernels.cuda.advantages import generalized_advantages
from native_kernels.cuda.arrays import DeviceArray, empty, to_device, to_host
from native_kernels.cuda.environments import BatchEnvironment
from native_kernels.cuda.library import require_device
from native_kernels.ppo import Ppo

__all__ = ["Collector", "DeviceRollout"]

MAX_STEPS = 1 << 24
MAX_SAMPLES = 1 << 28


@dataclass(frozen=True)
class DeviceRollout:
    """What T steps of B environments gave, on the device; ``native_kernels.ppo.Rollout`` there.

    observations: float32[T, B, O]. actions: int64[T, B] or float32[T, B, A], as drawn. rewards,
    log_probs, values, advantages, returns: float32[T, B]. episode_starts: bool[T, B]. last_values:
    float32[B]. episode_returns: float64[T, B] and episode_lengths: int32[T, B], of the episode that
    ended there; lengths are 0 where none did, and returns then mean nothing.
    """

    observations: DeviceArray
    actions: DeviceArray
    log_probs: DeviceArray
    values: DeviceArray
    rewards: DeviceArray
    episode_starts: DeviceArray
    episode_returns: DeviceArray
    episode_lengths: DeviceArray
    last_values: DeviceArray
    advantages: DeviceArray
    returns: DeviceArray


class Collector:
    """Collects rollouts of ``ppo`` in ``environment``; T stands for steps, B for environments.

    ppo: its policy must fit the environment, as on the CPU, and have no layer of more than 192
    units; its weights are those of the moment of each call. environment: reset first, stepped from
    where it stands; its device and stream are the collector's. seed: 0 to 2^64 - 1, of the actions.

    Raises ValueError that names the argument, UnavailableError.
    """

    def __init__(self, ppo: Ppo, environment: BatchEnvironment, *, seed: int) -> None:
        shape, facts = ppo.shape, environment.facts
        fitting = "categorical" if facts.n_actions else "gaussian"
        wanted = (facts.observation_size, facts.n_actions or facts.action_size, fitting)
        found = (shape.observation_size, shape.action_size, shape.distribution)
        if found != wanted:
            raise ValueError(f"ppo: its policy must be {wanted} for {facts.id}, is {found}")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed: must be 0 to 2^64 - 1, is {seed}")
        module = require_device()
        is_gaussian, is_relu = fitting == "gaussian", shape.activation == "relu"
        self._policy = module.Policy(
            shape.observation_size, shape.action_size, is_gaussian, shape.pi, shape.vf, is_relu
        )
        if self._policy.widest > module.WIDEST_ROLLOUT:
            raise ValueError(
                f"ppo: its layers must have at most {module.WIDEST_ROLLOUT} units on a CUDA "
                f"device, one has {self._policy.widest}"
            )
        self.ppo = ppo
        self.environment = environment
        self.seed = seed
        self.steps = 0
        """Steps that each environment has taken, over all calls; names the random numbers."""
        where = {"device": environment.device, "stream": environment.stream}
        # kept, because giving device memory back waits for the device
        self._weights = empty(
            "float32[P]", {"P": len(self._policy.packed(ppo.parameters))}, **where
        )
        self._sums = to_device(np.zeros(environment.count), **where)
        self._starts = to_device(np.ones(environment.count, np.bool_), **where)
        self._last: DeviceRollout | None = None

    def collect(self, n_steps: int, *, gamma: float, gae_lambda: float) -> DeviceRollout:
        """Take T = ``n_steps`` steps in every environment; episodes go on from call to call.

        gamma, gae_lambda: from 0 to 1. Where the time limit alone ends an episode, gamma times the
        value of its last observation is added to the reward, as SB3 does. Does not wait: values
        that are not finite, of weights that have diverged, are there to be seen in ``last_values``.

        Raises ValueError for an argument out of range, RuntimeError before the environment's first
        reset, KernelError.
        """
        count = self.environment.count
        limit = min(MAX_STEPS, MAX_SAMPLES // count)
        if not 1 <= n_steps <= limit:
            raise ValueError(
                f"n_steps: must be 1 to {limit} for {count} environments, is {n_steps}"
            )
        for name, value in (("gamma", gamma), ("gae_lambda", gae_lambda)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name}: must be from 0 to 1, is {value}")
        arrays = self._arrays(n_steps)
        module, environment = require_device(), self.environment
        place = module.Place(environment.device, environment.stream)
        packed = self._policy.packed(self.ppo.parameters)
        module.copy_to_device(self._weights.memory, packed, place)
        environment.collect(
            self._policy,
            self._weights,
            (self.seed, self.steps, n_steps),
            gamma,
            (self._sums, self._starts),
            tuple(arrays.values()),
        )
        self.steps += n_steps
        advantages, returns = generalized_advantages(
            arrays["rewards"], arrays["values"], arrays["episode_starts"], arrays["last_values"],
            self._starts, gamma, gae_lambda,
        )  # fmt: skip
        self._last = DeviceRollout(**arrays, advantages=advantages, returns=returns)
        return self._last

    @property
    def episode_returns(self) -> NDArray[np.float64]:
        """Sums of rewards, float64[K] of NumPy, of the K episodes that ended in the last call.

        In the order of their last steps, then of environments; without what was added at time
        limits. Waits for the device.
        """
        if self._last is None:
            return np.empty(0, np.float64)
        ended = to_host(self._last.episode_lengths) > 0
        returns: NDArray[np.float64] = to_host(self._last.episode_returns)[ended]
        return returns

    @property
    def episode_lengths(self) -> NDArray[np.int64]:
        """Steps of the same episodes: int64[K] of NumPy; waits for the device."""
        if self._last is None:
            return np.empty(0, np.int64)
        lengths = to_host(self._last.episode_lengths)
        return lengths[lengths > 0].astype(np.int64)

    def _arrays(self, n_steps: int) -> dict[str, DeviceArray]:
        """Make the arrays of a rollout in the order that ``_cuda.collect`` takes them."""
        facts, environment = self.environment.facts, self.environment
        sizes = {"T": n_steps, "B": environment.count}
        sizes |= {"O": facts.observation_size, "A": facts.action_size}
        wanted = {
            "observations": "float32[T, B, O]",
            "actions": "int64[T, B]" if facts.n_actions else "float32[T, B, A]",
            "log_probs": "float32[T, B]",
            "values": "float32[T, B]",
            "rewards": "float32[T, B]",
            "episode_starts": "bool[T, B]",
            "episode_returns": "float64[T, B]",
            "episode_lengths": "int32[T, B]",
            "last_values": "float32[B]",
        }
        return {
            name: empty(text, sizes, environment.device, environment.stream)
            for name, text in wanted.items()
        }
