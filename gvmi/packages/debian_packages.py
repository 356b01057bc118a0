"""Unpacking Debian packages into a folder, without dpkg, root rights or maintainer scripts.

What the scripts would do for the packages that we use (links, caches) is of no use in an image.
"""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from gvmi.errors import BadImage

_AR_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60
_OTHER_MODES: dict[bytes, Literal["r:gz", "r:bz2"]] = {b"\x1f\x8b": "r:gz", b"BZh": "r:bz2"}
_XZ_MAGIC = b"\xfd7zXZ\0"
_XZ_MEMORY_BYTES = 128 << 20
"""Twice what `xz -9` needs."""

_BLOCK_BYTES = 64 << 10
MERGED = ("bin", "lib", "lib64", "sbin")
"""Folders at the top that are links into /usr, as on every Debian since 12."""


def merge_usr(root: Path) -> None:
    """Make the links at the top of an empty root, before anything is unpacked into it."""
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")


def unpack(
    packages: Sequence[Path], root: Path, wanted: Callable[[str], bool] = lambda path: True
) -> None:
    """Unpack packages over each other into `root`; `wanted` is asked for each path ("usr/bin/x",
    of a folder "usr/bin/").

    Owners are not kept, modes are, but for set-id bits.

    Raises:
        BadImage: a file is no Debian package, or leads out of the root.
    """
    merge_usr(root)
    shell = root / "usr/bin/sh"  # made by dash's scripts
    if not shell.is_symlink():
        shell.symlink_to("dash")
    for package in packages:
        try:
            _unpack_one(package, root, wanted)
        except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError) as error:
            raise BadImage(f"{package}: a broken Debian package: {error}") from error


def _unpack_one(package: Path, root: Path, wanted: Callable[[str], bool]) -> None:
    with _archive(_data(package)) as archive:
        for member in archive:
            path = os.path.normpath(member.name)
            if path == "." or not wanted(f"{path}/" if member.isdir() else path):
                continue
            try:
                _extract(archive, member, _place(path, root), root)
            except (_LeadsOut, FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise BadImage(f"{package}: {member.name!r} {error}") from error


def _archive(data: bytes) -> tarfile.TarFile:
    """Open a tar, packed or not, in bounded memory."""
    if data.startswith(_XZ_MAGIC):
        return tarfile.open(fileobj=io.BufferedReader(_XzReader(data)), mode="r|")
    for magic, mode in _OTHER_MODES.items():
        if data.startswith(magic):
            return tarfile.open(fileobj=io.BytesIO(data), mode=mode)
    return tarfile.open(fileobj=io.BytesIO(data), mode="r:")


class _XzReader(io.RawIOBase):
    """What xz has packed; `lzma.LZMAFile` would take as much memory as the file asks for."""

    def __init__(self, data: bytes) -> None:
        self._packed = io.BytesIO(data)
        self._begin()

    def _begin(self) -> None:
        self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        packed = b""
        while True:
            if self._stream.eof:  # another may follow
                rest = (self._stream.unused_data + self._packed.read()).lstrip(b"\0")
                if not rest:
                    return 0
                self._packed = io.BytesIO(rest)
                self._begin()
            if self._stream.needs_input and not (packed := self._packed.read(_BLOCK_BYTES)):
                raise EOFError("its compressed part ends too soon")
            if found := self._stream.decompress(packed, max_length=len(buffer)):
                buffer[: len(found)] = found
                return len(found)
            packed = b""


class _LeadsOut(Exception):
    """A path or a hard link is of a place outside of the root."""


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path, root: Path) -> None:
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.islnk():
        source = _place(os.path.normpath(member.linkname), root)
        if not source.is_file() and not source.is_symlink():
            raise _LeadsOut(f"is a hard link to {member.linkname!r}, which is no file in the root")
        if source != target:
            target.unlink(missing_ok=True)
            os.link(source, target, follow_symlinks=False)
    elif member.issym():
        target.unlink(missing_ok=True)
        target.symlink_to(member.linkname)
    elif member.isreg():
        content = archive.extractfile(member)
        assert content is not None
        # not written over: a link there would be followed, another name of the file would change
        target.unlink(missing_ok=True)
        target.write_bytes(content.read())
        target.chmod(0o755 if member.mode & 0o100 else 0o644)


def _place(path: str, root: Path) -> Path:
    """Return where a package's path lies in the root here; raises `_LeadsOut`."""
    top, _, rest = path.partition("/")
    if top in MERGED:
        path = f"usr/{path}" if rest else f"usr/{top}"
    target = root / path
    if path.startswith(("/", "..")) or not _is_below(target.parent, root):
        raise _LeadsOut("leads out of the root")
    return target


def _is_below(folder: Path, root: Path) -> bool:
    return folder.resolve().is_relative_to(root.resolve())


def _data(package: Path) -> bytes:
    """Return the archive of a package's files (`data.tar.*`) out of the `ar` file that it is."""
    raw = package.read_bytes()
    if not raw.startswith(_AR_MAGIC):
        raise BadImage(f"{package}: not a Debian package")
    position = len(_AR_MAGIC)
    while position + _HEADER_BYTES <= len(raw):
        header = raw[position : position + _HEADER_BYTES]
        name, digits = header[:16].strip().rstrip(b"/"), header[48:58].strip()
        size = int(digits) if digits.isdigit() else len(raw)
        position += _HEADER_BYTES
        if position + size > len(raw):
            raise BadImage(f"{package}: a truncated or broken Debian package")
        if name.startswith(b"data.tar"):
            return raw[position : position + size]
        position += size + size % 2
    raise BadImage(f"{package}: a Debian package without files")
