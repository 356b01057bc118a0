"""Rules that keep whole updates and leave others out: Krum, Multi-Krum, MDA, Bulyan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from native_kernels.aggregation import (
    coordinate_median,
    krum_scores,
    squared_distances,
    weighted_mean,
)
from requestor.federation.merging.protocol import (
    Float32,
    Float64,
    MergeContext,
    Merged,
    require_bearable,
)

MOST_BRANCHES = 4096
"""MDA searches exactly while at most so many branches, 2^f, can come up."""


def mean_of(updates: Float32, weights: Float64, rows: NDArray[np.int64]) -> Merged:
    """Return the weighted mean of some rows of `updates` (`float32[N, P]`); of rows without weight
    the plain one."""
    rows = np.sort(rows)
    chosen = np.zeros(len(updates))
    chosen[rows] = weights[rows] if weights[rows].sum() > 0 else 1.0
    mean = weighted_mean(np.ascontiguousarray(updates[rows]), chosen[rows])
    return Merged(mean, chosen / chosen.sum())


@dataclass(frozen=True)
class Krum:
    """The update whose N - f - 2 nearest others are nearest, by the sum of squared distances.

    Blanchard et al. 2017, arXiv 1703.02757. The lower client of two equal scores. 2 f + 2 < N.
    """

    def least_updates(self, faulty: int) -> int:
        """Return 2 f + 3."""
        return 2 * faulty + 3

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Merged:
        """Return one row of `updates` (`float32[N, P]`)."""
        require_bearable(self, len(updates), context.faulty)
        scores = krum_scores(squared_distances(np.ascontiguousarray(updates)), context.faulty)
        best = int(np.argmin(scores))
        return Merged(updates[best].copy(), np.eye(len(updates))[best])


@dataclass(frozen=True)
class MultiKrum:
    """Mean of the `chosen` updates with the best Krum scores, by default N - f of them.

    Blanchard et al. 2017, arXiv 1703.02757; the mean is weighted by the steps that we assigned.
    2 f + 2 < N.
    """

    chosen: int | None = None

    def least_updates(self, faulty: int) -> int:
        """Return 2 f + 3, or f more than are to be chosen."""
        return max(2 * faulty + 3, (self.chosen or 0) + faulty)

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Merged:
        """Return the mean of the chosen rows of `updates` (`float32[N, P]`)."""
        require_bearable(self, len(updates), context.faulty)
        scores = krum_scores(squared_distances(np.ascontiguousarray(updates)), context.faulty)
        count = self.chosen or len(updates) - context.faulty
        return mean_of(updates, weights, np.argsort(scores, kind="stable")[:count])


@dataclass(frozen=True)
class MinimumDiameterAverage:
    """Mean of the N - f updates whose two farthest are nearest to each other (MDA).

    El-Mhamdi et al. 2020, arXiv 2008.00742, and Rousseeuw 1985. Exact while 2^f is at most
    `MOST_BRANCHES`: of the two farthest updates one must go, or both stay and are the diameter.
    Beyond that the best of N candidates, each an update with its N - f - 1 nearest, whose diameter
    is at most twice the least. The mean is weighted by the steps that we assigned. f < N / 2.
    """

    def least_updates(self, faulty: int) -> int:
        """Return 2 f + 1."""
        return 2 * faulty + 1

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Merged:
        """Return the mean of N - f rows of `updates` (`float32[N, P]`)."""
        require_bearable(self, len(updates), context.faulty)
        distances = squared_distances(np.ascontiguousarray(updates))
        rows = least_diameter(distances, context.faulty)
        return mean_of(updates, weights, np.array(rows))


def least_diameter(distances: Float64, left_out: int) -> tuple[int, ...]:
    """Return the rows that stay when `left_out` go so that the rest has the least diameter.

    distances: `float64[N, N]`. Of sets with equal diameters that with the least sum of distances,
    of those the one with the lower rows; see `MinimumDiameterAverage` for when it is exact.
    """
    if 2**left_out > MOST_BRANCHES:
        return _smallest_ball(distances, left_out)
    best: tuple[float, float, tuple[int, ...]] | None = None
    seen: set[frozenset[int]] = set()
    waiting: list[frozenset[int]] = [frozenset()]
    for gone in waiting:
        stay = tuple(row for row in range(len(distances)) if row not in gone)
        among = distances[np.ix_(stay, stay)]
        first, second = np.unravel_index(int(np.argmax(among)), among.shape)
        if len(gone) == left_out:
            inside = float(np.sort(among, axis=None).cumsum()[-1])
            found = (float(among[first, second]), inside, stay)
            best = found if best is None else min(best, found)
            continue
        pair = (stay[first], stay[second]) if first != second else stay[-1:]
        for row in pair:
            branch = gone | {row}
            if branch not in seen:
                seen.add(branch)
                waiting.append(branch)
    assert best is not None
    return best[2]


def _smallest_ball(distances: Float64, left_out: int) -> tuple[int, ...]:
    kept = len(distances) - left_out
    nearest = np.sort(np.argsort(distances, axis=1, kind="stable")[:, :kept], axis=1)
    diameters = [float(distances[np.ix_(rows, rows)].max()) for rows in nearest]
    return tuple(int(row) for row in nearest[int(np.argmin(diameters))])


@dataclass(frozen=True)
class Bulyan:
    """Krum's choice N - 2 f times, each without those before, then a mean near the median.

    Per coordinate the mean of the N - 4 f chosen values nearest to the chosen's median, of two as
    near the smaller. El-Mhamdi et al. 2018, arXiv 1802.07927. Where few are left, Krum sums at
    least one distance. Weights are not used. N >= 4 f + 3.
    """

    def least_updates(self, faulty: int) -> int:
        """Return 4 f + 3."""
        return 4 * faulty + 3

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Merged:
        """Return the mean near the median of the chosen rows of `updates` (`float32[N, P]`)."""
        require_bearable(self, len(updates), context.faulty)
        distances = squared_distances(np.ascontiguousarray(updates))
        chosen = _krum_choices(distances, context.faulty, len(updates) - 2 * context.faulty)
        kept = len(chosen) - 2 * context.faulty
        return Merged(mean_near_median(np.ascontiguousarray(updates[np.sort(chosen)]), kept))


def _krum_choices(distances: Float64, faulty: int, count: int) -> NDArray[np.int64]:
    left = list(range(len(distances)))
    chosen = []
    for _ in range(count):
        among = distances[np.ix_(left, left)]
        others = np.sort(among, axis=1)[:, 1:]  # the distance to itself, 0, comes first
        nearest = max(1, len(left) - faulty - 2)
        scores = np.cumsum(others[:, :nearest], axis=1)[:, -1] if len(left) > 1 else np.zeros(1)
        chosen.append(left.pop(int(np.argmin(scores))))
    return np.array(chosen)


def mean_near_median(updates: Float32, kept: int) -> Float32:
    """Return per coordinate the mean of the `kept` values nearest the median, in float64.

    updates: `float32[N, P]`. Of two values as near the smaller is kept. Returns `float32[P]`.
    """
    ordered = np.sort(updates, axis=0).astype(np.float64)
    median = coordinate_median(updates).astype(np.float64)
    nearest = np.argsort(np.abs(ordered - median), axis=0, kind="stable")[:kept]
    values = np.take_along_axis(ordered, np.sort(nearest, axis=0), axis=0)
    return np.asarray(np.cumsum(values, axis=0)[-1] / kept, dtype=np.float32)
