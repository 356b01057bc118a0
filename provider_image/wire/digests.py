"""Digests of tensors: what a result is compared by, and the links of a hash chain."""

from __future__ import annotations

import hashlib
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
        shape = "x".join(map(str, array.shape))
        digest.update(f"\x1f{name}\x1f{array.dtype.name}\x1f{shape}\x1f".encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), order="C", copy=False).tobytes())
    return digest.hexdigest()
