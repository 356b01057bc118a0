"""Codecs: the bits of the definition at every processor level, error bounds, refused arguments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from native_kernels import codecs
from native_kernels.codecs import Codec
from native_kernels.reference import codecs as reference_codecs

CODECS = (
    Codec("fp16"),
    Codec("int8"),
    Codec("int4"),
    Codec("int8", rounding="nearest"),
    Codec("int4", rounding="nearest"),
    Codec("topk", 0.1),
    Codec("topk", 1.0),
)
NAMES = [f"{codec.name}-{codec.fraction or codec.rounding}" for codec in CODECS]
COUNTS = (0, 1, 2, 63, 64, 65, 255, 256, 257, 1000, 9155)


def delta(count: int, scale: float = 1e-2, seed: int = 0) -> NDArray[np.float32]:
    """Like an update: most entries small, a few large."""
    random = np.random.default_rng([seed, count])
    return (random.standard_t(4, size=count) * scale).clip(-1e30, 1e30).astype(np.float32)


def bits(x: NDArray[np.float32]) -> NDArray[np.uint32]:
    return x.view(np.uint32)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("codec", CODECS, ids=NAMES)
@pytest.mark.parametrize("scale", [1e-2, 1e-44, 1e29, 0.0])
def test_gives_the_bytes_of_the_definition(codec: Codec, scale: float) -> None:
    for count in COUNTS:
        update = delta(count, scale)
        payload = codecs.encode(update, codec, seed=2**63 + count)
        assert payload == reference_codecs.encode(update, codec, seed=2**63 + count), count
        decoded = codecs.decode(payload, codec, count)
        expected = reference_codecs.decode(payload, codec, count)
        np.testing.assert_array_equal(bits(decoded), bits(expected))


@pytest.mark.parametrize("name", ["fp16", "int8", "int4", "topk"])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_gives_the_bytes_of_the_definition_for_any_numbers(
    name: codecs.CodecName, data: st.DataObject
) -> None:
    codec = Codec(name, 0.3 if name == "topk" else None)
    largest = float(np.nextafter(np.float32(codecs.LARGEST), np.float32(0)))
    floats = st.floats(-largest, largest, width=32)
    update = np.array(data.draw(st.lists(floats, max_size=300)), dtype=np.float32)
    seed = data.draw(st.integers(0, 2**64 - 1))
    payload = codecs.encode(update, codec, seed=seed)
    assert payload == reference_codecs.encode(update, codec, seed=seed)
    np.testing.assert_array_equal(
        bits(codecs.decode(payload, codec, len(update))),
        bits(reference_codecs.decode(payload, codec, len(update))),
    )


def test_the_definition_has_the_published_random_numbers() -> None:
    """Known answers of Random123 (kat_vectors, philox4x32 10)."""
    counter = np.array([[0] * 4, [0xFFFFFFFF] * 4], dtype=np.uint32)
    assert reference_codecs.philox(counter[:1], 0).tolist() == [
        [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ]
    assert reference_codecs.philox(counter[1:], 2**64 - 1).tolist() == [
        [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    ]


# --- half precision -----------------------------------------------------------------------------


@pytest.mark.usefixtures("level")
def test_every_half_comes_back_as_numpy_reads_it() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16)
    expected = halves.view(np.float16).astype(np.float32)
    floats = codecs.from_halves(halves)
    is_number = ~np.isnan(expected)
    np.testing.assert_array_equal(bits(floats[is_number]), bits(expected[is_number]))
    assert np.isnan(floats[~is_number]).all()


@pytest.mark.usefixtures("level")
def test_floats_become_halves_as_numpy_rounds_them() -> None:
    random = np.random.default_rng(1)
    patterns = random.integers(0, 1 << 32, 1 << 18, dtype=np.uint64).astype(np.uint32)
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = (halves[:-1] + halves[1:]) / 2  # exact, and the hardest to round
    floats = np.concatenate(
        [patterns.view(np.float32), ties, -ties, np.nextafter(ties, np.float32(9e9))]
    ).astype(np.float32)
    floats = floats[~np.isnan(floats)]
    with np.errstate(over="ignore"):
        expected = floats.astype(np.float16)
    expected[np.isposinf(expected)], expected[np.isneginf(expected)] = 65504, -65504
    np.testing.assert_array_equal(codecs.to_halves(floats), expected.view(np.uint16))


@pytest.mark.usefixtures("level")
def test_halves_saturate_and_keep_nan() -> None:
    floats = np.array([65504, 65520, 1e30, np.inf, -np.inf, np.nan, -0.0], dtype=np.float32)
    halves = codecs.to_halves(floats)
    assert halves.tolist() == [0x7BFF, 0x7BFF, 0x7BFF, 0x7BFF, 0xFBFF, 0x7E00, 0x8000]


# --- what decoding loses ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rounding", "units"),
    [
        ("int8", "stochastic", 1.0),
        ("int8", "nearest", 0.5),
        ("int4", "stochastic", 1.0),
        ("int4", "nearest", 0.5),
    ],
)
def test_integers_are_off_by_less_than_their_scale(
    name: codecs.CodecName, rounding: codecs.Rounding, units: float
) -> None:
    codec = Codec(name, rounding=rounding)
    update = delta(5000)
    decoded = codecs.decode(codecs.encode(update, codec), codec, len(update))
    for start in range(0, len(update), codecs.BLOCK):
        block = slice(start, start + codecs.BLOCK)
        scale = np.abs(update[block]).max() / (127 if name == "int8" else 7)
        assert np.abs(decoded[block] - update[block]).max() <= units * scale * (1 + 2**-7)


def test_stochastic_rounding_is_right_on_average() -> None:
    """One element in four is 7 and makes the scale 1, three are a value between two codes."""
    update = np.tile(np.array([7.0, 0.7, -0.7, 2.1], dtype=np.float32), 64)
    codec = Codec("int4")
    runs = 400
    decoded = [codecs.decode(codecs.encode(update, codec, seed=s), codec, 256) for s in range(runs)]
    mean = np.mean(decoded, axis=0, dtype=np.float64).reshape(64, 4)
    # the standard deviation of one rounding is at most half a unit
    deviation = 0.5 / np.sqrt(runs * 64)
    np.testing.assert_allclose(mean.mean(axis=0), update[:4], atol=5 * deviation)
    # and each element has a random number of its own
    first, second = (np.array([update[element] for update in decoded]) for element in (1, 5))
    assert abs(np.mean((first - first.mean()) * (second - second.mean()))) < 0.25 * first.var()


def test_the_seed_chooses_the_rounding() -> None:
    update = delta(1000)
    codec = Codec("int8")
    assert codecs.encode(update, codec, seed=7) == codecs.encode(update, codec, seed=7)
    assert codecs.encode(update, codec, seed=7) != codecs.encode(update, codec, seed=7 + 2**32)
    nearest = Codec("int8", rounding="nearest")
    assert codecs.encode(update, nearest, seed=7) == codecs.encode(update, nearest, seed=8)


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=200), st.floats(0.01, 1.0))
@settings(max_examples=100, deadline=None)
def test_topk_keeps_the_largest_and_of_equals_the_first(numbers: list[int], share: float) -> None:
    update = np.array(numbers, dtype=np.float32)
    codec = Codec("topk", share)
    kept = codec.kept(len(update))
    assert share * len(update) <= kept < share * len(update) + 1
    order = sorted(range(len(numbers)), key=lambda i: (-abs(numbers[i]), i))
    expected = np.zeros_like(update)
    expected[order[:kept]] = update[order[:kept]]
    decoded = codecs.decode(codecs.encode(update, codec), codec, len(update))
    assert decoded.tolist() == expected.tolist()


def test_payloads_have_the_layout_of_the_format() -> None:
    """Bytes written out by hand."""
    update = np.array([0.0, -127.0, 64.0], dtype=np.float32)
    assert codecs.encode(update, Codec("int8", rounding="nearest")) == bytes(
        [0x80, 0x3F, 0b010, 0, 127, 64]  # the scale 1.0, signs, sizes
    )
    seven = np.array([7.0, -7.0, 1.0], dtype=np.float32)
    assert codecs.encode(seven, Codec("int4", rounding="nearest")) == bytes(
        [0x80, 0x3F, 0b010, 0b111, 0b011, 0b011]  # scale, signs, ones, twos, fours
    )
    assert codecs.encode(update, Codec("fp16")) == bytes(
        [0b010, 0x00, 0xF0, 0x00, 0x00, 0x57, 0x54]  # 0x0000, 0xd7f0, 0x5400
    )
    sparse = np.zeros(400, dtype=np.float32)
    sparse[[3, 303]] = 1.0, -2.0
    assert codecs.encode(sparse, Codec("topk", 2 / 400)) == bytes(
        [3, 0x80 | 43, 2, 0b10, 0x00, 0x00, 0x3C, 0x40]  # gaps 3 and 299 = 2 * 128 + 43
    )


# --- error feedback -----------------------------------------------------------------------------


def test_the_residual_is_what_was_left_out() -> None:
    codec = Codec("topk", 0.5)
    update = np.array([4.0, 1.0, -2.0, 0.5], dtype=np.float32)
    first = codecs.encode_with_feedback(update, np.zeros(4, dtype=np.float32), codec)
    assert first.decoded.tolist() == [4.0, 0.0, -2.0, 0.0]
    assert first.residual.tolist() == [0.0, 1.0, 0.0, 0.5]
    second = codecs.encode_with_feedback(update, first.residual, codec)
    assert second.decoded.tolist() == [4.0, 2.0, 0.0, 0.0]
    assert second.residual.tolist() == [0.0, 0.0, -2.0, 1.0]
    np.testing.assert_array_equal(codecs.decode(second.payload, codec, 4), second.decoded)


@pytest.mark.parametrize("codec", CODECS, ids=NAMES)
def test_with_feedback_everything_arrives(codec: Codec) -> None:
    """What has arrived and what is still owed make up the whole; the debt does not grow."""
    update = delta(2000)
    residual = np.zeros_like(update)
    arrived = np.zeros(len(update), dtype=np.float64)
    for turn in range(60):
        encoded = codecs.encode_with_feedback(update, residual, codec, seed=turn)
        residual = encoded.residual
        arrived += encoded.decoded
    np.testing.assert_allclose(arrived + residual, 60 * update.astype(np.float64), atol=1e-4)
    assert np.abs(residual).max() < 12 * np.abs(update).max()


# --- refused arguments --------------------------------------------------------------------------

UPDATE = np.ones(4, dtype=np.float32)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize(
    ("update", "error", "message"),
    [
        (UPDATE.astype(np.float64), TypeError, r"update: must be float32\[P\], is float64"),
        (UPDATE.reshape(2, 2), ValueError, r"update: .*has shape \[2, 2\]"),
        (np.ones(8, dtype=np.float32)[::2], ValueError, r"update: .*ascontiguousarray"),
        (np.array([1, np.nan], dtype=np.float32), ValueError, "update: .*entry 1 is nan"),
        (np.array([np.inf, 1], dtype=np.float32), ValueError, "update: .*entry 0 is inf"),
        (np.array([1] * 40 + [-2e30], dtype=np.float32), ValueError, "update: .*entry 40 is -2"),
    ],
)
def test_refuses_unfit_updates_by_name(
    update: NDArray[np.float32], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        codecs.encode(update, Codec("int8"))


def test_refuses_unfit_residuals_by_name() -> None:
    with pytest.raises(ValueError, match=r"residual: .* shape of update, \[4\], has \[3\]"):
        codecs.encode_with_feedback(UPDATE, UPDATE[:3], Codec("int8"))
    with pytest.raises(TypeError, match=r"residual: must be float32\[P\], is float64"):
        codecs.encode_with_feedback(UPDATE, UPDATE.astype(np.float64), Codec("int8"))
    with pytest.raises(ValueError, match="update: every entry must be finite"):
        codecs.encode_with_feedback(3e38 * UPDATE, 3e38 * UPDATE, Codec("int8"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "int2"}, "name: must be one of fp16, int8, int4, topk, is 'int2'"),
        ({"name": "int8", "rounding": "up"}, "rounding: must be"),
        ({"name": "topk"}, "fraction: must be given for topk"),
        ({"name": "int8", "fraction": 0.5}, "fraction: must be given for topk"),
        ({"name": "topk", "fraction": 0.0}, "fraction: must be above 0"),
        ({"name": "topk", "fraction": float("nan")}, "fraction: must be above 0"),
        ({"name": "topk", "fraction": 1.5}, "fraction: must be above 0"),
    ],
)
def test_refuses_unfit_codecs(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Codec(**arguments)  # type: ignore[arg-type]
