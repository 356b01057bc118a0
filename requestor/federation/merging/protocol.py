"""What a merging rule, a pre-aggregator and a server optimizer are given, and what they return.

Throughout: N updates of P numbers are `float32[N, P]`, one row a client (or a bucket, or a voice),
finite, rows in client order. f, `faulty`, is how many of the rows may be arbitrary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
State = Mapping[str, NDArray[Any]]
"""What a rule or an optimizer keeps between rounds; it is written into checkpoints."""


class TooManyFaulty(ValueError):
    """More bad updates are to be borne than the rule bears among so many."""


@dataclass(frozen=True)
class MergeContext:
    """What is known of a call beside the updates.

    `faulty`: how many rows may be bad. `seed`: of the rule's random numbers; the same in every run
    of a config. `state`: what the rule returned in the round before; empty in the first.
    """

    faulty: int = 0
    seed: int = 0
    state: State = field(default_factory=dict)


@dataclass(frozen=True)
class Merged:
    """What came of N updates.

    `vector`: `float32[P]`. `shares`: `float64[N]`, how much of each row is in it, or None where
    each coordinate has shares of its own; 0 is a row that was left out. They add to 1, to less
    where rows were shortened. `state` is for the next round.
    """

    vector: Float32
    shares: Float64 | None = None
    state: State = field(default_factory=dict)


class AggregationRule(Protocol):
    """Merges N updates into one pseudo-gradient."""

    def least_updates(self, faulty: int) -> int:
        """Return among how many updates, at least, the rule bears `faulty` bad ones.

        Raises:
            TooManyFaulty: among none.
        """
        ...

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Merged:
        """Merge `updates` (`float32[N, P]`).

        weights: `float64[N]`, not negative, not all zero: the steps that the requestor assigned,
            never what a provider reported.

        Raises:
            TooManyFaulty: N is less than `least_updates(context.faulty)`.
        """
        ...


@dataclass(frozen=True)
class Mixture:
    """Rows made of rows: `updates` is `mixing` times what went in.

    `updates`: `float32[M, P]`. `weights`: `float64[M]`. `mixing`: `float64[M, N]`.
    """

    updates: Float32
    weights: Float64
    mixing: Float64


class PreAggregator(Protocol):
    """Makes other rows of the updates, of which at most as many are bad; a rule follows."""

    def least_updates(self, faulty: int) -> int:
        """Return among how many updates, at least, `faulty` bad ones can be borne."""
        ...

    def remaining(self, updates: int) -> int:
        """Return how many rows are left of so many updates."""
        ...

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Mixture:
        """Return the new rows; the arguments are those of `AggregationRule`."""
        ...


class ServerOptimizer(Protocol):
    """Applies a pseudo-gradient to the global parameters."""

    def step(
        self, parameters: Float32, pseudo_gradient: Float32, state: State
    ) -> tuple[Float32, State]:
        """Return the next parameters and state.

        parameters, pseudo_gradient: `float32[P]`, neither is changed. state: what the step of the
            round before returned; empty in the first round.
        """
        ...


class Bounded(Protocol):
    """What bears so many bad updates and no more."""

    def least_updates(self, faulty: int) -> int:
        """Return among how many updates, at least, `faulty` bad ones are borne."""
        ...


def require_bearable(rule: Bounded, updates: int, faulty: int) -> None:
    """Raise `TooManyFaulty` unless `rule` bears `faulty` bad ones among so many updates."""
    least = rule.least_updates(faulty)
    if updates < least:
        raise TooManyFaulty(
            f"{type(rule).__name__} bears {faulty} bad updates among {least} and more, "
            f"not among {updates}"
        )
