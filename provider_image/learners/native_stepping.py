"""Environments stepped side by side for the native learner: Gymnasium's, or a native batch.

Semantics of SB3's DummyVecEnv: an environment that ends is reset at once, its observation is then
the new episode's first, and the last one of the old episode is handed out beside it.
Axes: B environments.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from provider_image.environments import Space, make_environment
from provider_image.learners.base import LearnerRefused
from provider_image.learners.native_batches import environment_tensors, resume_environment
from provider_image.wire import EnvironmentSpec, Tensors

Bools = npt.NDArray[np.bool_]


class Transition(NamedTuple):
    """One step of B environments.

    `observations` and `final_observations` are [B, ...] as the environment gives them, the latter
    valid where `dones`; `rewards` float64[B]; `cut` marks episodes that only a time limit ended.
    """

    observations: npt.NDArray[Any]
    rewards: npt.NDArray[np.float64]
    dones: Bools
    cut: Bools
    final_observations: npt.NDArray[Any]


class VectorStepper(Protocol):
    """B environments that are reset by themselves."""

    def reset(self) -> npt.NDArray[Any]:
        """The first observations [B, ...]; once, before any step."""
        ...

    def step(self, actions: npt.NDArray[Any]) -> Transition:
        """Step all: int64[B], or float32[B, A] that are clipped to the space's bounds here."""
        ...

    def standing(self) -> Tensors:
        """What the next steps depend on, by the names of a link state; nothing if unknown."""
        ...

    def go_on(self, state: Tensors) -> npt.NDArray[Any]:
        """Be as `standing` says; the last observations [B, ...]. In place of `reset`."""
        ...

    def close(self) -> None:
        """Close every environment."""
        ...


def for_environment(actions: npt.NDArray[Any], space: Space) -> npt.NDArray[Any]:
    """A policy's actions [B] or [B, A] as environments take them: within bounds, shaped."""
    if space.kind == "discrete":
        return actions
    low, high = space.bounds()
    shaped = actions.reshape(len(actions), *space.shape)
    clipped: npt.NDArray[Any] = np.clip(shaped, low, high)
    return clipped


class GymnasiumStepper:
    """Environments of a specification, one after the other; seeded as SB3 seeds them."""

    def __init__(self, spec: EnvironmentSpec, action: Space, observation: Space, seed: int) -> None:
        """Make `spec.n_envs` environments; the first reset of number i is seeded `seed + i`."""
        self._action, self._seed = action, seed
        self._environments: list[Any] = []
        try:
            for _ in range(spec.n_envs):
                self._environments.append(make_environment(spec))
        except BaseException:
            self.close()
            raise
        shape = (spec.n_envs, *observation.shape)
        self._observations = np.zeros(shape, observation.dtype)
        self._finals = np.zeros(shape, observation.dtype)

    def reset(self) -> npt.NDArray[Any]:
        """See `VectorStepper.reset`."""
        for number, environment in enumerate(self._environments):
            # SB3 seeds the action spaces too, which wrappers may draw from
            environment.action_space.seed(self._seed + number)
            self._observations[number], _ = environment.reset(seed=self._seed + number)
        return self._observations.copy()

    def step(self, actions: npt.NDArray[Any]) -> Transition:
        """See `VectorStepper.step`."""
        count = len(self._environments)
        rewards = np.zeros(count)
        dones, cut = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        for number, action in enumerate(for_environment(actions, self._action)):
            environment = self._environments[number]
            observation, reward, terminated, truncated, _ = environment.step(action)
            rewards[number] = float(reward)
            if terminated or truncated:
                dones[number], cut[number] = True, truncated and not terminated
                self._finals[number] = observation
                observation, _ = environment.reset()
            self._observations[number] = observation
        return Transition(self._observations.copy(), rewards, dones, cut, self._finals)

    def standing(self) -> Tensors:
        """Nothing: what a Gymnasium environment depends on cannot be read."""
        return {}

    def go_on(self, state: Tensors) -> npt.NDArray[Any]:
        """Never: nothing says how."""
        raise LearnerRefused("a link's state is for native environments without wrappers")

    def close(self) -> None:
        """See `VectorStepper.close`."""
        for environment in self._environments:
            environment.close()


class BatchStepper:
    """A native batch environment behind the same face."""

    def __init__(self, spec: EnvironmentSpec, action: Space, seed: int) -> None:
        """Make `spec.n_envs` environments of the native environment `spec.id`."""
        from native_kernels.environments import BatchEnvironment

        self._action = action
        self._environment = BatchEnvironment(spec.id, spec.n_envs, seed=seed)

    def reset(self) -> npt.NDArray[Any]:
        """See `VectorStepper.reset`."""
        return self._environment.reset().copy()

    def step(self, actions: npt.NDArray[Any]) -> Transition:
        """See `VectorStepper.step`."""
        within = for_environment(actions, self._action)
        observations, rewards, terminated, truncated = self._environment.step(within)
        return Transition(
            observations.copy(),
            rewards.astype(np.float64),
            terminated | truncated,
            truncated & ~terminated,
            self._environment.final_observations,
        )

    def standing(self) -> Tensors:
        """See `VectorStepper.standing`."""
        return environment_tensors(self._environment)

    def go_on(self, state: Tensors) -> npt.NDArray[Any]:
        """See `VectorStepper.go_on`."""
        return resume_environment(self._environment, state).copy()

    def close(self) -> None:
        """See `VectorStepper.close`."""
