"""Updates as few bytes: half precision, small integers with a scale, or the largest elements alone.

A payload is a pure function of update, codec and seed, the same bytes on every machine and at every
processor level. What it must look like stands in ``provider_image/wire/FORMAT.md``, the same in
NumPy in :mod:`native_kernels.reference.codecs`. Payloads are not compressed further here.

``decode`` may be given bytes that anyone has written: it takes memory for the expected elements
alone and refuses whatever ``encode`` could not have written, in words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from native_kernels import _native

__all__ = [
    "BLOCK",
    "LARGEST",
    "MAX_ELEMENTS",
    "Codec",
    "CodecError",
    "CodecName",
    "Encoded",
    "decode",
    "encode",
    "encode_with_feedback",
    "from_halves",
    "payload_sizes",
    "to_halves",
]

CodecName: TypeAlias = Literal["fp16", "int8", "int4", "topk"]
Rounding: TypeAlias = Literal["stochastic", "nearest"]

BLOCK = 256
"""Consecutive elements that share one scale in int8 and int4."""

LARGEST = 1e30
"""The greatest size of an element that can be encoded."""

MAX_ELEMENTS = 1 << 30

_KINDS: dict[str, int] = {name: number for number, name in enumerate(get_args(CodecName), start=1)}


class CodecError(ValueError):
    """A payload that no update has; the message says what is wrong with it."""


@dataclass(frozen=True)
class Codec:
    """How an update is written.

    ``fp16``: IEEE half precision, to nearest even; beyond ±65504 it saturates.
    ``int8``, ``int4``: whole numbers within ±127 or ±7, times one scale for each block of 256
    elements: its greatest size / 127 or 7, as a float32 of 8 significant bits, rounded up.
    ``rounding`` is ``stochastic`` (right on average; Philox stream of purpose 4 keyed by the seed)
    or ``nearest`` (ties to even; the smaller payload, and the one to use with error feedback).
    ``topk``: the ``fraction`` of elements that are largest in size, in half precision; all others
    become 0. Of equal elements the first are kept.

    Raises ValueError for an unknown name or rounding, or a fraction that is not above 0 and at most
    1, or that is given to a codec that keeps all elements.
    """

    name: CodecName
    fraction: float | None = None
    rounding: Rounding = "stochastic"

    def __post_init__(self) -> None:
        if self.name not in _KINDS:
            raise ValueError(f"name: must be one of {', '.join(_KINDS)}, is {self.name!r}")
        if self.rounding not in get_args(Rounding):
            raise ValueError(f"rounding: must be stochastic or nearest, is {self.rounding!r}")
        if (self.fraction is not None) != (self.name == "topk"):
            raise ValueError(
                f"fraction: must be given for topk and for no other codec, is {self.fraction} "
                f"for {self.name}"
            )
        if self.fraction is not None and not 0.0 < self.fraction <= 1.0:
            raise ValueError(f"fraction: must be above 0 and at most 1, is {self.fraction}")

    @property
    def kind(self) -> int:
        """The number that stands for the codec in bytes."""
        return _KINDS[self.name]

    def kept(self, count: int) -> int:
        """How many of ``count`` elements topk keeps, rounded up; 0 for codecs that keep all."""
        return 0 if self.fraction is None else min(count, math.ceil(self.fraction * count))


@dataclass(frozen=True)
class Encoded:
    """A payload, the float32[P] that it decodes to, and the float32[P] that it leaves out."""

    payload: bytes
    decoded: NDArray[np.float32]
    residual: NDArray[np.float32]


def encode(update: NDArray[np.float32], codec: Codec, *, seed: int = 0) -> bytes:
    """The payload of ``update``.

    update: float32[P], C order, P at most 2^30, every entry finite and within ±1e30.
    seed: 0 to 2^64 - 1; chooses the random numbers of stochastic rounding.

    Raises TypeError for another dtype, ValueError for another shape or order or unfit entries;
    the message names the argument.
    """
    count = int(np.size(update))
    return _native.codecs.encode(
        update, codec.kind, codec.kept(count), codec.rounding == "stochastic", seed
    )


def decode(payload: bytes, codec: Codec, count: int) -> NDArray[np.float32]:
    """The update float32[count] that ``payload`` stands for.

    Raises CodecError for a payload that ``encode`` could not have written for ``count`` elements:
    another length, scales that are negative or not finite, codes out of range, values that are not
    finite, indices beyond the end or not in their shortest form. Nothing in it is believed.
    """
    try:
        return _native.codecs.decode(payload, codec.kind, count, codec.kept(count))
    except ValueError as error:
        raise CodecError(str(error)) from None


def encode_with_feedback(
    update: NDArray[np.float32],
    residual: NDArray[np.float32],
    codec: Codec,
    *,
    seed: int = 0,
) -> Encoded:
    """Encode ``update + residual``; what that leaves out is the residual for the next time.

    update, residual: float32[P]. Error feedback (Seide et al. 2014; Karimireddy et al. 2019): all
    of an update arrives sooner or later, whatever the codec drops.

    Raises as ``encode`` does; also where the sum is beyond ±1e30.
    """
    for name, array in (("update", update), ("residual", residual)):
        if getattr(array, "dtype", None) != np.float32:
            what = getattr(array, "dtype", type(array).__name__)
            raise TypeError(f"{name}: must be float32[P], is {what}")
        if not (array.flags.c_contiguous and array.flags.aligned):
            raise ValueError(
                f"{name}: must be in C order and aligned; pass numpy.ascontiguousarray"
            )
    if residual.shape != update.shape:
        raise ValueError(
            f"residual: must have the shape of update, {list(update.shape)}, has "
            f"{list(residual.shape)}"
        )
    with np.errstate(over="ignore", invalid="ignore"):  # encode refuses what comes of it
        total = update + residual
    payload = encode(total, codec, seed=seed)
    decoded = decode(payload, codec, len(total))
    return Encoded(payload, decoded, total - decoded)


def payload_sizes(codec: Codec, count: int) -> tuple[int, int]:
    """The least and the greatest number of bytes of a payload for ``count`` elements."""
    return _native.codecs.sizes(codec.kind, count, codec.kept(count))


def to_halves(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """float32[N] as the bits of IEEE halves, uint16[N].

    To nearest, ties to even; beyond ±65504 the result is ±65504; a NaN becomes 0x7e00.
    """
    return _native.codecs.to_halves(x)


def from_halves(halves: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The bits of IEEE halves, uint16[N], as float32[N]; exact."""
    return _native.codecs.from_halves(halves)
