"""Merges the normaliser's running statistics: exactly among the trusted, robustly among others.

Each client sends mean, variance and count of the samples of its round alone; the counts were held
against what was assigned before. K clients of O numbers are `float64[K, O]`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from native_kernels.aggregation import merge_moments
from requestor.federation.merging.protocol import Float64, TooManyFaulty


@dataclass(frozen=True)
class Moments:
    """Mean, population variance (`float64[O]` each) and count of a set of samples."""

    mean: Float64
    variance: Float64
    count: float


def pooled(parts: list[Moments]) -> Moments:
    """Return the moments of all samples together, exactly, in order (Chan et al. 1979)."""
    means = np.stack([part.mean for part in parts])
    variances = np.stack([part.variance for part in parts])
    return Moments(*merge_moments(means, variances, np.array([part.count for part in parts])))


def robust(parts: list[Moments], faulty: int) -> Moments:
    """Return moments like those of all samples, of which `faulty` parts may be anything.

    Per number: m is the mean of the parts' means without the `faulty` smallest and largest, the
    variance is the same of var_k + (mean_k - m)^2. With nobody at fault and equal counts it is
    what `pooled` gives; otherwise it lies in the range of the honest parts. It leans to the small
    side, as squares are skewed, and never below zero. The count is the sum of those assigned.

    Raises:
        TooManyFaulty: there are fewer than 2 `faulty` + 1 parts.
    """
    if len(parts) < 2 * faulty + 1:
        raise TooManyFaulty(
            f"statistics bear {faulty} bad parts among {2 * faulty + 1} and more, "
            f"not among {len(parts)}"
        )
    means = np.stack([part.mean for part in parts])
    variances = np.stack([part.variance for part in parts])
    mean = _trimmed(means, faulty)
    variance = _trimmed(variances + (means - mean) ** 2, faulty)
    return Moments(mean, variance, float(sum(part.count for part in parts)))


def _trimmed(values: Float64, trim: int) -> Float64:
    """Return the mean of each column of `[K, O]` without its `trim` least and greatest."""
    kept = np.sort(values, axis=0)[trim : len(values) - trim]
    return np.asarray(np.cumsum(kept, axis=0)[-1] / len(kept))
