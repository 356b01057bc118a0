"""GVMI files: a squashfs image and, behind it, the settings of its containers.

| part | bytes |
|---|---|
| squashfs 4.0 | n |
| CRC-32 (IEEE) of the settings, little-endian | 4 |
| settings: JSON, the `Config` object of a Docker image | m |
| m in ASCII decimal digits, zero-padded | 8 |

An image is named by the SHA3-224 of the whole file. Everything read here may be a stranger's.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

MAX_SETTINGS_BYTES = 1 << 20
MAX_PATHS = 64  # volumes, and how long a list of variables may be times 16
COMPRESSIONS = {1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}
READABLE_COMPRESSIONS = ("gzip", "lzo", "xz", "lz4")
"""What the kernel of Golem's VM runtime can read."""

_SUPERBLOCK = struct.Struct("<4sIIIIHHHHHHQQQQQQQQ")
_MAGIC = b"hsqs"
_BLOCK_BYTES = 1 << 20


class ImageError(Exception):
    """A file is no GVMI image, or not the one it should be; the text says why."""


@dataclass(frozen=True)
class Squashfs:
    """What the superblock says; `size_bytes` is what the file system itself takes of the file."""

    compression: str
    inodes: int
    block_bytes: int
    modified_at: int  # seconds since 1970
    size_bytes: int


@dataclass(frozen=True)
class ContainerSettings:
    """The settings that a runtime heeds; ENTRYPOINT and CMD are not among them."""

    environment: Mapping[str, str]
    working_dir: str
    volumes: tuple[str, ...]
    user: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class GvmiFile:
    """An image file whose layout is sound; its content and its hash are not looked at."""

    path: Path
    size_bytes: int
    squashfs: Squashfs
    settings: ContainerSettings


def read_gvmi(path: Path) -> GvmiFile:
    """Read superblock and settings of an image file.

    Raises:
        ImageError: it cannot be read, or is not a whole, readable GVMI.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(f"{path}: not a regular file")
            size = status.st_size
            head = file.read(_SUPERBLOCK.size)
            if len(head) < _SUPERBLOCK.size or not head.startswith(_MAGIC):
                raise ImageError(f"{path}: no squashfs image (it does not begin with `hsqs`)")
            file.seek(size - 8)
            digits = file.read(8)
            if not (digits.isascii() and digits.isdigit()):
                raise ImageError(
                    f"{path}: no GVMI trailer at its end; the file is truncated, or plain squashfs"
                )
            settings_bytes = int(digits)
            end = size - 12 - settings_bytes
            if settings_bytes > MAX_SETTINGS_BYTES or end < _SUPERBLOCK.size:
                raise ImageError(
                    f"{path}: the trailer claims {settings_bytes} bytes of settings; the file has "
                    f"{size} bytes, and at most {MAX_SETTINGS_BYTES} are read"
                )
            file.seek(end)
            (checksum,) = struct.unpack("<I", file.read(4))
            settings = file.read(settings_bytes)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    if zlib.crc32(settings) != checksum:
        raise ImageError(f"{path}: the settings in the trailer do not have their checksum")
    squashfs = _read_superblock(head, path)
    if not 0 <= end - squashfs.size_bytes < _BLOCK_BYTES:
        raise ImageError(
            f"{path}: the squashfs claims {squashfs.size_bytes} bytes, and the file holds {end} "
            "before the trailer"
        )
    return GvmiFile(path, size, squashfs, _read_settings(settings, path))


def image_hash(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """Return the SHA3-224 of a file, 56 hex digits; `progress` is told the bytes read so far.

    Raises:
        ImageError: it cannot be read.
    """
    digest = hashlib.sha3_224()
    done = 0
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                done += len(block)
                if progress is not None:
                    progress(done)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def trailer(settings: bytes) -> bytes:
    """Return what stands behind the squashfs of an image with these settings (JSON)."""
    if len(settings) > MAX_SETTINGS_BYTES:
        raise ValueError(f"{len(settings)} bytes of settings; at most {MAX_SETTINGS_BYTES}")
    return struct.pack("<I", zlib.crc32(settings)) + settings + b"%08d" % len(settings)


def _read_superblock(head: bytes, path: Path) -> Squashfs:
    _, inodes, modified_at, block, _, compression, _, _, _, major, minor, _, used, *_ = (
        _SUPERBLOCK.unpack(head)
    )
    if (major, minor) != (4, 0):
        raise ImageError(f"{path}: squashfs {major}.{minor}; the runtime reads 4.0")
    name = COMPRESSIONS.get(compression, f"unknown ({compression})")
    if name not in READABLE_COMPRESSIONS:
        raise ImageError(
            f"{path}: compressed with {name}, which the kernel of Golem's runtime cannot read; "
            f"it reads {', '.join(READABLE_COMPRESSIONS)}"
        )
    if not 4096 <= block <= 1 << 20 or block & (block - 1):
        raise ImageError(f"{path}: squashfs with blocks of {block} bytes")
    return Squashfs(name, inodes, block, modified_at, used)


def _read_settings(raw: bytes, path: Path) -> ContainerSettings:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{path}: the settings in the trailer are not JSON") from error
    if not isinstance(found, dict):
        raise ImageError(f"{path}: the settings in the trailer are no JSON object")
    variables = _texts(found, "Env", list, path)
    environment = dict(variable.partition("=")[::2] for variable in variables)
    if not all("=" in variable[1:] for variable in variables):
        raise ImageError(f"{path}: Env in the trailer has an entry that is not NAME=VALUE")
    volumes = tuple(sorted(_texts(found, "Volumes", dict, path)))
    working_dir = _text(found, "WorkingDir", path) or "/"
    if len(volumes) > MAX_PATHS:
        raise ImageError(f"{path}: {len(volumes)} volumes; at most {MAX_PATHS} are taken")
    for place in (*volumes, working_dir):
        if not place.startswith("/") or ".." in place.split("/") or (place == "/" in volumes):
            raise ImageError(f"{path}: {place!r} in the trailer is no absolute path")
    labels = found.get("Labels") or {}
    _texts(found, "Labels", dict, path)
    return ContainerSettings(
        environment=MappingProxyType(environment),
        working_dir=working_dir,
        volumes=volumes,
        user=_text(found, "User", path) or "root",
        labels=MappingProxyType({name: _printed(value) for name, value in labels.items()}),
    )


def _printed(value: Any) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))[:1000]


def _text(found: dict[str, Any], name: str, path: Path) -> str:
    value = found.get(name) or ""
    if not isinstance(value, str) or not value.isprintable():
        raise ImageError(f"{path}: {name} in the trailer is no text")
    return value


def _texts(
    found: dict[str, Any], name: str, kind: type[list[Any]] | type[dict[str, Any]], path: Path
) -> list[str]:
    values = found.get(name) or kind()
    if not isinstance(values, kind) or len(values) > 16 * MAX_PATHS:
        raise ImageError(f"{path}: {name} in the trailer is no {kind.__name__} of texts")
    for value in values:
        if not isinstance(value, str) or "\0" in value or "\n" in value:
            raise ImageError(f"{path}: {name} in the trailer holds {str(value)[:40]!r}")
    return list(values)
