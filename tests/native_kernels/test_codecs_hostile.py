"""The decoders eat strangers' bytes: refused in words or harmless, never a crash."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections import Counter

import numpy as np
import pytest

from native_kernels import codecs
from native_kernels.codecs import Codec, CodecError

COUNT = 1000
CODECS = (Codec("fp16"), Codec("int8"), Codec("int4"), Codec("topk", 0.1))
EXAMPLES = 4000


def payload(codec: Codec, count: int = COUNT) -> bytes:
    update = np.random.default_rng(3).normal(size=count).astype(np.float32)
    return codecs.encode(update, codec, seed=5)


def mutated(original: bytes, dice: random.Random) -> bytes:
    data = bytearray(original)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(6):
            case 0 if at < len(data):
                data[at] = dice.choice([0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)])
            case 1 if at < len(data):
                data[at] ^= 1 << dice.randrange(8)
            case 2:
                data[at:at] = dice.randbytes(dice.randint(1, 8))
            case 3:
                del data[at : at + dice.randint(1, 8)]
            case 4:
                piece = dice.randbytes(dice.randint(1, 64))
                data[at : at + len(piece)] = piece
            case _:
                data = data[: dice.randint(0, len(data))] + data[at:]
    return bytes(data)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_thousands_of_mutated_payloads(codec: Codec) -> None:
    dice = random.Random(codec.name)
    original = payload(codec)
    outcomes: Counter[str] = Counter()
    for _ in range(EXAMPLES):
        data = mutated(original, dice)
        try:
            update = codecs.decode(data, codec, COUNT)
        except CodecError as error:
            assert str(error).startswith("payload: ")
            outcomes["refused"] += 1
        else:
            assert update.shape == (COUNT,) and update.dtype == np.float32
            assert np.isfinite(update).all()
            outcomes["decoded"] += 1
    assert outcomes["refused"] > 100, outcomes
    assert outcomes["decoded"] > 100, outcomes


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_noise_of_the_right_length(codec: Codec) -> None:
    dice = random.Random(1)
    least, most = codecs.payload_sizes(codec, 64)
    for _ in range(EXAMPLES):
        data = dice.randbytes(dice.randint(least, most))
        try:
            update = codecs.decode(data, codec, 64)
        except CodecError:
            continue
        assert np.isfinite(update).all()


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_every_other_length_is_refused(codec: Codec) -> None:
    original = payload(codec, 10)
    for length in range(2 * len(original)):
        data = (original + original)[:length]
        if length == len(original):
            codecs.decode(data, codec, 10)
        else:
            with pytest.raises(CodecError, match="payload: "):
                codecs.decode(data, codec, 10)


FLOAT = struct.Struct("<f")


def scaled(scale: float, codes: bytes) -> bytes:
    return FLOAT.pack(scale)[2:] + codes


@pytest.mark.parametrize(
    ("data", "codec", "count", "message"),
    [
        (scaled(float("nan"), b"\0\1"), Codec("int8"), 1, "a scale is negative, not finite"),
        (scaled(float("inf"), b"\0\0"), Codec("int8"), 1, "a scale is negative, not finite"),
        (scaled(-1.0, b"\0\1"), Codec("int8"), 1, "a scale is negative"),
        (scaled(-0.0, b"\0\1"), Codec("int8"), 1, "a scale is negative"),
        (scaled(1e31, b"\0\1\0\0"), Codec("int4"), 1, "a scale is .* beyond 1e30"),
        (scaled(1.0, b"\0\x80"), Codec("int8"), 1, "a code is out of range"),
        (scaled(1.0, b"\1\0"), Codec("int8"), 1, "a code is .* 0 with a sign"),
        (scaled(1.0, b"\1\0\0\0"), Codec("int4"), 1, "a code is .* 0 with a sign"),
        (scaled(1.0, b"\2\1"), Codec("int8"), 1, "bits that belong to no element"),
        (scaled(1.0, b"\0\1\0\x80"), Codec("int4"), 2, "bits that belong to no element"),
        (b"\0\0\x7c", Codec("fp16"), 1, "a value is not finite"),
        (b"\0\0\xbc", Codec("fp16"), 1, "a value is not finite"),
        (b"\2\0\x3c", Codec("fp16"), 1, "bits that belong to no element"),
        (b"\0\0\0\x7c", Codec("topk", 0.1), 10, "a value is not finite"),
        (b"\x0a\0\0\x3c", Codec("topk", 0.1), 10, "an index is beyond the last"),
        (b"\x09\0\0\0\0\x3c\x3c", Codec("topk", 0.2), 10, "an index is beyond the last"),
        (b"\x80\0\0\x3c", Codec("topk", 0.1), 10, "an index is beyond the last"),
        (b"\x80\0\0\0\x3c", Codec("topk", 0.001), 1000, "an index .* more bytes than it needs"),
        (b"\1\1\0\0\x3c", Codec("topk", 0.001), 1000, "the length does not fit"),
        (b"", Codec("topk", 0.1), 10, "has 0 bytes, must have 4 to 4"),
        (b"\0", Codec("int8"), 0, "has 1 bytes, must have 0 to 0"),
    ],
)
def test_what_no_encoder_writes_is_refused_in_words(
    data: bytes, codec: Codec, count: int, message: str
) -> None:
    with pytest.raises(CodecError, match=f"payload: .*{message}"):
        codecs.decode(data, codec, count)


def test_a_short_payload_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="has 3 bytes"):
            codecs.decode(b"abc", Codec("int8"), codecs.MAX_ELEMENTS)
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()
    with pytest.raises(CodecError, match="count: must be at most 2"):
        codecs.decode(b"", Codec("int8"), codecs.MAX_ELEMENTS + 1)
