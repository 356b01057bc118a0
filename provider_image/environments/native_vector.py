"""Native batches of environments as Gymnasium's vector environments."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from native_kernels.environments import BatchEnvironment, EnvironmentFacts

__all__ = ["NativeVectorEnv", "native_spaces", "taken_actions"]

Array: TypeAlias = NDArray[Any]


def native_spaces(facts: EnvironmentFacts) -> tuple[spaces.Box, spaces.Discrete | spaces.Box]:
    """The observation and action space of one environment, equal to Gymnasium's."""
    observation_space = spaces.Box(
        np.array(facts.observation_low, np.float32),
        np.array(facts.observation_high, np.float32),
        dtype=np.float32,
    )
    if facts.n_actions:
        return observation_space, spaces.Discrete(facts.n_actions)
    shape = (facts.action_size,)
    return observation_space, spaces.Box(
        facts.action_low, facts.action_high, shape, dtype=np.float32
    )


def taken_actions(facts: EnvironmentFacts, actions: Array) -> Array:
    """``actions`` of any integer or floating dtype as a batch takes them.

    Returns int64[B] where actions are discrete, float32[B, A] where they are continuous.
    Raises TypeError where they are not of the right kind.
    """
    actions = np.asarray(actions)
    kinds, wanted = ("iu", np.int64) if facts.n_actions else ("fiu", np.float32)
    if actions.dtype.kind not in kinds:
        raise TypeError(
            f"actions: must be {'whole' if facts.n_actions else 'floating-point'} numbers for "
            f"{facts.id}, are {actions.dtype}"
        )
    return np.ascontiguousarray(actions, wanted)


class NativeVectorEnv(VectorEnv[NDArray[np.float32], Array, Array]):
    """``num_envs`` environments of one kind as one Gymnasium vector environment.

    id, precision, threads: as of :class:`native_kernels.environments.BatchEnvironment`.
    copy: whether step and reset return arrays of their own; without, the next step overwrites them.

    An episode that ends starts anew in the same step (``AutoresetMode.SAME_STEP``):
    ``infos["final_obs"]`` then has its last observation, as in ``SyncVectorEnv``. Seeds give other
    episodes than Gymnasium's generator would, of the same distribution. There is no rendering.
    """

    def __init__(
        self,
        id: str,
        num_envs: int = 1,
        *,
        precision: Literal["float32", "exact"] = "float32",
        threads: int = 1,
        copy: bool = True,
    ) -> None:
        self._batch = BatchEnvironment(id, num_envs, precision=precision, threads=threads)
        self._is_seeded = False
        self._copy = copy
        self.spec = gymnasium.spec(id)
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = native_spaces(self._batch.facts)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start new episodes everywhere; returns observations float32[B, O] and no infos.

        seed: one for all; without, the first reset takes one from the system and later ones go on
        to the next episodes.

        Raises ValueError for options (there are none) and for a list of seeds.
        """
        if options:
            raise ValueError(f"options: native environments take none, are {options}")
        if seed is not None and not isinstance(seed, int | np.integer):
            raise ValueError(f"seed: must be one int for all environments, is {seed!r}")
        super().reset(seed=seed)
        if seed is not None:
            observations = self._batch.reset(seed=int(seed))
        elif self._is_seeded:
            observations = self._batch.reset()
        else:
            observations = self._batch.reset(seed=int(self.np_random.integers(2**63)))
        self._is_seeded = True
        return observations.copy() if self._copy else observations, {}

    def step(
        self, actions: Array
    ) -> tuple[NDArray[np.float32], Array, Array, Array, dict[str, Any]]:
        """Take one step everywhere.

        actions: whole numbers [B] or floating-point ones [B, A].
        Returns observations float32[B, O], rewards float64[B], terminations bool[B],
        truncations bool[B], infos.

        Raises TypeError or ValueError naming the first action that is none.
        """
        observations, rewards, terminated, truncated = self._batch.step(
            taken_actions(self._batch.facts, actions)
        )
        done = terminated | truncated
        infos: dict[str, Any] = {}
        if done.any():
            infos = self._final_infos(done)
        if self._copy:
            observations, terminated, truncated = (
                observations.copy(),
                terminated.copy(),
                truncated.copy(),
            )
        return observations, rewards.astype(np.float64), terminated, truncated, infos

    def _final_infos(self, done: NDArray[np.bool_]) -> dict[str, Any]:
        final_obs = np.full(self.num_envs, None, dtype=object)
        for index in np.flatnonzero(done):
            final_obs[index] = self._batch.final_observations[index].copy()
        return {
            "final_obs": final_obs,
            "_final_obs": done,
            "final_info": {},
            "_final_info": done.copy(),
        }
