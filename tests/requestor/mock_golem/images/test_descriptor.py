"""Descriptors of uploads: read strictly."""

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.mock_golem.images.descriptor import DescriptorError, parse_descriptor
from tests.requestor.mock_golem.images.registry_client import descriptor, digests


@given(st.binary(min_size=1, max_size=5000), st.integers(min_value=5, max_value=6000))
def test_what_clients_send(content: bytes, chunk_bytes: int) -> None:
    raw = descriptor(content, chunk_bytes)
    found = parse_descriptor(raw)
    assert found.sha256 == hashlib.sha256(raw).hexdigest()
    assert found.sha3 == hashlib.sha3_224(content).hexdigest()
    assert found.size_bytes == len(content) and found.chunk_bytes == chunk_bytes
    assert list(found.chunks) == digests(content, chunk_bytes)
    assert sum(found.length(number) for number in range(len(found.chunks))) == len(content)
    assert 0 < found.length(len(found.chunks) - 1) <= chunk_bytes


HEADS = st.builds(
    lambda version, size, chunk: struct.pack(">QQQ28s", version, size, chunk, b"\1" * 28),
    st.just(0x333333334) | st.integers(0, 2**64 - 1),
    st.integers(0, 4000) | st.integers(0, 2**64 - 1),
    st.integers(0, 4000) | st.integers(0, 2**64 - 1),
)


@given(st.binary(max_size=300) | st.builds(lambda a, b: a + b, HEADS, st.binary(max_size=300)))
def test_a_hostile_one_is_refused_or_fits(raw: bytes) -> None:
    try:
        found = parse_descriptor(raw)
    except DescriptorError:
        return
    assert len(raw) == 52 + 32 * len(found.chunks)
    assert found.chunk_bytes * (len(found.chunks) - 1) < found.size_bytes
    assert found.size_bytes <= found.chunk_bytes * len(found.chunks)


@pytest.mark.parametrize(
    ("size", "chunk", "digests_given", "why"),
    [
        (0, 10, 0, "a file of 0 bytes"),
        (11 << 30, 100 << 20, 113, "a file of 11811160064 bytes"),
        (10, 0, 1, "chunks of 0 bytes"),
        (101 << 20, 101 << 20, 1, "chunks of 105906176 bytes"),
        (100, 10, 9, "has 9 digests"),
        (100, 10, 11, "has 11 digests"),
        (1001, 1, 999, "are 1001 chunks"),
    ],
)
def test_beyond_the_bounds(size: int, chunk: int, digests_given: int, why: str) -> None:
    head = struct.pack(">QQQ28s", 0x333333334, size, chunk, bytes(28))
    with pytest.raises(DescriptorError, match=why):
        parse_descriptor(head + bytes(32 * digests_given))


def test_one_that_is_too_long_is_not_looked_at() -> None:
    with pytest.raises(DescriptorError, match="52 to 32052 bytes, this has 32084"):
        parse_descriptor(bytes(52 + 32 * 1001))
