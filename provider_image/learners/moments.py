"""Exact running moments: mean, population variance and count of a stream, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from provider_image.learners.base import LearnerRefused
from provider_image.wire import Tensors


@dataclass(frozen=True)
class Moments:
    """`mean` and `variance` float64[...], `count` of samples."""

    mean: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]
    count: float


class RunningMoments:
    """Collects batches; the parallel-variance formula (Chan et al. 1979) joins them."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._mean = np.zeros(shape, np.float64)
        self._squares = np.zeros(shape, np.float64)
        self._count = 0

    def update(self, batch: npt.NDArray[Any]) -> None:
        """Take in `batch` [B, ...], B >= 1, of any numeric dtype."""
        samples = batch.astype(np.float64)
        mean = samples.mean(axis=0)
        squares = np.square(samples - mean).sum(axis=0)
        total = self._count + len(samples)
        delta = mean - self._mean
        self._mean = self._mean + delta * (len(samples) / total)
        self._squares = (
            self._squares + squares + np.square(delta) * (self._count * len(samples) / total)
        )
        self._count = total

    @property
    def squares(self) -> npt.NDArray[np.float64]:
        """The sum of squared deviations from the mean: what the next batch is joined to."""
        return np.array(self._squares)

    def go_on(self, mean: npt.NDArray[Any], squares: npt.NDArray[Any], count: int) -> None:
        """Be as if `count` samples had been taken in."""
        self._mean, self._squares, self._count = np.array(mean), np.array(squares), count

    def moments(self) -> Moments:
        """What was collected so far; zeros if nothing was."""
        return Moments(
            mean=np.array(self._mean),
            variance=np.array(self._squares / max(self._count, 1)),
            count=float(self._count),
        )


def moment_tensors(prefix: str, moments: Moments) -> Tensors:
    """`<prefix>/{mean,var,count}` float64."""
    values: dict[str, npt.NDArray[Any] | float] = {
        "mean": moments.mean,
        "var": moments.variance,
        "count": moments.count,
    }
    return {f"{prefix}/{name}": np.array(value, np.float64) for name, value in values.items()}


def received_statistics(prefix: str, tensors: Tensors) -> Moments:
    """What `moment_tensors` wrote, of a stranger perhaps; names and shapes were checked before."""
    variance, count = tensors[f"{prefix}/var"], float(tensors[f"{prefix}/count"])
    if (variance < 0).any() or count <= 0:
        raise LearnerRefused(f"{prefix}: variance must not be negative, count positive")
    mean = np.array(tensors[f"{prefix}/mean"], np.float64)
    return Moments(mean, np.array(variance, np.float64), count)
