"""Means and variances, in NumPy."""

import numpy as np
from numpy.typing import NDArray


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


def sample_moments(
    samples: NDArray[np.float32] | NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """samples: float32[K, O] or float64[K, O], finite; returns as ``sample_moments`` says."""
    mean = np.zeros(samples.shape[1], dtype=np.float64)
    variance = np.zeros(samples.shape[1], dtype=np.float64)
    for sample in samples:
        mean += sample
    mean /= len(samples)
    for sample in samples:
        variance += np.square(sample.astype(np.float64) - mean)
    return mean, variance / len(samples), float(len(samples))
