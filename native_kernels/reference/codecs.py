"""What :mod:`native_kernels.codecs` computes, in NumPy: the definition of every payload.

Written apart from the C++ and in another way where there is one: half precision is NumPy's own,
the largest elements come from a sort. No argument checks.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from native_kernels.codecs import BLOCK, Codec

__all__ = ["decode", "encode", "philox", "uniform_numbers"]

ROUNDING_PURPOSE = 4
Word = TypeVar("Word", np.float16, np.uint16)
_LARGEST_CODE = {"int8": 127, "int4": 7}


def philox(counter: NDArray[np.uint32], seed: int) -> NDArray[np.uint32]:
    """Philox4x32-10 (Salmon et al. 2011): counter and result uint32[N, 4], a 64-bit seed."""
    words = [counter[:, column].astype(np.uint64) for column in range(4)]
    keys = [seed & 0xFFFFFFFF, seed >> 32]
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        first, second = words[0] * np.uint64(0xD2511F53), words[2] * np.uint64(0xCD9E8D57)
        words = [
            (second >> shift) ^ words[1] ^ np.uint64(keys[0]),
            second & mask,
            (first >> shift) ^ words[3] ^ np.uint64(keys[1]),
            first & mask,
        ]
        keys = [(keys[0] + 0x9E3779B9) & 0xFFFFFFFF, (keys[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(words, axis=1).astype(np.uint32)


def uniform_numbers(count: int, seed: int) -> NDArray[np.float32]:
    """float32[count] in [0, 1): element i is word i % 4 of counter i / 4 of the rounding stream."""
    counter = np.zeros(((count + 3) // 4, 4), dtype=np.uint32)
    counter[:, 0] = np.arange(len(counter))
    counter[:, 3] = ROUNDING_PURPOSE
    words = philox(counter, seed).reshape(-1)[:count]
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def encode(update: NDArray[np.float32], codec: Codec, *, seed: int = 0) -> bytes:
    """update: float32[P]; returns the payload."""
    if codec.name == "fp16":
        return _planes(_halves(update))
    if codec.name == "topk":
        return _encode_largest(update, codec.kept(len(update)))
    scales, codes = _quantise(update, codec, seed)
    if codec.name == "int8":
        return _planes(_upper(scales)) + codes.tobytes()
    packed = b"".join(_packed(codes[i : i + BLOCK]) for i in range(0, len(codes), BLOCK))
    return _planes(_upper(scales)) + packed


def decode(payload: bytes, codec: Codec, count: int) -> NDArray[np.float32]:
    """A sound payload; returns float32[count]."""
    if codec.name == "fp16":
        return _words(payload, np.dtype(np.float16)).astype(np.float32)
    if codec.name == "topk":
        return _decode_largest(payload, codec.kept(count), count)
    blocks = -(-count // BLOCK)
    upper = _words(payload[: 2 * blocks], np.dtype(np.uint16))
    scales = (upper.astype(np.uint32) << np.uint32(16)).view(np.float32)
    data = np.frombuffer(payload[2 * blocks :], dtype=np.uint8)
    if codec.name == "int8":
        codes = data.view(np.int8)
    else:
        nibbles = np.stack([data & 15, data >> 4], axis=1).astype(np.int8) - np.int8(8)
        codes = nibbles.reshape(-1)[:count]
    return codes.astype(np.float32) * np.repeat(scales, BLOCK)[:count]


def _halves(x: NDArray[np.float32]) -> NDArray[np.float16]:
    return np.clip(x, np.float32(-65504), np.float32(65504)).astype(np.float16)


def _upper(scales: NDArray[np.float32]) -> NDArray[np.uint16]:
    return (scales.view(np.uint32) >> np.uint32(16)).astype(np.uint16)


def _planes(numbers: NDArray[np.float16] | NDArray[np.uint16]) -> bytes:
    """All lowest bytes, then all next ones."""
    size = numbers.dtype.itemsize
    little = numbers.astype(numbers.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(-1, size).T.tobytes()


def _words(data: bytes, dtype: np.dtype[Word]) -> NDArray[Word]:
    planes = np.frombuffer(data, dtype=np.uint8).reshape(dtype.itemsize, -1)
    little = np.ascontiguousarray(planes.T).view(dtype.newbyteorder("<"))
    return little.reshape(-1).astype(dtype)


def _quantise(
    update: NDArray[np.float32], codec: Codec, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    limit = np.float32(_LARGEST_CODE[codec.name])
    starts = range(0, len(update), BLOCK)
    largest = [np.abs(update[start : start + BLOCK]).max() for start in starts]
    wide = np.array(largest, dtype=np.float32) / limit
    scales = (wide.view(np.uint32) + np.uint32(0xFFFF) & np.uint32(0xFFFF0000)).view(np.float32)
    scale = np.repeat(scales, BLOCK)[: len(update)]
    units = np.divide(update, scale, out=np.zeros_like(update), where=scale > 0)
    units = np.clip(units, -limit, limit)
    if codec.rounding == "nearest":
        return scales, np.rint(units).astype(np.int8)
    below = np.floor(units)
    is_up = uniform_numbers(len(update), seed) < units - below
    return scales, (below + is_up).astype(np.int8)


def _packed(codes: NDArray[np.int8]) -> bytes:
    nibbles = (codes + 8).astype(np.uint8)
    if len(nibbles) % 2:
        nibbles = np.append(nibbles, np.uint8(0))
    return (nibbles[0::2] | nibbles[1::2] << 4).astype(np.uint8).tobytes()


def _encode_largest(update: NDArray[np.float32], kept: int) -> bytes:
    order = np.argsort(-np.abs(update), kind="stable")
    indices = np.sort(order[:kept])
    gaps = np.diff(indices, prepend=-1) - 1
    return b"".join(_varint(int(gap)) for gap in gaps) + _planes(_halves(update[indices]))


def _varint(number: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first; all but the last have the top bit set."""
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def _decode_largest(payload: bytes, kept: int, count: int) -> NDArray[np.float32]:
    update = np.zeros(count, dtype=np.float32)
    split = len(payload) - 2 * kept
    values = _words(payload[split:], np.dtype(np.float16))
    index, gap, shift, found = -1, 0, 0, 0
    for byte in payload[:split]:
        gap |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            index += gap + 1
            update[index] = values[found]
            gap, shift, found = 0, 0, found + 1
    return update
