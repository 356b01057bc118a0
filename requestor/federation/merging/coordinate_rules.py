"""Rules that look at each coordinate by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from native_kernels.aggregation import coordinate_median, trimmed_mean, weighted_mean
from requestor.federation.merging.protocol import (
    Float32,
    Float64,
    MergeContext,
    Merged,
    TooManyFaulty,
    require_bearable,
)


@dataclass(frozen=True)
class WeightedMean:
    """sum(p_i x_i) / sum(p_i): federated averaging (McMahan et al. 2017, arXiv 1602.05629).

    Summed in float64 in client order. One bad update moves it anywhere: it bears none.
    """

    def least_updates(self, faulty: int) -> int:
        """Return 1; TooManyFaulty if any is bad."""
        if faulty > 0:
            raise TooManyFaulty(f"the weighted mean bears no bad updates, let alone {faulty}")
        return 1

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Merged:
        """Return the weighted mean of `updates` (`float32[N, P]`)."""
        require_bearable(self, len(updates), context.faulty)
        mean = weighted_mean(np.ascontiguousarray(updates), weights)
        return Merged(mean, weights / weights.sum())


@dataclass(frozen=True)
class CoordinateMedian:
    """Median of each coordinate, of an even number the mean of the two middle ones.

    Yin et al. 2018, arXiv 1803.01498. Weights are not used. f < N / 2.
    """

    def least_updates(self, faulty: int) -> int:
        """Return 2 f + 1."""
        return 2 * faulty + 1

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Merged:
        """Return the median of `updates` (`float32[N, P]`); it lies in the honest rows' range."""
        require_bearable(self, len(updates), context.faulty)
        return Merged(coordinate_median(np.ascontiguousarray(updates)))


@dataclass(frozen=True)
class TrimmedMean:
    """Mean of each coordinate without its f smallest and f largest values.

    Yin et al. 2018, arXiv 1803.01498, with a number where the paper has a share. Weights are not
    used. f < N / 2.
    """

    def least_updates(self, faulty: int) -> int:
        """Return 2 f + 1."""
        return 2 * faulty + 1

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Merged:
        """Return the mean of what is kept of `updates`; it lies in the honest rows' range."""
        require_bearable(self, len(updates), context.faulty)
        return Merged(trimmed_mean(np.ascontiguousarray(updates), context.faulty))
