"""How client updates are merged, in NumPy."""

import numpy as np
from numpy.typing import NDArray

from native_kernels.reference.distances import distances_from


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


def geometric_median(
    updates: NDArray[np.float32],
    weights: NDArray[np.float64],
    *,
    iterations: int = 16,
    smoothing: float | None = None,
    start: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """updates: float32[N, P], finite, weights: float64[N]; returns float32[P]."""
    shares = weights / np.cumsum(weights)[-1]
    origin = coordinate_median(updates) if start is None else start
    centre = origin.astype(np.float64)
    distances = distances_from(updates, centre)
    if smoothing is None:
        smoothing = max(1e-6 * float(np.sort(distances)[(len(distances) - 1) // 2]), 1e-30)
    for _ in range(iterations):
        pulls = shares / np.maximum(distances, smoothing)
        pulls /= np.cumsum(pulls)[-1]
        centre = np.zeros_like(centre)
        for update, pull in zip(updates, pulls, strict=True):
            centre += pull * update.astype(np.float64)
        distances = distances_from(updates, centre)
    return centre.astype(np.float32)
