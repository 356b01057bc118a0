"""Gymnasium's classic environments in batches: one call steps all of them.

The dynamics of each stand in ``include/derl/environments``; ``README.md`` says how to add one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from native_kernels import _native

__all__ = ["ENVIRONMENTS", "BatchEnvironment", "EnvironmentFacts"]

Step = Callable[
    [NDArray[np.int64] | NDArray[np.float32]],
    tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]],
]


@dataclass(frozen=True)
class EnvironmentFacts:
    """What is known of an environment before it runs, as Gymnasium's spaces and spec have it."""

    id: str
    observation_size: int
    action_size: int
    """Numbers in an action; 1 where actions are discrete."""
    n_actions: int
    """Discrete actions, numbered from 0; 0 where actions are continuous."""
    action_low: float
    action_high: float
    observation_low: tuple[float, ...]
    observation_high: tuple[float, ...]
    max_episode_steps: int
    state_size: int


_FACTS = [EnvironmentFacts(**row) for row in _native.environments.all_facts()]  # type: ignore[arg-type]
_NUMBERS = {facts.id: number for number, facts in enumerate(_FACTS)}

ENVIRONMENTS: dict[str, EnvironmentFacts] = {facts.id: facts for facts in _FACTS}
"""The environments that there are, by Gymnasium's id."""


class BatchEnvironment:
    """``count`` environments of one kind, stepped together; B stands for ``count``.

    id: one of :data:`ENVIRONMENTS`. count: 1 to 2^24.
    seed: 0 to 2^64 - 1; what an episode starts from depends on the seed, the index of the
    environment and the number of the episode there, and on nothing else.
    precision: ``"float32"`` is fast and has the same bits on every machine. ``"exact"`` computes in
    float64, in the order of Gymnasium 1.4's Python source: the same states as Gymnasium from the
    same start under the same actions (rewards are rounded to float32), several times slower; sine,
    cosine and powers are the C library's, so bits may differ between machines as Gymnasium's do.
    threads: used from 65,536 environments on, where they pay; no result depends on their number.

    Episodes that end, by termination or at ``max_episode_steps``, start anew within the same step:
    the observation is then the new episode's first, and :attr:`final_observations` has the last
    one of the old. As in Gymnasium, ``truncated`` is also set where the last allowed step
    terminates.

    Raises ValueError or TypeError that names the argument.
    """

    step: Step
    """Take one step in every environment.

    Takes actions int64[B] (discrete) or float32[B, A] (continuous, clipped as Gymnasium does).
    Returns observations float32[B, O], rewards float32[B], terminated bool[B], truncated bool[B].
    These arrays belong to the environment and its next step overwrites them; copy what must last.

    Raises TypeError for another dtype, ValueError for another shape or order, a discrete action out
    of range or a continuous one that is not finite (nothing has moved then), RuntimeError before
    the first reset and where another thread is in a step of the same batch.
    """

    def __init__(
        self,
        id: str,
        count: int,
        *,
        seed: int = 0,
        precision: Literal["float32", "exact"] = "float32",
        threads: int = 1,
    ) -> None:
        if id not in ENVIRONMENTS:
            raise ValueError(f"id: must be one of {', '.join(ENVIRONMENTS)}; is {id!r}")
        _require_whole("count", count, 1, _native.environments.MAX_COUNT)
        _require_whole("seed", seed, 0, 2**64 - 1)
        _require_whole("threads", threads, 1, 1024)
        if precision not in ("float32", "exact"):
            raise ValueError(f"precision: must be 'float32' or 'exact', is {precision!r}")
        self.facts = ENVIRONMENTS[id]
        self.count = count
        self.precision = precision
        self.threads = threads
        self.native = _native.environments.Batch(
            _NUMBERS[id], count, seed, precision == "exact", threads
        )
        self.step = self.native.step_function()

    def reset(self, seed: int | None = None) -> NDArray[np.float32]:
        """Start a new episode everywhere; returns observations float32[B, O], as ``step`` does.

        With a seed (0 to 2^64 - 1) episodes are numbered from 0 again, as in a new batch.
        """
        if seed is not None:
            _require_whole("seed", seed, 0, 2**64 - 1)
        return self.native.start(seed)

    @property
    def observations(self) -> NDArray[np.float32]:
        """The observations float32[B, O] of the last step or reset; overwritten by the next."""
        return self.native.observations

    @property
    def final_observations(self) -> NDArray[np.float32]:
        """The last observations float32[B, O] of the episodes that ended in the last step.

        Rows where none ended hold nothing of meaning. Overwritten by the next step.
        """
        return self.native.final_observations

    @property
    def states(self) -> NDArray[np.float64]:
        """The states float64[B, S], a copy; what they are made of is said by Gymnasium."""
        return self.native.states()

    def set_states(self, states: NDArray[np.float64]) -> NDArray[np.float32]:
        """Start a new episode everywhere, from these states; returns observations float32[B, O].

        states: float64[B, S], finite and within 1e6; rounded to float32 where the batch computes
        in it.

        Raises TypeError for another dtype, ValueError for another shape, order or values.
        """
        return self.native.set_states(states)

    def resume(
        self,
        states: NDArray[np.float64],
        elapsed_steps: NDArray[np.int32],
        episodes: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Go on with the episodes of another batch of this kind, count and seed, to the same bits.

        The three are what that batch has under these names; returns observations float32[B, O].

        Raises TypeError for another dtype, ValueError for another shape or order, states as in
        ``set_states``, elapsed_steps from the time limit on or episodes that were never begun.
        """
        return self.native.resume(states, elapsed_steps, episodes)

    @property
    def elapsed_steps(self) -> NDArray[np.int32]:
        """Steps taken in the current episodes: int32[B], a copy."""
        return self.native.elapsed_steps()

    @property
    def episodes(self) -> NDArray[np.int64]:
        """The numbers of the current episodes: int64[B], a copy, from 0; -1 before the first.

        Numbers above 2^32 - 1 start from 0 again.
        """
        return self.native.episodes()


def _require_whole(name: str, value: int, low: int, high: int) -> None:
    if type(value) is not int:
        raise TypeError(f"{name}: must be an int, is {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{name}: must be from {low} to {high}, is {value}")
