"""How client updates and statistics are merged, in NumPy."""

import numpy as np
from numpy.typing import NDArray


def weighted_mean(
    updates: NDArray[np.float32], weights: NDArray[np.float64]
) -> NDArray[np.float32]:
    """updates: float32[N, P], weights: float64[N]; returns float32[P]."""
    total = 0.0
    for weight in weights:
        total += float(weight)
    mean = np.zeros(updates.shape[1], dtype=np.float64)
    for update, weight in zip(updates, weights, strict=True):
        mean += (weight / total) * update.astype(np.float64)
    return mean.astype(np.float32)


def merge_moments(
    means: NDArray[np.float64], variances: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """means, variances: float64[K, O], counts: float64[K]; returns as ``merge_moments`` says."""
    mean = np.zeros(means.shape[1], dtype=np.float64)
    variance = np.zeros(means.shape[1], dtype=np.float64)
    count = 0.0
    for set_mean, set_variance, set_count in zip(means, variances, counts, strict=True):
        if set_count == 0.0:
            continue
        if count == 0.0:
            mean, variance, count = set_mean.copy(), set_variance.copy(), float(set_count)
            continue
        total = count + float(set_count)
        delta = set_mean - mean
        squares = variance * count + set_variance * set_count
        squares += delta * delta * count * set_count / total
        mean = mean + delta * set_count / total
        variance = squares / total
        count = total
    return mean, variance, count


def coordinate_median(updates: NDArray[np.float32]) -> NDArray[np.float32]:
    """updates: float32[N, P], no NaN; returns float32[P]."""
    return trimmed_mean(updates, (len(updates) - 1) // 2)


def trimmed_mean(updates: NDArray[np.float32], trim: int) -> NDArray[np.float32]:
    """updates: float32[N, P], no NaN; returns float32[P], zeros positive."""
    kept = np.sort(updates, axis=0)[trim : len(updates) - trim]
    total = np.zeros(updates.shape[1], dtype=np.float32)
    for row in kept:
        total += row
    return total / np.float32(len(kept))
