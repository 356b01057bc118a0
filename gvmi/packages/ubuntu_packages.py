"""Ubuntu's packages in Debian's form: they are packed with zstd, which `tarfile` does not read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import zstandard

from gvmi.errors import BadImage

_AR_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60
_MAX_UNPACKED_BYTES = 1 << 30
_BLOCK_BYTES = 16 << 10


def in_debians_form(package: Path) -> Path:
    """Return the package itself, or for one of zstd a copy beside it with its files unpacked.

    Raises:
        BadImage: it is broken, or unpacks to more than any package of ours has.
    """
    raw = package.read_bytes()
    position = len(_AR_MAGIC)
    while raw.startswith(_AR_MAGIC) and position + _HEADER_BYTES <= len(raw):
        header = raw[position : position + _HEADER_BYTES]
        digits = header[48:58].strip()
        if not digits.isdigit():
            break
        position += _HEADER_BYTES
        size = int(digits)
        if header.startswith(b"data.tar.zst"):
            data = _decompressed(raw[position : position + size], package)
            copy = package.with_suffix(".unpacked.deb")
            descriptor, draft = tempfile.mkstemp(dir=package.parent)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_AR_MAGIC + _header(b"data.tar", len(data)) + data)
            os.replace(draft, copy)
            return copy
        position += size + size % 2
    return package


def _header(name: bytes, size: int) -> bytes:
    return b"%-16s%-12d%-6d%-6d%-8o%-10d`\n" % (name, 0, 0, 0, 0o100644, size)


def _decompressed(data: bytes, package: Path) -> bytes:
    frame, unpacked = zstandard.ZstdDecompressor().decompressobj(), bytearray()
    try:
        for start in range(0, len(data), _BLOCK_BYTES):
            unpacked += frame.decompress(data[start : start + _BLOCK_BYTES])
            if len(unpacked) > _MAX_UNPACKED_BYTES:
                raise BadImage(f"{package}: unpacks to more than {_MAX_UNPACKED_BYTES >> 20} MiB")
    except zstandard.ZstdError as error:
        raise BadImage(f"{package}: a broken package: {error}") from error
    if not frame.eof:
        raise BadImage(f"{package}: a broken package: it ends too soon")
    return bytes(unpacked)
