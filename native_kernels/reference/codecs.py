"""What :mod:`native_kernels.codecs` computes, in NumPy: the definition of every payload.

Written apart from the C++ and in another way where there is one: half precision is NumPy's own,
the largest elements come from a sort. No argument checks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from native_kernels.codecs import BLOCK, Codec

__all__ = ["decode", "encode", "philox", "uniform_numbers"]

ROUNDING_PURPOSE = 4
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
        return _halves(update)
    if codec.name == "topk":
        return _encode_largest(update, codec.kept(len(update)))
    scales, codes = _quantise(update, codec, seed)
    words = scales.view(np.uint32) >> np.uint32(16)
    sizes = np.abs(codes).astype(np.uint8)
    head = _byte(words, 0) + _byte(words, 1) + _bits(codes < 0)
    if codec.name == "int8":
        return head + sizes.tobytes()
    return head + b"".join(_bits((sizes & (1 << bit)) != 0) for bit in range(3))


def decode(payload: bytes, codec: Codec, count: int) -> NDArray[np.float32]:
    """A sound payload; returns float32[count]."""
    data = np.frombuffer(payload, dtype=np.uint8)
    if codec.name == "fp16":
        return _from_halves(data, count)
    if codec.name == "topk":
        return _decode_largest(data, codec.kept(count), count)
    blocks, plane = -(-count // BLOCK), -(-count // 8)
    low, high, rest = np.split(data.astype(np.uint32), [blocks, 2 * blocks])
    scales = (low << np.uint32(16) | high << np.uint32(24)).view(np.float32)
    planes = rest.astype(np.uint8)
    is_negative = _from_bits(planes[:plane], count)
    if codec.name == "int8":
        sizes = planes[plane:]
    else:
        parts = [_from_bits(planes[plane * k : plane * (k + 1)], count) for k in (1, 2, 3)]
        sizes = parts[0] + np.uint8(2) * parts[1] + np.uint8(4) * parts[2]
    codes = np.where(is_negative, -sizes.astype(np.float32), sizes.astype(np.float32))
    return codes * np.repeat(scales, BLOCK)[:count]


def _byte(words: NDArray[np.uint32] | NDArray[np.uint16], which: int) -> bytes:
    return (words.astype(np.uint32) >> np.uint32(8 * which)).astype(np.uint8).tobytes()


def _bits(values: NDArray[np.bool_]) -> bytes:
    """A bit of each, the first in the lowest bit of the first byte."""
    return np.packbits(values, bitorder="little").tobytes()


def _from_bits(plane: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    return np.unpackbits(plane, count=count, bitorder="little")


def _halves(x: NDArray[np.float32]) -> bytes:
    """Signs, lower bytes, then the seven bits above."""
    words = np.clip(x, np.float32(-65504), np.float32(65504)).astype(np.float16).view(np.uint16)
    return _bits(words >= 0x8000) + _byte(words, 0) + _byte(words & np.uint16(0x7FFF), 1)


def _from_halves(data: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    plane = -(-count // 8)
    signs = _from_bits(data[:plane], count).astype(np.uint16)
    low, high = np.split(data[plane:].astype(np.uint16), [count])
    words = low | high << np.uint16(8) | signs << np.uint16(15)
    halves: NDArray[np.float16] = words.view(np.float16)
    return halves.astype(np.float32)


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


def _encode_largest(update: NDArray[np.float32], kept: int) -> bytes:
    order = np.argsort(-np.abs(update), kind="stable")
    indices = np.sort(order[:kept])
    gaps = np.diff(indices, prepend=-1) - 1
    return b"".join(_varint(int(gap)) for gap in gaps) + _halves(update[indices])


def _varint(number: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first; all but the last have the top bit set."""
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def _decode_largest(data: NDArray[np.uint8], kept: int, count: int) -> NDArray[np.float32]:
    update = np.zeros(count, dtype=np.float32)
    split = len(data) - 2 * kept - -(-kept // 8)
    values = _from_halves(data[split:], kept)
    index, gap, shift, found = -1, 0, 0, 0
    for byte in data[:split].tolist():
        gap |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            index += gap + 1
            update[index] = values[found]
            gap, shift, found = 0, 0, found + 1
    return update
