"""Unpacking Debian packages: what arrives, with what modes, and what may not leave the root."""

from __future__ import annotations

import lzma
import os
import random
import stat
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from gvmi.errors import BadImage
from gvmi.packages.debian_packages import unpack
from tests.gvmi.packages.made_packages import (
    Entry,
    ar_member,
    deb_bytes,
    entry,
    folder,
    hard_link,
    link,
    write_deb,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty root, and beside it a file that no package may touch."""
    (tmp_path / "outside").write_text("secret")
    made = tmp_path / "root"
    made.mkdir()
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("compression", ["xz", "gz", "bz2", ""])
def test_files_folders_and_links_arrive(tmp_path: Path, root: Path, compression: str) -> None:
    package = write_deb(
        tmp_path / "a.deb",
        folder("./"),
        folder("./usr/"),
        folder("./usr/share/empty/"),
        entry("./usr/bin/tool", b"#!/bin/sh\n", 0o755),
        entry("./etc/tool.conf", b"x = 1\n", 0o640),
        link("./usr/bin/alias", "tool"),
        compression=compression,
    )
    unpack([package], root)
    assert (root / "usr/bin/tool").read_bytes() == b"#!/bin/sh\n"
    assert mode(root / "usr/bin/tool") == 0o755
    assert mode(root / "etc/tool.conf") == 0o644
    assert os.readlink(root / "usr/bin/alias") == "tool"
    assert os.readlink(root / "usr/bin/sh") == "dash"
    assert (root / "usr/share/empty").is_dir()


def test_set_id_and_other_bits_are_lost_and_devices_left_out(tmp_path: Path, root: Path) -> None:
    package = write_deb(
        tmp_path / "a.deb",
        entry("./usr/bin/su", b"x", 0o6755),
        entry("./usr/bin/odd", b"x", 0o1777),
        entry("./usr/lib/open", b"x", 0o666),
        entry("./dev/null", kind=tarfile.CHRTYPE),
        entry("./run/pipe", kind=tarfile.FIFOTYPE),
    )
    unpack([package], root)
    assert mode(root / "usr/bin/su") == mode(root / "usr/bin/odd") == 0o755
    assert mode(root / "usr/lib/open") == 0o644
    assert not (root / "dev/null").exists()
    assert not (root / "run/pipe").exists()


def test_files_of_merged_folders_arrive_below_usr(tmp_path: Path, root: Path) -> None:
    package = write_deb(
        tmp_path / "a.deb",
        folder("./bin/"),
        entry("./bin/dash", b"shell", 0o755),
        entry("./lib/x86_64-linux-gnu/libc.so.6", b"libc"),
        link("./lib64/ld-linux-x86-64.so.2", "../lib/x86_64-linux-gnu/ld.so"),
        hard_link("./sbin/dash2", "./bin/dash"),
    )
    unpack([package], root)
    assert {name: os.readlink(root / name) for name in ("bin", "lib", "lib64", "sbin")} == {
        "bin": "usr/bin",
        "lib": "usr/lib",
        "lib64": "usr/lib64",
        "sbin": "usr/sbin",
    }
    assert (root / "usr/bin/dash").read_bytes() == b"shell"
    assert (root / "bin/sh").read_bytes() == b"shell"
    assert (root / "usr/lib/x86_64-linux-gnu/libc.so.6").read_bytes() == b"libc"
    assert (root / "usr/sbin/dash2").samefile(root / "usr/bin/dash")
    assert (root / "usr/lib64/ld-linux-x86-64.so.2").is_symlink()


def test_a_later_package_replaces_files_without_changing_their_other_names(
    tmp_path: Path, root: Path
) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    first = write_deb(
        tmp_path / "a.deb",
        entry("./etc/one", b"old"),
        hard_link("./etc/two", "./etc/one"),
        link("./etc/three", "/outside"),
    )
    second = write_deb(tmp_path / "b.deb", entry("./etc/one", b"new"), entry("./etc/three", b"3"))
    unpack([first, second], root)
    assert (root / "etc/one").read_bytes() == b"new"
    assert (root / "etc/two").read_bytes() == b"old"
    assert (root / "etc/three").read_bytes() == b"3"
    assert not (root / "etc/three").is_symlink()


def test_only_wanted_files_arrive(tmp_path: Path, root: Path) -> None:
    package = write_deb(tmp_path / "a.deb", entry("./usr/a/x", b"x"), entry("./usr/b/x", b"x"))
    unpack([package], root, lambda path: not path.startswith("usr/b/"))
    assert (root / "usr/a/x").exists()
    assert not (root / "usr/b/x").exists()


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_files_have_the_same_modes_under_every_umask(
    tmp_path: Path, root: Path, umask: int
) -> None:
    package = write_deb(tmp_path / "a.deb", entry("./a", b"", 0o755), entry("./b", b"", 0o600))
    before = os.umask(umask)
    try:
        unpack([package], root)
    finally:
        os.umask(before)
    assert (mode(root / "a"), mode(root / "b")) == (0o755, 0o644)


HOSTILE: dict[str, Callable[[Path], list[Entry]]] = {
    "a path with dots": lambda outside: [entry("./../outside", b"overwritten")],
    "dots in the middle": lambda outside: [entry("./usr/../../outside", b"overwritten")],
    "an absolute path": lambda outside: [entry(str(outside), b"overwritten")],
    "a folder outside": lambda outside: [folder(f"../{outside.name}-folder")],
    "a link to a folder outside": lambda outside: [
        link("./etc", str(outside.parent)),
        entry("./etc/outside", b"overwritten"),
    ],
    "a link that climbs": lambda outside: [
        link("./usr/way", "../../"),
        entry("./usr/way/outside", b"overwritten"),
    ],
    "a hard link to an absolute path": lambda outside: [hard_link("./etc/stolen", str(outside))],
    "a hard link with dots": lambda outside: [hard_link("./etc/stolen", "../outside")],
    "a hard link through a link": lambda outside: [
        link("./usr/way", "../../"),
        hard_link("./etc/stolen", "usr/way/outside"),
    ],
    "a hard link to nothing": lambda outside: [hard_link("./etc/stolen", "./etc/nothing")],
    "a hard link to a folder": lambda outside: [
        folder("./etc/folder"),
        hard_link("./etc/stolen", "./etc/folder"),
    ],
    "a file for a folder": lambda outside: [folder("./etc/x/y"), entry("./etc/x", b"")],
    "a folder for a file": lambda outside: [entry("./etc/x", b""), entry("./etc/x/y", b"")],
    "a folder for a dangling link": lambda outside: [
        link("./etc/x", "/nothing-that-is-there"),
        folder("./etc/x"),
    ],
}


@pytest.mark.parametrize("how", list(HOSTILE))
def test_what_leads_out_of_the_root_or_cannot_be_is_refused_by_name(
    tmp_path: Path, root: Path, how: str
) -> None:
    outside = tmp_path / "outside"
    package = write_deb(tmp_path / "a.deb", *HOSTILE[how](outside))
    with pytest.raises(BadImage, match=r"a\.deb: '"):
        unpack([package], root)
    assert outside.read_text() == "secret"
    assert outside.stat().st_nlink == 1
    assert {path.name for path in tmp_path.iterdir()} == {"outside", "root", "a.deb"}


def test_a_link_out_is_kept_but_not_followed(tmp_path: Path, root: Path) -> None:
    package = write_deb(
        tmp_path / "a.deb", link("./etc/x", str(tmp_path / "outside")), entry("./etc/x", b"new")
    )
    unpack([package], root)
    assert (root / "etc/x").read_bytes() == b"new"
    assert (tmp_path / "outside").read_text() == "secret"


GOOD = deb_bytes(entry("./usr/share/x", bytes(range(256)) * 40))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"!<arch>\n",
        b"!<arch>\n" + ar_member("debian-binary", b"2.0\n"),
        b"!<arch>\n" + ar_member("data.tar.xz", b"not xz"),
        b"!<arch>\n" + ar_member("data.tar.zst", b"\x28\xb5\x2f\xfd" + bytes(40)),
        b"!<arch>\n" + ar_member("debian-binary", b"").replace(b"0         `", b"-60       `") * 2,
        b"!<arch>\n" + ar_member("debian-binary", b"").replace(b"0         `", b"many      `"),
        b"PK\x03\x04" + GOOD,
        GOOD[:100],
        GOOD[:-30],
        GOOD.replace(b"\xfd7zXZ", b"\xfd7zXY"),
        GOOD[:-60] + bytes(60),
    ],
)
def test_what_is_no_whole_package_is_refused_by_name(
    tmp_path: Path, root: Path, raw: bytes
) -> None:
    package = tmp_path / "broken.deb"
    package.write_bytes(raw)
    with pytest.raises(BadImage, match=r"broken\.deb: .*[Dd]ebian package"):
        unpack([package], root)


def test_no_cut_of_a_package_is_taken_for_the_whole(tmp_path: Path, root: Path) -> None:
    package = tmp_path / "cut.deb"
    for end in range(0, len(GOOD) - 2, 7):
        package.write_bytes(GOOD[:end])
        with pytest.raises(BadImage):
            unpack([package], root)


def asking(dictionary: int) -> bytes:
    """An xz file whose header asks for a dictionary of 2^(dictionary / 2 + 12) bytes.

    The block's header begins at 12: its size in words less one, flags, the filter, the size of its
    settings, the dictionary, padding, and a CRC32 of all that.
    """
    packed = bytearray(lzma.compress(b"x" * 1024, lzma.FORMAT_XZ))
    end = 12 + 4 * packed[12]
    packed[16] = dictionary
    packed[end : end + 4] = zlib.crc32(packed[12:end]).to_bytes(4, "little")
    return bytes(packed)


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (asking(38), "Memory usage limit"),  # 2 GiB
        (b"\x5d\0\0\0\x80" + b"\xff" * 8 + b"\0" * 20, ""),  # LZMA of old, which asks as it likes
    ],
    ids=["a huge dictionary", "another format"],
)
def test_a_packed_part_that_asks_for_much_memory_is_refused(
    tmp_path: Path, root: Path, packed: bytes, reason: str
) -> None:
    package = tmp_path / "a.deb"
    package.write_bytes(b"!<arch>\n" + ar_member("data.tar.xz", packed))
    with pytest.raises(BadImage, match=f"a broken Debian package.*{reason}"):
        unpack([package], root)


@pytest.mark.parametrize("compression", ["xz", "gz", "bz2"])
def test_a_packed_part_that_ends_too_soon_is_refused(
    tmp_path: Path, root: Path, compression: str
) -> None:
    noise = random.Random(0).randbytes(100_000)  # nothing that could be packed
    whole = deb_bytes(entry("./usr/bin/tool", noise), compression=compression)
    package = tmp_path / "a.deb"
    start = whole.index(b"data.tar") + 60
    package.write_bytes(b"!<arch>\n" + ar_member("data.tar", whole[start:-50_000]))
    with pytest.raises(BadImage, match="a broken Debian package"):
        unpack([package], root)


def test_a_packed_part_may_have_more_than_one_stream(tmp_path: Path, root: Path) -> None:
    plain = deb_bytes(entry("./usr/bin/one", b"1"), entry("./usr/bin/two", b"2"), compression="")
    archive = plain[plain.index(b"data.tar") + 60 :]
    streams = lzma.compress(archive[:1024]) + bytes(8) + lzma.compress(archive[1024:])
    package = tmp_path / "a.deb"
    package.write_bytes(b"!<arch>\n" + ar_member("data.tar.xz", streams))
    unpack([package], root)
    assert (root / "usr/bin/one").read_bytes() + (root / "usr/bin/two").read_bytes() == b"12"
