"""Unpacking Debian packages into a folder, without dpkg, root rights or maintainer scripts.

What the scripts would do for the packages that we use (links, caches) is of no use in an image.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from gvmi.errors import BadImage

_AR_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60
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
    """Unpack packages over each other into `root`; `wanted` is asked for each path ("usr/bin/x").

    Owners are not kept, modes are, but for set-id bits.

    Raises:
        BadImage: a file is no Debian package, or leads out of the root.
    """
    merge_usr(root)
    shell = root / "usr/bin/sh"  # made by dash's scripts
    if not shell.is_symlink():
        shell.symlink_to("dash")
    for package in packages:
        with tarfile.open(fileobj=io.BytesIO(_data(package))) as archive:
            for member in archive:
                path = os.path.normpath(member.name)
                if path == "." or not (member.isdir() or wanted(path)):
                    continue
                _extract(archive, member, path, root, package)


def _extract(
    archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, root: Path, package: Path
) -> None:
    top, _, rest = path.partition("/")
    if top in MERGED:
        if not rest:
            return
        path = f"usr/{path}"
    target = root / path
    if path.startswith(("/", "..")) or not _is_below(target.parent, root):
        raise BadImage(f"{package}: {member.name!r} leads out of the root")
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if member.issym():
        target.symlink_to(member.linkname)
    elif member.islnk():
        source = os.path.normpath(member.linkname)
        source = f"usr/{source}" if source.split("/")[0] in MERGED else source
        os.link(root / source, target, follow_symlinks=False)
    elif member.isreg():
        content = archive.extractfile(member)
        assert content is not None
        target.write_bytes(content.read())
        target.chmod(0o755 if member.mode & 0o100 else 0o644)


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
        name, size = header[:16].strip().rstrip(b"/"), int(header[48:58])
        position += _HEADER_BYTES
        if name.startswith(b"data.tar"):
            return raw[position : position + size]
        position += size + size % 2
    raise BadImage(f"{package}: a Debian package without files")
