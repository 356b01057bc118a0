"""Descriptors: what a client says of an image file before it sends it chunk by chunk.

| part | bytes |
|---|---|
| the constant 0x333333334, size of the file, size of a chunk: u64, big-endian | 24 |
| SHA3-224 of the file | 28 |
| SHA-256 of each chunk, in order | 32 each |

A registry names an upload by the descriptor's own SHA-256. All of it is a stranger's word.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

MAX_CHUNKS = 1000
MAX_CHUNK_BYTES = 100 << 20
MAX_IMAGE_BYTES = 10 << 30
MAX_DESCRIPTOR_BYTES = 52 + 32 * MAX_CHUNKS

_HEAD = struct.Struct(">QQQ28s")
_VERSION = 0x333333334


class DescriptorError(ValueError):
    """Bytes are no descriptor, or one of a file beyond the bounds."""


@dataclass(frozen=True)
class Descriptor:
    """One file to be sent: `chunks` are SHA-256 digests, `sha256` is the descriptor's own (hex)."""

    sha256: str
    sha3: str
    size_bytes: int
    chunk_bytes: int
    chunks: tuple[bytes, ...]

    def length(self, number: int) -> int:
        """Return how many bytes a chunk has; the last one may be short."""
        return min(self.chunk_bytes, self.size_bytes - number * self.chunk_bytes)


def parse_descriptor(raw: bytes) -> Descriptor:
    """Read a descriptor.

    Raises:
        DescriptorError: it is none.
    """
    if not _HEAD.size <= len(raw) <= MAX_DESCRIPTOR_BYTES:
        raise DescriptorError(
            f"a descriptor has {_HEAD.size} to {MAX_DESCRIPTOR_BYTES} bytes, this has {len(raw)}"
        )
    version, size, chunk, sha3 = _HEAD.unpack_from(raw)
    if version != _VERSION:
        raise DescriptorError(f"no descriptor, or one of another version ({version:#x})")
    if not 0 < size <= MAX_IMAGE_BYTES:
        raise DescriptorError(f"a file of {size} bytes; at most {MAX_IMAGE_BYTES} are taken")
    if not 0 < chunk <= MAX_CHUNK_BYTES:
        raise DescriptorError(f"chunks of {chunk} bytes; at most {MAX_CHUNK_BYTES} are taken")
    count = -(-size // chunk)
    if count > MAX_CHUNKS or len(raw) != _HEAD.size + 32 * count:
        raise DescriptorError(
            f"{size} bytes are {count} chunks of {chunk}; at most {MAX_CHUNKS} are taken, and the "
            f"descriptor has {(len(raw) - _HEAD.size) / 32:g} digests"
        )
    digests = tuple(raw[at : at + 32] for at in range(_HEAD.size, len(raw), 32))
    return Descriptor(hashlib.sha256(raw).hexdigest(), sha3.hex(), size, chunk, digests)
