"""Packages of Ubuntu, packed with zstd, unpack as Debian's do."""

import io
import tarfile
from pathlib import Path

import pytest
import zstandard

from gvmi.errors import BadImage
from gvmi.packages.debian_packages import unpack
from gvmi.packages.ubuntu_packages import in_debians_form


def member(name: str, data: bytes) -> bytes:
    """One entry of an `ar` file, as the format's description has it."""
    fields = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n"
    return fields.encode() + data + b"\n" * (len(data) % 2)


def package(folder: Path, data: tuple[str, bytes]) -> Path:
    path = folder / "one.deb"
    parts = [member("debian-binary", b"2.0\n"), member("control.tar.zst", b"odd"), member(*data)]
    path.write_bytes(b"!<arch>\n" + b"".join(parts))
    return path


def files(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("./usr/lib/libcuda.so.1")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def test_a_package_of_zstd_unpacks(tmp_path: Path) -> None:
    packed = package(tmp_path, ("data.tar.zst", zstandard.compress(files(b"driver"))))
    root = tmp_path / "root"
    root.mkdir()
    unpack([in_debians_form(packed)], root)
    assert (root / "usr/lib/libcuda.so.1").read_bytes() == b"driver"


def test_debians_own_packages_stay_as_they_are(tmp_path: Path) -> None:
    plain = package(tmp_path, ("data.tar", files(b"x")))
    assert in_debians_form(plain) == plain


@pytest.mark.parametrize("damage", [b"no zstd", zstandard.compress(b"x" * 9000)[:12]])
def test_a_broken_one_is_named(tmp_path: Path, damage: bytes) -> None:
    packed = package(tmp_path, ("data.tar.zst", damage))
    with pytest.raises(BadImage, match=r"one\.deb"):
        unpack([in_debians_form(packed)], tmp_path)
