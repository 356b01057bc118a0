"""Rules that look for a point in the middle, and weigh updates by how far they are from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from native_kernels.aggregation import (
    clip_norms,
    coordinate_median,
    geometric_median,
    norms,
    squared_distances,
    weighted_mean,
)
from requestor.federation.merging.protocol import (
    Float32,
    Float64,
    MergeContext,
    Merged,
    TooManyFaulty,
    require_bearable,
)
from requestor.federation.merging.selection_rules import mean_of

SMOOTHING_SHARE = 1e-6
"""RFA's nu, in parts of the median distance, where none is given."""


@dataclass(frozen=True)
class GeometricMedian:
    """The point with the least weighted sum of distances, by smoothed Weiszfeld iterations (RFA).

    z <- sum(w_i x_i) / sum(w_i), w_i = p_i / max(|x_i - z|, nu), in float64, from the coordinate
    median. Pillutla et al. 2019, arXiv 1912.13445; theirs starts at the mean with an absolute nu,
    this nu is 1e-6 of the median distance unless given, so that it scales with the updates.
    f < N / 2; with unequal weights the bad ones must have less than half of the weight.
    """

    iterations: int = 32
    smoothing: float | None = None

    def least_updates(self, faulty: int) -> int:
        """Return 2 f + 1."""
        return 2 * faulty + 1

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Merged:
        """Return a point near the geometric median of `updates` (`float32[N, P]`)."""
        require_bearable(self, len(updates), context.faulty)
        rows = np.ascontiguousarray(updates)
        centre = geometric_median(
            rows, weights, iterations=self.iterations, smoothing=self.smoothing
        )
        distances = norms(rows - centre)
        floor = self.smoothing or SMOOTHING_SHARE * float(np.median(distances))
        pulls = weights / np.maximum(distances, floor) if floor > 0 else weights * (distances == 0)
        pulls = pulls if pulls.sum() > 0 else weights
        return Merged(centre, pulls / pulls.sum())


@dataclass(frozen=True)
class CenteredClipping:
    """v <- v + mean of (x_i - v) min(1, r / |x_i - v|), `iterations` times.

    Karimireddy et al. 2021, arXiv 2012.10333. v starts at the last round's result, in the first
    round at the coordinate median (theirs: at zero). r is `radius`, or None for the median of the
    distances to v, anew each time. The mean is weighted by the steps that we assigned.

    With f < N / 2 each iteration moves v by at most r f / N too far; the paper's guarantee asks
    for f / N below about 0.1 and momentum at the clients, and arXiv 2208.09894 breaks it without.
    """

    radius: float | None = None
    iterations: int = 3

    def least_updates(self, faulty: int) -> int:
        """Return 2 f + 1."""
        return 2 * faulty + 1

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Merged:
        """Return v; `context.state` and the result's hold it as `centre`, `float32[P]`."""
        require_bearable(self, len(updates), context.faulty)
        rows = np.ascontiguousarray(updates)
        start = context.state.get("centre")
        centre = coordinate_median(rows) if start is None else start.astype(np.float32)
        shares = np.zeros(len(rows))
        for _ in range(self.iterations):
            offsets = rows - centre
            distances = norms(offsets)
            radius = float(np.median(distances)) if self.radius is None else self.radius
            if radius == 0:
                shares = weights * (distances == 0)
                break
            offsets, _ = clip_norms(offsets, radius)
            shares = weights * np.minimum(1.0, radius / np.maximum(distances, radius))
            centre = centre + weighted_mean(offsets, weights)
        return Merged(centre, shares / weights.sum(), {"centre": centre})


@dataclass(frozen=True)
class FedPgFilter:
    """The mean of what lies around the centre of the majority: the filter of FedPG-BR.

    Fan et al. 2021, arXiv 2110.14074, rules R1 and R2. A candidate has more than N / 2 updates,
    itself included, within the radius; the centre is the candidate nearest the candidates' mean;
    what is within the radius of it is kept. If fewer than (1 - alpha) N are, the same is done with
    the wider radius; if there is no candidate even then, nothing is kept and the result is zero.

    Radii as published: 2 sigma sqrt(2 ln(2 N / delta) / episodes), and 2 sigma; sigma bounds how
    far a gradient of one episode is from the true one, and `episodes` is how many an update is the
    mean of. With sigma None the radius follows the cohort: `slack` times the (lower) median over
    the updates of the radius at which each would be a candidate, and twice that. It is then at
    most `slack` times the honest diameter, and scales with the updates.

    alpha: the share that may be bad; None for f / N. f < N / 2.
    """

    sigma: float | None = None
    episodes: float | None = None
    delta: float = 0.6
    alpha: float | None = None
    slack: float = 1.5

    def least_updates(self, faulty: int) -> int:
        """Return 2 f + 1, or more where `alpha` asks for it."""
        if self.alpha is None or faulty == 0:
            return 2 * faulty + 1
        if self.alpha <= 0:
            raise TooManyFaulty("with alpha 0 the filter bears no bad updates")
        return max(2 * faulty + 1, math.ceil(faulty / self.alpha - 1e-9))

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Merged:
        """Return the mean of the rows of `updates` that are kept, or zeros."""
        require_bearable(self, len(updates), context.faulty)
        rows = np.ascontiguousarray(updates)
        distances = np.sqrt(squared_distances(rows))
        alpha = context.faulty / len(rows) if self.alpha is None else self.alpha
        enough = (1 - alpha) * len(rows) - 1e-9
        kept = np.zeros(0, dtype=np.int64)
        for radius in self.radii(distances):
            kept = _around_the_majority(rows, distances, radius)
            if len(kept) >= enough:
                break
        if len(kept) == 0:
            return Merged(np.zeros(rows.shape[1], dtype=np.float32), np.zeros(len(rows)))
        return mean_of(updates, weights, kept)

    def radii(self, distances: Float64) -> tuple[float, float]:
        """Return the radius of R1 and that of R2 for updates with these distances, `[N, N]`."""
        count = len(distances)
        if self.sigma is None:
            majority = np.sort(distances, axis=1)[:, count // 2]
            radius = self.slack * float(np.sort(majority)[(count - 1) // 2])
            return radius, 2 * radius
        spread = 2 * math.log(2 * count / self.delta)
        return 2 * self.sigma * math.sqrt(spread / (self.episodes or 1.0)), 2 * self.sigma


def _around_the_majority(rows: Float32, distances: Float64, radius: float) -> np.ndarray:
    within = distances <= radius
    candidates = np.flatnonzero(2 * within.sum(axis=1) > len(rows))
    if len(candidates) == 0:
        return candidates
    mean = weighted_mean(rows[candidates], np.ones(len(candidates)))
    centre = candidates[int(np.argmin(norms(rows[candidates] - mean)))]
    return np.flatnonzero(within[centre])
