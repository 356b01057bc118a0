"""Values of service-bus calls: what the library writes is read back; hostile bytes are bounded."""

import zlib
from typing import Any

import pytest
from flatbuffers import flexbuffers  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from requestor.mock_golem.testnet.values import (
    MAX_DEPTH,
    MAX_VALUE_BYTES,
    ValueFormatError,
    dump,
    load,
)

NAMES = st.text(st.characters(min_codepoint=1, codec="utf-8"), max_size=8)
VALUES: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(-1e38, 1e38)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)
VECTOR, INTEGER, TEXT = 10 << 2, 1 << 2, 5 << 2  # packed types of parts of one byte
FOUR_BYTES = 2  # added: the parts are of four bytes


@given(VALUES)
@settings(deadline=None)
def test_what_is_dumped_is_loaded(value: Any) -> None:
    assert load(dump(value)) == value


@given(VALUES)
@settings(deadline=None)
def test_compressed_values_are_inflated(value: Any) -> None:
    assert load(zlib.compress(dump(value))) == value


def test_an_exec_call_as_a_daemon_sends_it() -> None:
    # a serializer that knows types writes typed vectors and keys, as the daemon's does
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.String("batchId", "b" * 32)
        with builder.Vector("exeScript"), builder.Map():
            builder.Key("deploy")
            with builder.Map():
                builder.Null("progress")
                with builder.TypedVector("net"):
                    builder.Int(1)
                    builder.Int(2)
        builder.Float("timeout", 5.0)
        builder.Blob("key", b"\x00\x01")
        builder.Key("pair")
        builder.FixedTypedVectorFromElements([1.5, 2.5])
    assert load(bytes(builder.Finish())) == {
        "batchId": "b" * 32,
        "exeScript": [{"deploy": {"progress": None, "net": [1, 2]}}],
        "timeout": 5.0,
        "key": b"\x00\x01",
        "pair": [1.5, 2.5],
    }


@given(st.binary(max_size=300))
def test_no_bytes_do_worse_than_a_format_error(data: bytes) -> None:
    try:
        load(data)
    except ValueFormatError:
        return


@given(VALUES, st.data())
@settings(deadline=None)
def test_damaged_values_do_no_worse_either(value: Any, data: st.DataObject) -> None:
    damaged = bytearray(dump(value))
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    try:
        load(bytes(damaged))
    except ValueFormatError:
        return


def nested(levels: int, width: int) -> bytes:
    """Return a vector of `width` times the same vector, and so on: width ** levels parts."""
    buffer = bytearray([width]) + bytes(width) + bytes([INTEGER] * width)
    start = 1
    for _ in range(levels - 1):
        buffer.append(width)
        following = len(buffer)
        for _ in range(width):
            buffer.append(len(buffer) - start)
        buffer += bytes([VECTOR] * width)
        start = following
    return bytes(buffer) + bytes([len(buffer) - start, VECTOR, 1])


def test_nesting_by_hand_is_what_the_library_reads() -> None:
    assert flexbuffers.Loads(nested(2, 3)) == [[0, 0, 0]] * 3
    assert load(nested(2, 3)) == [[0, 0, 0]] * 3


def test_a_few_bytes_cannot_unfold_into_a_huge_value() -> None:
    bomb = nested(9, 10)
    assert len(bomb) < 250
    with pytest.raises(ValueFormatError, match="parts"):
        load(bomb)


def shared_text(size: int, copies: int) -> bytes:
    """Return a vector of `copies` times the same text of `size` bytes."""
    buffer = bytearray(size.to_bytes(4, "little")) + b"a" * size + b"\0"
    buffer += bytes(-len(buffer) % 4) + copies.to_bytes(4, "little")
    start = len(buffer)
    for _ in range(copies):
        buffer += (len(buffer) - 4).to_bytes(4, "little")
    buffer += bytes([TEXT | FOUR_BYTES] * copies)
    buffer += (len(buffer) - start).to_bytes(4, "little")
    return bytes(buffer) + bytes([VECTOR | FOUR_BYTES, 4])


def test_a_text_that_many_parts_share_counts_for_each() -> None:
    assert load(shared_text(3, 2)) == ["aaa", "aaa"]
    size = MAX_VALUE_BYTES // 4
    assert len(load(shared_text(size, 4))) == 4
    bomb = zlib.compress(shared_text(size, 5))
    assert len(bomb) < 100_000
    with pytest.raises(ValueFormatError, match="texts of more than"):
        load(bomb)


def test_a_value_that_contains_itself_is_refused() -> None:
    # the vector's second element leads one byte back: to its own start
    itself = bytes([2, 0, 1, INTEGER, VECTOR]) + bytes([4, VECTOR, 1])
    with pytest.raises(ValueFormatError, match=f"more than {MAX_DEPTH} deep"):
        load(itself)


def test_inflating_is_bounded() -> None:
    bomb = zlib.compress(bytes(MAX_VALUE_BYTES + 1))
    assert len(bomb) < 100_000
    with pytest.raises(ValueFormatError, match="inflates"):
        load(bomb)


def test_nothing_is_no_value() -> None:
    with pytest.raises(ValueFormatError, match="0 bytes"):
        load(b"")
