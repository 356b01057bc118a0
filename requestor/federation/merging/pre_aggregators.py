"""What may be done to updates before a rule merges them; several one after the other, in order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from native_kernels.aggregation import clip_norms, norms, squared_distances, weighted_mean
from requestor.federation.merging.protocol import (
    Float32,
    Float64,
    MergeContext,
    Merged,
    Mixture,
    require_bearable,
)
from requestor.federation.seeds import derive_seed


@dataclass(frozen=True)
class NearestNeighbourMixing:
    """Each update becomes the mean of its N - f nearest, itself included (NNM).

    Allouah et al. 2023, arXiv 2302.01772: it makes trimmed mean, median, geometric median and Krum
    order-optimal where clients differ. Of equally near ones the lower client. f < N / 2.
    """

    def least_updates(self, faulty: int) -> int:
        """Return 2 f + 1."""
        return 2 * faulty + 1

    def remaining(self, updates: int) -> int:
        """Return as many."""
        return updates

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Mixture:
        """Return the mixed rows of `updates`, in place of their own; weights are not used."""
        require_bearable(self, len(updates), context.faulty)
        count = len(updates)
        distances = squared_distances(np.ascontiguousarray(updates))
        np.fill_diagonal(distances, -1.0)  # itself first, also among equals
        nearest = np.argsort(distances, axis=1, kind="stable")[:, : count - context.faulty]
        mixing = np.zeros((count, count))
        np.put_along_axis(mixing, nearest, 1 / nearest.shape[1], axis=1)
        return Mixture(mixed(updates, mixing), weights, mixing)


@dataclass(frozen=True)
class Bucketing:
    """Random buckets of `size` updates each become their mean.

    Karimireddy et al. 2022, arXiv 2006.09365. The last bucket may be smaller. A bad update spoils
    its bucket: f stays while N is divided, so size <= N / (2 f) at least. The buckets follow from
    the context's seed.
    """

    size: int = 2

    def least_updates(self, faulty: int) -> int:
        """Return 1: it is for the rule behind it to have buckets enough."""
        return 1

    def remaining(self, updates: int) -> int:
        """Return the number of buckets."""
        return math.ceil(updates / self.size)

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Mixture:
        """Return the weighted means of the buckets, and their sums of weights."""
        keys = [derive_seed(context.seed, "bucket", row) for row in range(len(updates))]
        order = np.argsort(keys, kind="stable")
        mixing = np.zeros((self.remaining(len(updates)), len(updates)))
        for place, row in enumerate(order):
            mixing[place // self.size, row] = weights[row]
        totals = mixing.sum(axis=1)
        mixing[totals == 0] = 1.0
        mixing /= mixing.sum(axis=1, keepdims=True)
        return Mixture(mixed(updates, mixing), totals, mixing)


@dataclass(frozen=True)
class NormClipping:
    """Updates longer than `limit` are shortened to it: x min(1, limit / |x|).

    With `limit` None to the median of the norms, so that it scales with the updates. It bounds
    what a bad update does to a mean, at f limit / N, and does not keep it out: alone it is no
    defence against sign flips. f < N / 2.
    """

    limit: float | None = None

    def least_updates(self, faulty: int) -> int:
        """Return 2 f + 1."""
        return 2 * faulty + 1

    def remaining(self, updates: int) -> int:
        """Return as many."""
        return updates

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Mixture:
        """Return the rows of `updates`, those too long shortened."""
        require_bearable(self, len(updates), context.faulty)
        lengths = norms(np.ascontiguousarray(updates))
        limit = float(np.median(lengths)) if self.limit is None else self.limit
        return _clipped(updates, weights, lengths, limit)


@dataclass(frozen=True)
class AdaptiveRobustClipping:
    """The int(2 f (N - f) / N) longest updates are shortened to the longest of the others (ARC).

    Allouah et al. 2024, arXiv 2405.14432. It keeps the guarantee of the rule behind it. f < N / 2.
    """

    def least_updates(self, faulty: int) -> int:
        """Return 2 f + 1."""
        return 2 * faulty + 1

    def remaining(self, updates: int) -> int:
        """Return as many."""
        return updates

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Mixture:
        """Return the rows of `updates`, the longest shortened."""
        count, faulty = len(updates), context.faulty
        require_bearable(self, count, faulty)
        lengths = norms(np.ascontiguousarray(updates))
        shortened = 2 * faulty * (count - faulty) // count
        limit = float(np.sort(lengths)[count - shortened - 1])
        return _clipped(updates, weights, lengths, limit)


@dataclass(frozen=True)
class ClippedMean:
    """The weighted mean after `NormClipping`; see there for what it does not do."""

    limit: float | None = None

    def least_updates(self, faulty: int) -> int:
        """Return 2 f + 1."""
        return 2 * faulty + 1

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Merged:
        """Return the weighted mean of the shortened rows of `updates`."""
        mixture = NormClipping(self.limit)(updates, weights, context)
        mean = weighted_mean(np.ascontiguousarray(mixture.updates), weights)
        return Merged(mean, (weights / weights.sum()) @ mixture.mixing)


def mixed(updates: Float32, mixing: Float64) -> Float32:
    """Return `mixing` times `updates`; rows of `mixing` (`float64[M, N]`) add to 1."""
    rows = np.ascontiguousarray(updates)
    return np.stack([weighted_mean(rows, shares) for shares in np.ascontiguousarray(mixing)])


def _clipped(updates: Float32, weights: Float64, lengths: Float64, limit: float) -> Mixture:
    scales = np.ones(len(lengths))
    is_long = lengths > limit
    scales[is_long] = limit / lengths[is_long]
    if limit > 0:
        shortened, _ = clip_norms(np.ascontiguousarray(updates), limit)
    else:
        shortened = np.where(is_long[:, np.newaxis], np.float32(0), updates)
    return Mixture(shortened, weights, np.diag(scales))
