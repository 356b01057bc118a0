"""Pre-aggregators, a rule and a server optimizer put together: all that merges a round's updates.

Read next: `../rounds.py`, which calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from requestor.federation.merging.coordinate_rules import WeightedMean
from requestor.federation.merging.judged import FixedShares, JudgedMerge
from requestor.federation.merging.pre_aggregators import mixed
from requestor.federation.merging.protocol import (
    AggregationRule,
    Float32,
    Float64,
    MergeContext,
    Merged,
    Mixture,
    PreAggregator,
    ServerOptimizer,
    TooManyFaulty,
    require_bearable,
)
from requestor.federation.merging.server_optimizers import Sgd

Voices = Literal["capped", "pooled"]
"""Whose word counts: each item's, under a cap of items for each voice; or each voice's, once."""

MOST_UPDATES = 4096
"""The robust rules' kernels take no more rows."""


@dataclass(frozen=True)
class Merger:
    """How the updates of every round of a run are merged; the default is federated averaging.

    With `judged` the rule is what that finds, round by round (`decided`).
    """

    rule: AggregationRule = field(default_factory=WeightedMean)
    before: tuple[PreAggregator, ...] = ()
    optimizer: ServerOptimizer = field(default_factory=Sgd)
    voices: Voices = "capped"
    judged: JudgedMerge | None = None

    def decided(self, shares: Float64) -> Merger:
        """Return the merger that mixes updates by `shares`, `float64[N]`."""
        return replace(self, rule=FixedShares(tuple(shares.tolist())), judged=None)

    def bears(self, updates: int, faulty: int) -> bool:
        """Tell whether so many bad ones can be among so many updates."""
        try:
            for step in self.before:
                require_bearable(step, updates, faulty)
                updates = step.remaining(updates)
            require_bearable(self.judged or self.rule, updates, faulty)
        except TooManyFaulty:
            return False
        return True

    def least_updates(self, faulty: int) -> int:
        """Return among how many updates, at least, `faulty` bad ones are borne.

        Raises:
            TooManyFaulty: not even among `MOST_UPDATES`.
        """
        low, high = 1, MOST_UPDATES
        if not self.bears(high, faulty):
            raise TooManyFaulty(f"{faulty} bad updates are not borne among any number")
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.bears(middle, faulty) else (middle + 1, high)
        return low

    def most_faulty(self, updates: int) -> int:
        """Return how many bad ones can be among so many updates; -1 if these are too few at all."""
        faulty = -1
        while faulty < updates and self.bears(updates, faulty + 1):
            faulty += 1
        return faulty

    def combine(self, updates: Float32, weights: Float64, context: MergeContext) -> Merged:
        """Return what pre-aggregators and rule make of `updates` (`float32[N, P]`).

        The shares are those of the updates that went in.

        Raises:
            TooManyFaulty: `context.faulty` cannot be borne.
            ValueError: an update holds something that is not finite.
        """
        if not np.isfinite(updates).all():
            rows = np.flatnonzero(~np.isfinite(updates).all(axis=1))
            raise ValueError(f"updates {rows.tolist()} hold numbers that are not finite")
        mixing: Float64 | None = None
        for place, step in enumerate(self.before):
            mixture = step(updates, weights, replace(context, seed=context.seed + place, state={}))
            updates, weights = mixture.updates, mixture.weights
            mixing = mixture.mixing if mixing is None else mixture.mixing @ mixing
        merged = self.rule(updates, weights, context)
        if mixing is None or merged.shares is None:
            return merged
        return replace(merged, shares=merged.shares @ mixing)


def pool_voices(updates: Float32, weights: Float64, voices: Sequence[str]) -> Mixture:
    """Return one row for each voice: the weighted mean of its updates, with their weights' sum.

    updates: `float32[N, P]`. Voices are in the order of their first update; updates of nobody
    known (an empty voice) are one voice together.
    """
    names = list(dict.fromkeys(voices))
    mixing = np.zeros((len(names), len(voices)))
    for row, voice in enumerate(voices):
        mixing[names.index(voice), row] = weights[row]
    totals = mixing.sum(axis=1)
    mixing /= mixing.sum(axis=1, keepdims=True)
    return Mixture(mixed(updates, mixing), totals, mixing)
