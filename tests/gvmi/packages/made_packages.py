"""Debian packages and wheels, made on the spot."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

Entry = tuple[tarfile.TarInfo, bytes]


def entry(
    name: str,
    content: bytes = b"",
    mode: int = 0o644,
    link: str = "",
    kind: bytes = tarfile.REGTYPE,
) -> Entry:
    """A member of a package's archive."""
    info = tarfile.TarInfo(name)
    info.mode, info.linkname, info.type = mode, link, kind
    info.size = len(content)
    info.uid = info.gid = 1234
    info.mtime = 1_700_000_000
    return info, content


def folder(name: str) -> Entry:
    """A folder in a package's archive."""
    return entry(name, mode=0o755, kind=tarfile.DIRTYPE)


def link(name: str, target: str) -> Entry:
    """A symbolic link in a package's archive."""
    return entry(name, mode=0o777, link=target, kind=tarfile.SYMTYPE)


def hard_link(name: str, target: str) -> Entry:
    """Another name of an earlier file in a package's archive."""
    return entry(name, link=target, kind=tarfile.LNKTYPE)


def ar_member(name: str, content: bytes) -> bytes:
    """A member of an `ar` file, as ar(5) describes it."""
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
    return header + content + b"\n" * (len(content) % 2)


def deb_bytes(*members: Entry, compression: str = "xz") -> bytes:
    """A Debian package with these members, as deb(5) describes it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return (
        b"!<arch>\n"
        + ar_member("debian-binary", b"2.0\n")
        + ar_member("control.tar.gz/", b"odd")
        + ar_member(f"data.tar.{compression}".rstrip("."), packed.getvalue())
    )


def write_deb(path: Path, *members: Entry, compression: str = "xz") -> Path:
    """Write such a package and return its path."""
    path.write_bytes(deb_bytes(*members, compression=compression))
    return path


def write_wheel(
    where: Path,
    name: str,
    files: Mapping[str, str],
    *,
    metadata: str = "",
    scripts: str = "",
    tag: str = "py3-none-any",
) -> Path:
    """Write version 1.0 of a wheel with these files, named by their paths in site-packages."""
    info = f"{name}-1.0.dist-info"
    content = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n{metadata}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: a\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    if scripts:
        content[f"{info}/entry_points.txt"] = f"[console_scripts]\n{scripts}\n"
    record = [f"{place},sha256={_digest(text)},{len(text)}" for place, text in content.items()]
    content[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    path = where / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in content.items():
            archive.writestr(zipfile.ZipInfo(place, (2026, 1, 1, 0, 0, 0)), text)
    return path


def _digest(text: str) -> str:
    return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
