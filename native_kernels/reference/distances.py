"""Distances and norms of updates, in NumPy."""

import numpy as np
from numpy.typing import NDArray

LANES = 16
BLOCK = 1024


def squared_distances(updates: NDArray[np.float32]) -> NDArray[np.float64]:
    """updates: float32[N, P], finite; returns float64[N, N]."""
    rows = updates.astype(np.float64)
    return np.array([[np.square(row - other).sum() for other in rows] for row in rows])


def norms(updates: NDArray[np.float32]) -> NDArray[np.float64]:
    """updates: float32[N, P], finite; returns float64[N]."""
    return distances_from(updates, np.zeros(updates.shape[1], dtype=np.float64))


def distances_from(
    updates: NDArray[np.float32], centre: NDArray[np.float64]
) -> NDArray[np.float64]:
    """updates: float32[N, P], centre: float64[P]; returns float64[N]."""
    squares = np.square(updates.astype(np.float64) - centre)
    total = np.zeros(len(updates), dtype=np.float64)
    for begin in range(0, updates.shape[1], BLOCK):
        total += _sum_of_block(squares[:, begin : begin + BLOCK])
    return np.sqrt(total)


def _sum_of_block(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lane l of sixteen adds columns l, l + 16, ...; then halves are added until one is left."""
    lanes = np.zeros((len(squares), LANES), dtype=np.float64)
    for begin in range(0, squares.shape[1], LANES):
        columns = squares[:, begin : begin + LANES]
        lanes[:, : columns.shape[1]] += columns
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]


def clip_norms(
    updates: NDArray[np.float32], limit: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """updates: float32[N, P], finite; returns (float32[N, P], float64[N])."""
    lengths = norms(updates)
    scales = np.divide(limit, lengths, out=np.ones_like(lengths), where=lengths > limit)
    return (updates.astype(np.float64) * scales[:, None]).astype(np.float32), lengths
