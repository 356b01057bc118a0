"""Array mathematics in C++, for the places where NumPy is slow or rounds as it likes.

Functions over plain arrays; nothing here knows of clients, rounds or files. Each one is defined in
NumPy in :mod:`native_kernels.reference` and gives the same bits on every machine. The mathematics
of one column stands in ``include/derl``. Read ``README.md`` next, then
``include/derl/weighted_mean.hpp``.
"""

import numpy as np
from numpy.typing import NDArray

try:
    from native_kernels import _native
except ImportError as error:
    if "DERL_CPU_LEVEL" in str(error) or "x86-64-v2" in str(error):
        raise
    raise ImportError(
        "native_kernels._native is not built for this Python; "
        "fix: ./scripts/setup (or pip install -e .) in the repository"
    ) from error

__all__ = ["merge_moments", "weighted_mean"]


def weighted_mean(
    updates: NDArray[np.float32], weights: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Mean of the rows of ``updates`` weighted by ``weights``, summed in row order in float64.

    updates: float32[N, P], C order; entries that are not finite make their column not finite.
    weights: float64[N], finite, not negative, not all zero; only their ratios matter.
    Returns float32[P].

    Raises TypeError for another dtype, ValueError for another shape or order or unfit weights;
    the message names the argument.
    """
    return _native.aggregation.weighted_mean(updates, weights)


def merge_moments(
    means: NDArray[np.float64], variances: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Mean, population variance and count of K sets of samples put together (Chan et al. 1979).

    means: float64[K, O] and variances: float64[K, O], finite, variances not negative.
    counts: float64[K], finite, not negative, not all zero; a set with count 0 adds nothing.
    Returns (float64[O], float64[O], float), the same bits as merging the sets one after the other
    with Stable-Baselines3's ``RunningMeanStd.update_from_moments``.

    Raises TypeError for another dtype, ValueError for another shape or order or unfit values;
    the message names the argument.
    """
    return _native.aggregation.merge_moments(means, variances, counts)
