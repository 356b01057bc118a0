"""What each kernel computes, in NumPy: the definition that every backend has to meet.

No argument checks; those are the bindings' part. ``catalogue.py`` says how closely each is met.
"""

from native_kernels.reference.advantages import discounted_returns, generalized_advantages
from native_kernels.reference.aggregation import (
    coordinate_median,
    merge_moments,
    trimmed_mean,
    weighted_mean,
)

__all__ = [
    "coordinate_median",
    "discounted_returns",
    "generalized_advantages",
    "merge_moments",
    "trimmed_mean",
    "weighted_mean",
]
