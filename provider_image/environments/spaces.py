"""What a learner must know of a space, as plain data, and the error where none can be had.

Gymnasium is imported where spaces are read (`construction.py`), not here: a learner that knows an
environment's spaces by heart starts without it.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt


class EnvironmentRefused(ValueError):
    """An environment or wrapper cannot be had; the message names it, near names and the fix."""


class Space(NamedTuple):
    """A Gymnasium space. `text` is its `repr`.

    Box: `shape`, `dtype` (NumPy's name), `low` and `high` (flat). Discrete: `n`, `start`.
    """

    kind: Literal["box", "discrete", "other"]
    text: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    n: int = 0
    start: int = 0

    @property
    def size(self) -> int:
        """Numbers in one element of a Box."""
        return int(np.prod(self.shape, dtype=np.int64))

    def bounds(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """A Box's bounds, in its own shape and dtype."""
        low, high = (np.array(value, np.float64) for value in (self.low, self.high))
        return (
            low.astype(self.dtype).reshape(self.shape),
            high.astype(self.dtype).reshape(self.shape),
        )


class Spaces(NamedTuple):
    """What an environment shows, and what it takes."""

    observation: Space
    action: Space
