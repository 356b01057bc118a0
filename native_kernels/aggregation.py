"""How updates of many clients become one, how far apart they are, how statistics are merged.

Arrays are [N, P]: N clients, P parameters. Results are the same bits on every machine and for any
number of threads. What is not a number is refused by the robust rules, never lost in a sort.
"""

import numpy as np
from numpy.typing import NDArray

from native_kernels import _native

__all__ = [
    "clip_norms",
    "coordinate_median",
    "geometric_median",
    "krum_scores",
    "merge_moments",
    "norms",
    "sample_moments",
    "squared_distances",
    "trimmed_mean",
    "weighted_mean",
]

MOST_THREADS = 1024


def _require_whole(name: str, value: object, least: int | None, most: int) -> None:
    """Raise a TypeError for what is no whole number, a ValueError for one out of range."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: must be a whole number, is {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{name}: must be at least {least}, is {value}")
    if value > most:
        raise ValueError(f"{name}: must be at most {most}, is {value}")


def weighted_mean(
    updates: NDArray[np.float32], weights: NDArray[np.float64], *, threads: int = 1
) -> NDArray[np.float32]:
    """Mean of the rows of ``updates`` weighted by ``weights``, summed in row order in float64.

    updates: float32[N, P], C order; entries that are not finite make their column not finite.
    weights: float64[N], finite, not negative, not all zero; only their ratios matter.
    threads: 1 to 1024, how many may be used. Returns float32[P].

    Raises TypeError for another dtype, ValueError for another shape or order or unfit weights;
    the message names the argument.
    """
    _require_whole("threads", threads, 1, MOST_THREADS)
    return _native.aggregation.weighted_mean(updates, weights, threads)


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
    return _native.moments.merge_moments(means, variances, counts)


def coordinate_median(updates: NDArray[np.float32], *, threads: int = 1) -> NDArray[np.float32]:
    """Median of each column; of an even number of rows, the mean of the two middle ones.

    updates: float32[N, P], C order, 1 <= N <= 4096, no NaN; infinities are ordered as usual.
    threads: 1 to 1024, how many may be used. Returns float32[P]; zeros come back positive.
    Less than half of the rows, whatever they hold, cannot move it out of the range of the others
    (Yin et al. 2018, arXiv 1803.01498).

    Raises TypeError for another dtype, ValueError for another shape or order or a NaN, whose place
    the message tells.
    """
    _require_whole("threads", threads, 1, MOST_THREADS)
    return _native.aggregation.coordinate_median(updates, threads)


def trimmed_mean(
    updates: NDArray[np.float32], trim: int, *, threads: int = 1
) -> NDArray[np.float32]:
    """Mean of each column without its ``trim`` smallest and ``trim`` largest entries.

    updates: float32[N, P], C order, 1 <= N <= 4096, no NaN; infinities are ordered as usual.
    trim: a number of rows, 0 <= 2 * trim < N. threads: 1 to 1024, how many may be used.
    Returns float32[P], zeros positive; summed in float32 in an order that depends on where the
    entries stand (error at most N * 6e-8 of the mean magnitude of what is kept). ``trim`` rows,
    whatever they hold, cannot move it out of the range of the others (Yin et al. 2018, arXiv
    1803.01498).

    Raises TypeError for another dtype, ValueError for another shape or order, an unfit ``trim`` or
    a NaN, whose place the message tells.
    """
    _require_whole("trim", trim, None, 2**62)
    _require_whole("threads", threads, 1, MOST_THREADS)
    return _native.aggregation.trimmed_mean(updates, trim, threads)


def squared_distances(updates: NDArray[np.float32], *, threads: int = 1) -> NDArray[np.float64]:
    """Squared Euclidean distances between all rows, from their differences, not from products.

    updates: float32[N, P], C order, 1 <= N <= 4096, finite. threads: 1 to 1024, how many may be
    used. Returns float64[N, N], symmetric, zero on the diagonal; relative error at most 5e-6
    (blocks of 1024 columns are summed in float32), however close two rows are beside their lengths.
    A difference above 1.8e19 makes its distance infinite, one below 1e-19 may count as nothing.

    Raises TypeError for another dtype, ValueError for another shape or order or an entry that is
    not finite, whose place the message tells.
    """
    _require_whole("threads", threads, 1, MOST_THREADS)
    return _native.aggregation.squared_distances(updates, threads)


def krum_scores(distances: NDArray[np.float64], faulty: int) -> NDArray[np.float64]:
    """Krum's score of each client: the sum of its N - f - 2 smallest squared distances to others.

    distances: float64[N, N], squared, as ``squared_distances`` gives them; infinity is allowed.
    faulty: f, at least 0, with 2 f + 2 < N. Returns float64[N], added from the smallest up; the
    least is Krum's choice (Blanchard et al. 2017, arXiv 1703.02757).

    Raises TypeError for another dtype, ValueError for another shape, NaN or an unfit ``faulty``.
    """
    if getattr(distances, "dtype", None) != np.float64:
        what = getattr(distances, "dtype", type(distances).__name__)
        raise TypeError(f"distances: must be float64[N, N], is {what}")
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1]:
        raise ValueError(f"distances: must be float64[N, N], has shape {list(distances.shape)}")
    if np.isnan(distances).any():
        raise ValueError("distances: must not hold NaN")
    _require_whole("faulty", faulty, 0, 2**31)
    clients = len(distances)
    if not 2 * faulty < clients - 2:
        raise ValueError(
            f"faulty: must be at least 0 and less than (N - 2) / 2 = {(clients - 2) / 2:g}, "
            f"is {faulty}"
        )
    others = distances[~np.eye(clients, dtype=bool)].reshape(clients, clients - 1)
    nearest = np.sort(others, axis=1)[:, : clients - faulty - 2]
    return np.asarray(np.cumsum(nearest, axis=1)[:, -1])


def norms(updates: NDArray[np.float32], *, threads: int = 1) -> NDArray[np.float64]:
    """Euclidean norms of the rows, summed in float64.

    updates: float32[N, P], C order, finite. threads: 1 to 1024, how many may be used.
    Returns float64[N].

    Raises TypeError for another dtype, ValueError for another shape or order or an entry that is
    not finite, whose place the message tells.
    """
    _require_whole("threads", threads, 1, MOST_THREADS)
    return _native.aggregation.norms(updates, threads)


def clip_norms(
    updates: NDArray[np.float32], limit: float, *, threads: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Shorten each row that is longer than ``limit`` to it: row * min(1, limit / norm).

    updates: float32[N, P], C order, finite. limit: finite, above zero. threads: 1 to 1024, how many
    may be used. Returns (clipped float32[N, P], the norms before float64[N]); rows within the
    limit come back bit for bit, others are at most 6e-8 of ``limit`` off it.

    Raises TypeError for another dtype, ValueError for another shape or order, an unfit ``limit`` or
    an entry that is not finite, whose place the message tells.
    """
    _require_whole("threads", threads, 1, MOST_THREADS)
    return _native.aggregation.clip_norms(updates, limit, threads)


def geometric_median(
    updates: NDArray[np.float32],
    weights: NDArray[np.float64],
    *,
    iterations: int = 16,
    smoothing: float | None = None,
    start: NDArray[np.float32] | None = None,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Smoothed Weiszfeld iterations towards the point with the least weighted sum of distances.

    Each one moves z to the mean of the rows weighted by weights / max(|row - z|, smoothing), in
    float64 (RFA, Pillutla et al. 2019, arXiv 1912.13445).

    updates: float32[N, P], C order, 1 <= N <= 4096, finite. weights: float64[N], finite, not
    negative, not all zero; only their ratios matter. iterations: at least 1. smoothing: a length
    above zero; None takes 1e-6 of the median of the distances from the start, so that scaling the
    updates scales the result. start: float32[P], finite; None takes the coordinate median.
    threads: 1 to 1024, how many may be used. Returns float32[P]. Rows with less than half of the
    weight, whatever they hold, cannot draw the minimum arbitrarily far; a few iterations from the
    coordinate median are near it.

    Raises TypeError for another dtype, ValueError for another shape or order, unfit settings or an
    entry that is not finite; the message names the argument.
    """
    _require_whole("iterations", iterations, 1, 2**31 - 1)
    _require_whole("threads", threads, 1, MOST_THREADS)
    if smoothing is not None and not smoothing > 0.0:
        raise ValueError(f"smoothing: must be None or a length above zero, is {smoothing}")
    origin = coordinate_median(updates, threads=threads) if start is None else start
    return _native.aggregation.geometric_median(
        updates, weights, origin, iterations, smoothing or 0.0, threads
    )


def sample_moments(
    samples: NDArray[np.float32] | NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Mean, population variance and count of the rows, in float64, rows in order, means first.

    samples: float32[K, O] or float64[K, O], C order, K at least 1, finite.
    Returns (float64[O], float64[O], float), fit for ``merge_moments``: a running mean and variance
    is one merge for each batch.

    Raises TypeError for another dtype, ValueError for another shape or order, for entries that are
    not finite or moments beyond float64; the message names the argument.
    """
    return _native.moments.sample_moments(samples)
