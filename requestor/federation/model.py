"""The global model as the requestor sees it: named arrays, and which of them are merged how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provider_image.wire import UPDATED_PREFIXES

Tensors = Mapping[str, NDArray[Any]]
Float32 = NDArray[np.float32]

NORMALIZER_KINDS = ("observation", "return")


def averaged_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the arrays that are merged by an aggregation rule, sorted."""
    return tuple(sorted(name for name in names if name.startswith(UPDATED_PREFIXES)))


def flatten(tensors: Tensors, names: Iterable[str]) -> Float32:
    """Concatenate the named arrays, in the order given, into one vector `float32[P]`.

    Raises:
        KeyError: a name is missing.
        TypeError: an array is not float32.
    """
    parts = []
    for name in names:
        array = tensors[name]
        if array.dtype != np.float32:
            raise TypeError(f"{name} is {array.dtype}, but only float32 is merged")
        parts.append(array.reshape(-1))
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def unflatten(vector: Float32, like: Tensors, names: Iterable[str]) -> dict[str, Float32]:
    """Cut `vector` (`float32[P]`) into arrays named and shaped as in `like`; inverse of `flatten`.

    Raises:
        ValueError: the vector is not exactly as long as the arrays together.
    """
    names = tuple(names)
    taken = sum(like[name].size for name in names)
    if taken != vector.size:
        raise ValueError(f"the vector has {vector.size} numbers, the arrays take {taken}")
    result: dict[str, Float32] = {}
    start = 0
    for name in names:
        stop = start + like[name].size
        result[name] = vector[start:stop].reshape(like[name].shape)
        start = stop
    return result
