"""How updates of many clients become one, and how statistics are merged.

Arrays are [N, P]: N clients, P parameters. Results are the same bits on every machine and for any
number of threads. What is not a number is refused by the robust rules, never lost in a sort.
"""

import numpy as np
from numpy.typing import NDArray

from native_kernels import _native

__all__ = ["coordinate_median", "merge_moments", "trimmed_mean", "weighted_mean"]


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


def coordinate_median(updates: NDArray[np.float32], *, threads: int = 1) -> NDArray[np.float32]:
    """Median of each column; of an even number of rows, the mean of the two middle ones.

    updates: float32[N, P], C order, 1 <= N <= 4096, no NaN; infinities are ordered as usual.
    threads: at least 1, how many may be used. Returns float32[P]; zeros come back positive.
    Less than half of the rows, whatever they hold, cannot move it out of the range of the others
    (Yin et al. 2018, arXiv 1803.01498).

    Raises TypeError for another dtype, ValueError for another shape or order or a NaN, whose place
    the message tells.
    """
    return _native.aggregation.coordinate_median(updates, threads)


def trimmed_mean(
    updates: NDArray[np.float32], trim: int, *, threads: int = 1
) -> NDArray[np.float32]:
    """Mean of each column without its ``trim`` smallest and ``trim`` largest entries.

    updates: float32[N, P], C order, 1 <= N <= 4096, no NaN; infinities are ordered as usual.
    trim: a number of rows, 0 <= 2 * trim < N. threads: at least 1, how many may be used.
    Returns float32[P], zeros positive; summed in float32 in an order that depends on where the
    entries stand (error at most N * 6e-8 of the mean magnitude of what is kept). ``trim`` rows, whatever they hold, cannot move it out of the range of the others (Yin et
    al. 2018, arXiv 1803.01498).

    Raises TypeError for another dtype, ValueError for another shape or order, an unfit ``trim`` or
    a NaN, whose place the message tells.
    """
    return _native.aggregation.trimmed_mean(updates, trim, threads)
