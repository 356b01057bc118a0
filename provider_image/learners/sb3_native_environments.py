"""Native batches of environments as Stable-Baselines3's vectorised environments."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from native_kernels.environments import BatchEnvironment
from provider_image.environments.native_vector import native_spaces, taken_actions

__all__ = ["NativeVecEnv"]


class NativeVecEnv(VecEnv):
    """``num_envs`` native environments as SB3 wants them: to be passed to PPO, DQN and so on.

    id, precision, threads: as of :class:`native_kernels.environments.BatchEnvironment`.
    Every step's infos have ``TimeLimit.truncated``; where an episode ends also
    ``terminal_observation`` and, as of a Monitor, ``episode`` with return, length and time. To
    SB3 each environment counts as wrapped in a Monitor. There is no rendering.
    """

    def __init__(
        self,
        id: str,
        num_envs: int = 1,
        *,
        precision: Literal["float32", "exact"] = "float32",
        threads: int = 1,
    ) -> None:
        self._batch = BatchEnvironment(id, num_envs, precision=precision, threads=threads)
        self.spec = gymnasium.spec(id)
        super().__init__(num_envs, *native_spaces(self._batch.facts))
        self._is_seeded = False
        self._next_seed: int | None = None
        self._actions: NDArray[Any] | None = None
        self._started_at = time.time()
        self._sums = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, np.int64)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the next reset; one seed serves all environments. Returns it for each of them."""
        if seed is None:
            seed = int(np.random.randint(0, np.iinfo(np.uint32).max, dtype=np.uint32))
        self._next_seed = int(seed)
        return [self._next_seed] * self.num_envs

    def reset(self) -> NDArray[np.float32]:
        """Start new episodes everywhere; returns observations float32[B, O].

        Raises ValueError where options were set: there are none.
        """
        if any(self._options):
            raise ValueError(f"options: native environments take none, are {self._options}")
        if self._next_seed is None and not self._is_seeded:
            self.seed()
        observations = self._batch.reset(seed=self._next_seed)
        self._is_seeded, self._next_seed = True, None
        self._sums[:] = 0
        self._lengths[:] = 0
        return observations.copy()

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions, whole numbers [B] or float32[B, A], for step_wait."""
        self._actions = taken_actions(self._batch.facts, actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Take one step everywhere.

        Returns observations float32[B, O], rewards float32[B], dones bool[B], infos.

        Raises ValueError naming the first action that is none.
        """
        if self._actions is None:
            raise RuntimeError("call step_async before step_wait")
        actions, self._actions = self._actions, None
        observations, rewards, terminated, truncated = self._batch.step(actions)
        dones = terminated | truncated
        self._sums += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [
            {"TimeLimit.truncated": is_cut} for is_cut in (truncated & ~terminated).tolist()
        ]
        for index in np.flatnonzero(dones):
            infos[index]["terminal_observation"] = self._batch.final_observations[index].copy()
            infos[index]["episode"] = {
                "r": round(float(self._sums[index]), 6),
                "l": int(self._lengths[index]),
                "t": round(time.time() - self._started_at, 6),
            }
        self._sums[dones] = 0
        self._lengths[dones] = 0
        return observations.copy(), rewards.copy(), dones, infos

    def close(self) -> None:
        """Do nothing: memory goes with the object."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return ``render_mode`` (None) or ``spec`` for each environment.

        Raises AttributeError for others: single environments are no objects here.
        """
        known = {"render_mode": None, "spec": self.spec}
        if attr_name not in known:
            raise AttributeError(f"native environments have no attribute {attr_name!r}")
        return [known[attr_name]] * self._count(indices)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Raise AttributeError: single environments are no objects here."""
        raise AttributeError(f"native environments have no attribute {attr_name!r} to set")

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Raise AttributeError: single environments are no objects here."""
        raise AttributeError(f"native environments have no method {method_name!r}")

    def env_is_wrapped(
        self,
        wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]],
        indices: VecEnvIndices = None,
    ) -> list[bool]:
        """Return True for Monitor, whose infos these environments give, False for others."""
        return [issubclass(wrapper_class, Monitor)] * self._count(indices)

    def _count(self, indices: VecEnvIndices) -> int:
        chosen: Iterable[int] = self._get_indices(indices)
        return len(list(chosen))
