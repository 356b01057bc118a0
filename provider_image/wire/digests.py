"""Digests of tensors: what a result is compared by, and the links of a hash chain."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def tensors_digest(tensors: Mapping[str, NDArray[Any]], previous: str = "") -> str:
    """SHA-256 (hex) over `previous`, then name, dtype, shape and little-endian bytes of each.

    Of the tensors in the order of their names, each in C order. Equal digests mean equal bits:
    0.0 and -0.0 differ.
    """
    digest = hashlib.sha256(previous.encode())
    for name in sorted(tensors):
        array = np.asarray(tensors[name])
        digest.update(_head(name, array.dtype, array.shape))
        digest.update(_little_endian(array).reshape(-1).data)
    return digest.hexdigest()


def work_digest(
    update: Mapping[str, NDArray[Any]], state: Mapping[str, NDArray[Any]] | None
) -> str:
    """Digest of all that an item's work leaves: the decoded update, and the client's state if any.

    Both go on into later rounds, so whoever answers for the one answers for the other.
    """
    digest = tensors_digest(update)
    return digest if state is None else tensors_digest(state, digest)


# a learner takes digests of the same few names again and again
@functools.lru_cache(maxsize=4096)
def _head(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    return f"\x1f{name}\x1f{dtype.name}\x1f{'x'.join(map(str, shape))}\x1f".encode()


def _little_endian(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.byteorder == ">" or sys.byteorder == "big":
        array = array.astype(array.dtype.newbyteorder("<"))
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)
