"""What each kernel computes, in NumPy: the definition that every backend has to meet.

No argument checks; those are the bindings' part. ``catalogue.py`` says how closely each is met.
"""

from native_kernels.reference.advantages import discounted_returns, generalized_advantages
from native_kernels.reference.aggregation import (
    coordinate_median,
    geometric_median,
    trimmed_mean,
    weighted_mean,
)
from native_kernels.reference.distances import clip_norms, norms, squared_distances
from native_kernels.reference.moments import merge_moments, sample_moments

__all__ = [
    "clip_norms",
    "coordinate_median",
    "discounted_returns",
    "generalized_advantages",
    "geometric_median",
    "merge_moments",
    "norms",
    "sample_moments",
    "squared_distances",
    "trimmed_mean",
    "weighted_mean",
]
