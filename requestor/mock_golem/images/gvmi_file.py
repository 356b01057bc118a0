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
from typing import Any, BinaryIO

MAX_SETTINGS_BYTES = 1 << 20
MAX_PATHS = 64  # volumes
MAX_TEXTS = 1024  # variables, labels
MAX_LABEL_LETTERS = 1000
COMPRESSIONS = {1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}
READABLE_COMPRESSIONS = ("gzip", "lzo", "xz", "lz4")
"""What the kernel of Golem's VM runtime can read."""

_SUPERBLOCK = struct.Struct("<4sIIIIHHHHHHQQQQQQQQ")
_MAGIC = b"hsqs"
_BLOCK_BYTES = 1 << 20
_NO_TABLE = (1 << 64) - 1
_UNFIT = frozenset("\0\n")


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
        with _opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_SUPERBLOCK.size)
            if len(head) < _SUPERBLOCK.size or not head.startswith(_MAGIC):
                raise ImageError(f"{path}: no squashfs image (it does not begin with `hsqs`)")
            end, settings = _read_trailer(file, size, path)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
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
        with _opened(path) as file:
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


def _opened(path: Path) -> BinaryIO:
    """Open a regular file; a pipe is not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except ValueError as error:
        raise ImageError(f"{str(path)!r} is no path") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ImageError(f"{path}: not a regular file")
    return os.fdopen(descriptor, "rb")


def _read_trailer(file: BinaryIO, size: int, path: Path) -> tuple[int, bytes]:
    """Return where the trailer begins, and the settings in it."""
    file.seek(size - 8)
    digits = file.read(8)
    if len(digits) < 8 or not (digits.isascii() and digits.isdigit()):
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
    checksum = file.read(4)
    settings = file.read(settings_bytes)
    if zlib.crc32(settings).to_bytes(4, "little") != checksum:
        raise ImageError(f"{path}: the settings in the trailer do not have their checksum")
    return end, settings


def _read_superblock(head: bytes, path: Path) -> Squashfs:
    _, inodes, modified_at, block, _, compression, block_log, *rest = _SUPERBLOCK.unpack(head)
    _, _, major, minor, _, used, *tables = rest
    if (major, minor) != (4, 0):
        raise ImageError(f"{path}: squashfs {major}.{minor}; the runtime reads 4.0")
    name = COMPRESSIONS.get(compression, f"unknown ({compression})")
    if name not in READABLE_COMPRESSIONS:
        raise ImageError(
            f"{path}: compressed with {name}, which the kernel of Golem's runtime cannot read; "
            f"it reads {', '.join(READABLE_COMPRESSIONS)}"
        )
    if not 12 <= block_log <= 20 or block != 1 << block_log:
        raise ImageError(f"{path}: squashfs with blocks of {block} bytes (2 to the {block_log})")
    identities, extended, inode_table, folders, *optional = tables
    if any(place >= used for place in (identities, inode_table, folders)) or any(
        place >= used and place != _NO_TABLE for place in (extended, *optional)
    ):
        raise ImageError(f"{path}: the squashfs names tables beyond its own end")
    return Squashfs(name, inodes, block, modified_at, used)


def _read_settings(raw: bytes, path: Path) -> ContainerSettings:
    try:
        found = json.loads(
            raw.decode(), object_pairs_hook=_without_repetition, parse_constant=_refused
        )
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{path}: the settings in the trailer are not JSON") from error
    except _Repeated as error:
        raise ImageError(f"{path}: the settings in the trailer say {error} twice") from error
    if not isinstance(found, dict):
        raise ImageError(f"{path}: the settings in the trailer are no JSON object")
    volumes = sorted({_place(text, path) for text in _texts(found, "Volumes", dict, path)})
    if len(volumes) > MAX_PATHS:
        raise ImageError(f"{path}: {len(volumes)} volumes; at most {MAX_PATHS} are taken")
    if "/" in volumes:
        raise ImageError(f"{path}: the whole root is a volume, which would hide the image")
    return ContainerSettings(
        environment=MappingProxyType(_environment(found, path)),
        working_dir=_place(_text(found, "WorkingDir", path) or "/", path),
        volumes=tuple(volumes),
        user=_text(found, "User", path) or "root",
        labels=MappingProxyType(_labels(found, path)),
    )


class _Repeated(Exception):
    """A JSON object has a name twice: readers would differ about which one counts."""


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _Repeated(f"{name[:40]!r}")
        found[name] = value
    return found


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _place(text: str, path: Path) -> str:
    """Return an absolute path without double, single-dot or trailing parts."""
    if not text.startswith("/") or ".." in text.split("/") or not text.isprintable():
        raise ImageError(f"{path}: {text[:80]!r} in the trailer is no absolute path")
    return "/" + "/".join(part for part in text.split("/") if part not in ("", "."))


def _environment(found: dict[str, Any], path: Path) -> dict[str, str]:
    environment: dict[str, str] = {}
    for variable in _texts(found, "Env", list, path):
        name, separator, value = variable.partition("=")
        if not name or not separator:
            raise ImageError(f"{path}: Env in the trailer has an entry that is not NAME=VALUE")
        if name in environment:
            raise ImageError(f"{path}: Env in the trailer sets {name[:80]!r} twice")
        environment[name] = value
    return environment


def _labels(found: dict[str, Any], path: Path) -> dict[str, str]:
    _texts(found, "Labels", dict, path)
    labels: dict[str, Any] = found.get("Labels") or {}
    for name, value in labels.items():
        if not name.isprintable() or not isinstance(value, str):
            raise ImageError(f"{path}: the label {name[:40]!r} in the trailer is no text")
    return {name: _printed(value) for name, value in labels.items()}


def _printed(value: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in value[:MAX_LABEL_LETTERS])


def _text(found: dict[str, Any], name: str, path: Path) -> str:
    value = found.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or not value.isprintable():
        raise ImageError(f"{path}: {name} in the trailer is no text")
    return value


def _texts(
    found: dict[str, Any], name: str, kind: type[list[Any]] | type[dict[str, Any]], path: Path
) -> list[str]:
    values = found.get(name)
    if values is None:
        return []
    if not isinstance(values, kind) or len(values) > MAX_TEXTS:
        raise ImageError(
            f"{path}: {name} in the trailer is no {kind.__name__} of at most {MAX_TEXTS} texts"
        )
    for value in values:
        # what neither a program's environment nor a line of a report can hold
        if not isinstance(value, str) or not _UNFIT.isdisjoint(value) or not _is_utf8(value):
            raise ImageError(f"{path}: {name} in the trailer holds {str(value)[:40]!r}")
    return list(values)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
