"""Encoded updates: what comes back, what it costs, and what is refused."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections import Counter

import msgspec
import numpy as np
import pytest
import zstandard

from provider_image.wire import (
    ENCODED_NAME,
    FEEDBACK_NAME,
    CompressionSpec,
    Tensors,
    TensorSpec,
    WireError,
    check_tensors,
    compress,
    feedback_count,
    restore,
    result_bytes,
    result_specs,
    specs_of,
    split_feedback,
)
from provider_image.wire.compression import decode_update, encode_update, encoded_limit

SPECS = (
    CompressionSpec("fp16"),
    CompressionSpec("int8"),
    CompressionSpec("int4", rounding="nearest"),
    CompressionSpec("topk", fraction=0.1),
)
IDS = [spec.codec for spec in SPECS]
MODEL = {
    "policy/b.weight": TensorSpec("float32", (30, 20)),
    "policy/a.bias": TensorSpec("float32", (7,)),
    "policy/a.scalar": TensorSpec("float32", ()),
    "extra/log_ent_coef": TensorSpec("float32", (1,)),
    "normalizer/return/mean": TensorSpec("float64", ()),
}
COUNT = 608
INT8 = CompressionSpec("int8")


def update(seed: int = 0) -> Tensors:
    dice = np.random.default_rng(seed)
    return {
        name: np.asarray(0.01 * dice.normal(size=spec.shape), dtype=spec.dtype)
        for name, spec in result_specs(MODEL).items()
    }


def vector(count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(1).normal(size=count).astype(np.float32)


@pytest.mark.parametrize("spec", SPECS, ids=IDS)
def test_an_update_comes_back_in_its_own_shape(spec: CompressionSpec) -> None:
    sent = update()
    encoded, residual = compress(sent, spec, seed=5)
    assert residual is None
    assert set(encoded) == {ENCODED_NAME, "extra/log_ent_coef", "moments/return/mean"}
    received = restore(encoded, spec, MODEL)
    check_tensors(received, result_specs(MODEL))
    for name in ("extra/log_ent_coef", "moments/return/mean"):
        np.testing.assert_array_equal(received[name], sent[name])
    assert feedback_count(MODEL) == COUNT
    largest = max(np.abs(sent[name]).max() for name in MODEL if name.startswith("policy/"))
    for name in MODEL:
        if name.startswith("policy/") and spec.codec != "topk":
            np.testing.assert_allclose(received[name], sent[name], atol=0.08 * largest)


def test_the_order_of_the_elements_is_that_of_the_sorted_names() -> None:
    sent = {name: np.zeros(spec.shape, np.float32) for name, spec in MODEL.items()}
    sent["policy/a.bias"][:] = 1.0
    sent["policy/a.scalar"] = np.array(2.0, np.float32)
    sent["policy/b.weight"][0, 1] = 4.0
    encoded, _ = compress(sent, CompressionSpec("fp16"), seed=0)
    flat = decode_update(encoded[ENCODED_NAME].tobytes(), CompressionSpec("fp16"), COUNT)
    assert flat[:10].tolist() == [1.0] * 7 + [2.0, 0.0, 4.0]


def test_the_header_is_that_of_the_format() -> None:
    data = encode_update(vector(), INT8, seed=3)
    assert data[:12] == b"DeRU" + bytes([1, 2, 0, 0]) + struct.pack("<I", COUNT)
    payload = zstandard.ZstdDecompressor().decompress(data[12:])
    assert len(payload) == 2 * 3 + COUNT // 8 + COUNT


def test_feedback_is_what_the_update_leaves_out() -> None:
    spec = CompressionSpec("topk", fraction=0.01, feedback=True)
    sent = update()
    flat = np.concatenate([sent[n].reshape(-1) for n in sorted(MODEL) if n.startswith("policy/")])
    encoded, first = compress(sent, spec, seed=0)
    assert first is not None
    decoded = decode_update(encoded[ENCODED_NAME].tobytes(), spec, COUNT)
    assert np.count_nonzero(decoded) == 7
    np.testing.assert_array_equal(decoded + first, flat)
    again, second = compress(sent, spec, seed=0, feedback=first)
    assert second is not None
    later = decode_update(again[ENCODED_NAME].tobytes(), spec, COUNT)
    np.testing.assert_allclose(later + second, flat + first, rtol=1e-6)


def test_the_feedback_is_taken_out_of_a_state() -> None:
    model: Tensors = {"policy/a": np.zeros((2, 3), np.float32), "extra/x": np.zeros(1, np.float32)}
    state: Tensors = {FEEDBACK_NAME: np.ones(6, np.float32), "optimizer/x": np.ones(1, np.float32)}
    rest, feedback = split_feedback(state, model)
    assert list(rest) == ["optimizer/x"]
    assert feedback.tolist() == [1.0] * 6
    for unfit in ({}, {FEEDBACK_NAME: np.ones(7, np.float32)}, {FEEDBACK_NAME: np.ones(6)}):
        with pytest.raises(WireError, match=r"client state: .*feedback/update"):
            split_feedback(dict(unfit), model)
    with pytest.raises(WireError, match="not finite"):
        split_feedback({FEEDBACK_NAME: np.full(6, np.nan, np.float32)}, model)


def test_what_cannot_be_encoded_is_refused_in_words() -> None:
    sent = update()
    sent["policy/a.bias"][3] = np.inf
    for feedback in (False, True):
        spec = CompressionSpec("int8", feedback=feedback)
        with pytest.raises(WireError, match=r"cannot be encoded: .*entry 3 is inf"):
            compress(sent, spec, seed=0)


@pytest.mark.parametrize("fraction", [0.0, 1.5, None])
def test_a_specification_is_checked(fraction: float | None) -> None:
    document = {"codec": "topk", "fraction": fraction}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(document, CompressionSpec)
    with pytest.raises(msgspec.ValidationError, match="fraction"):
        msgspec.convert({"codec": "int8", "fraction": 0.5}, CompressionSpec)


@pytest.mark.parametrize("spec", SPECS, ids=IDS)
def test_the_limit_holds_for_numbers_that_do_not_compress(spec: CompressionSpec) -> None:
    patterns = np.random.default_rng(2).integers(0, 0x71000000, 70_000).astype(np.uint32)
    for count in (0, 1, 5, 300, 70_000):
        data = encode_update(patterns[:count].view(np.float32), spec, seed=1)
        assert len(data) <= encoded_limit(spec, count)
        assert decode_update(data, spec, count).shape == (count,)
    assert result_bytes(MODEL, spec) < result_bytes(MODEL, None) + 1000


# --- bytes of strangers -------------------------------------------------------------------------


def frame(payload: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(payload)


def refusal(data: bytes, spec: CompressionSpec = INT8, count: int = COUNT) -> str:
    with pytest.raises(WireError) as caught:
        decode_update(data, spec, count)
    return str(caught.value)


def test_lies_about_sizes_are_refused_before_memory_is_taken() -> None:
    honest = encode_update(vector(), INT8, seed=3)
    head = honest[:12]
    bomb = head + frame(bytes(1 << 25))
    assert len(bomb) > encoded_limit(INT8, COUNT)
    small_bomb = head + frame(bytes(1 << 22))
    assert len(small_bomb) <= encoded_limit(INT8, COUNT)
    tracemalloc.start()
    try:
        assert "bytes cannot be 608 elements" in refusal(bomb)
        assert "the payload has 4194304 bytes, 690 to 690" in refusal(small_bomb)
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()
    streamed = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(690))
    assert "are expected" in refusal(head + streamed)


def test_what_is_no_single_sound_frame_is_refused() -> None:
    honest = encode_update(vector(), INT8, seed=3)
    head, body = honest[:12], honest[12:]
    assert "zstd" in refusal(honest + b"\0")
    assert "zstd" in refusal(honest + frame(b""))
    assert "zstd" in refusal(honest[:-1])
    assert "zstd" in refusal(head)
    assert refusal(honest[:5]) == "5 bytes cannot be 608 elements as int8"
    skippable = struct.pack("<II", 0x184D2A50, 690) + bytes(690)
    assert refusal(head + skippable)
    assert refusal(head + struct.pack("<II", 0x184D2A50, 8) + bytes(8) + body)


@pytest.mark.parametrize("at", [0, 4, 5, 6, 7, 8, 11])
def test_another_header_is_refused(at: int) -> None:
    data = bytearray(encode_update(vector(), INT8, seed=3))
    data[at] ^= 1
    assert "the header says" in refusal(bytes(data))


@pytest.mark.parametrize("spec", SPECS, ids=IDS)
def test_thousands_of_mutations(spec: CompressionSpec) -> None:
    """Of the container, and of the payload inside a sound container."""
    dice = random.Random(spec.codec)
    honest = encode_update(vector(), spec, seed=3)
    payload = zstandard.ZstdDecompressor().decompress(honest[12:])
    outcomes: Counter[str] = Counter()
    for turn in range(2000):
        data = bytearray(honest[12:] if turn % 2 else payload)
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(data))
            match dice.randrange(4):
                case 0:
                    data[at] = dice.choice([0, 0x7F, 0x80, 0xFF, dice.randrange(256)])
                case 1:
                    del data[at : at + dice.randint(1, 4)]
                case 2:
                    data[at:at] = dice.randbytes(dice.randint(1, 4))
                case _:
                    data[at] ^= 1 << dice.randrange(8)
        whole = honest[:12] + (bytes(data) if turn % 2 else frame(bytes(data)))
        try:
            decoded = decode_update(whole, spec, COUNT)
        except WireError as error:
            assert str(error).strip()
            outcomes["refused"] += 1
        else:
            assert decoded.shape == (COUNT,)
            assert np.isfinite(decoded).all()
            outcomes["decoded"] += 1
    assert outcomes["refused"] > 100, outcomes
    assert outcomes["decoded"] > 20, outcomes


def test_only_what_was_ordered_may_stand_in_a_result() -> None:
    encoded, _ = compress(update(), INT8, seed=0)
    bare = {name: tensor for name, tensor in encoded.items() if name != ENCODED_NAME}
    with pytest.raises(WireError, match="encoded/update was ordered, there is none"):
        restore(bare, INT8, MODEL)
    beside = {**encoded, "policy/a.bias": np.zeros(7, np.float32)}
    with pytest.raises(WireError, match=r"there is policy/a\.bias beside it"):
        restore(beside, INT8, MODEL)
    for unfit in (encoded[ENCODED_NAME].reshape(1, -1), encoded[ENCODED_NAME].astype(np.float32)):
        with pytest.raises(WireError, match="expected uint8 and one axis"):
            restore({**encoded, ENCODED_NAME: unfit}, INT8, MODEL)
    with pytest.raises(WireError, match=r"r\.st: tensor encoded/update: the header says"):
        restore(encoded, CompressionSpec("fp16"), MODEL, source="r.st")
    with pytest.raises(WireError, match="not expected: encoded/update"):
        check_tensors(encoded, result_specs(MODEL))


def test_specifications_of_tensors_do_not_change() -> None:
    """Or the screening would not hold the update against the model."""
    spec = CompressionSpec("int4", feedback=True)
    encoded, _ = compress(update(), spec, seed=0)
    assert specs_of(restore(encoded, spec, MODEL)) == result_specs(MODEL)
