"""Readers of image files, packages and their locks."""

from __future__ import annotations

import io
import json
import shutil
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import zstandard

from gvmi.errors import BadImage
from gvmi.image_lock import read_lock
from gvmi.packages.debian_packages import unpack
from gvmi.packages.package_locks import read_debian_lock
from gvmi.packages.ubuntu_packages import in_debians_form
from gvmi.verification.squashfs import parse_line
from requestor.mock_golem.images.descriptor import DescriptorError, parse_descriptor
from requestor.mock_golem.images.gvmi_file import ImageError, image_hash, read_gvmi
from tests.fuzz.dice import Dice
from tests.fuzz.target import Target

SETTINGS: dict[str, Any] = {
    "Env": ["PATH=/bin", "A=b"],
    "WorkingDir": "/golem/work",
    "Volumes": {"/golem/work": {}, "/golem/other": {}},
    "User": "nobody:nogroup",
    "Labels": {"a": "b"},
}
_AR_MAGIC = b"!<arch>\n"


def read_image(data: bytes, folder: Path) -> None:
    """Read a file as an image."""
    path = folder / "image.gvmi"
    path.write_bytes(data)
    image_hash(path)
    image = read_gvmi(path)
    texts = (image.settings.user, image.settings.working_dir, *image.settings.labels.values())
    if not all(text.isprintable() for text in texts):
        raise AssertionError("text that is not fit for a terminal")


def built_image(data: bytes) -> bytes:
    """An image whose superblock and checksum fit, mostly."""
    dice = Dice(data)
    used = 96 + dice.below(200)
    log = 17 if dice.below(8) else dice.below(70)
    tables = [used - 1 - dice.below(90) for _ in range(6)]
    if dice.below(8) == 7:
        tables[dice.below(6)] = dice.pick((0, (1 << 64) - 1, used, used + 5))
    numbers = (1, 0, 1 << min(log, 31), 0, dice.pick((1, 3, 4, 5, 6, 2, 0, 77)), log, 0, 1)
    version = (4, 0) if dice.below(8) else (dice.below(6), dice.below(3))
    head = struct.pack("<4sIIIIHHHH", b"hsqs", *numbers)
    head += struct.pack("<HHQQQQQQQQ", *version, 0, used, *tables)
    words = ("/", "/a/../b", "a=b", "=", "\n", "\0", "/golem/work", "Env", "User", *SETTINGS)
    text = json.dumps(dice.spoilt(SETTINGS, words)) if dice.below(8) else dice.text()
    settings = text.encode(errors="surrogatepass")
    trailer = struct.pack("<I", zlib.crc32(settings)) + settings + b"%08d" % len(settings)
    return head.ljust(used, b"\0") + trailer


def read_descriptor(data: bytes, folder: Path) -> None:
    """Read a descriptor: the bytes themselves, or a head that fits them."""
    if data[:1] == b"\1":
        size, chunk = len(data) * 10, 100
        data = struct.pack(">QQQ", 0x333333334, size, chunk) + data[:28].ljust(28, b"\0")
        data += bytes(32 * -(-size // chunk))
    found = parse_descriptor(data)
    if sum(map(found.length, range(len(found.chunks)))) != found.size_bytes:
        raise AssertionError("the chunks are not the file")


def read_package(data: bytes, folder: Path) -> None:
    """Unpack a Debian package, Ubuntu's form included; nothing may appear outside of the root."""
    outer = folder / "outer"
    shutil.rmtree(outer, ignore_errors=True)
    root = outer / "root"
    root.mkdir(parents=True)
    (outer / "p.deb").write_bytes(data)
    package = in_debians_form(outer / "p.deb")
    try:
        unpack([package], root)
    finally:
        if {path.name for path in outer.iterdir()} - {"root", "p.deb", "p.unpacked.deb"}:
            raise AssertionError("a package wrote outside of its root")


def built_package(data: bytes) -> bytes:
    """An `ar` file around a tar of drawn members, plain or compressed."""
    dice = Dice(data)
    names = ("./", "usr/bin/a", "bin/x", "../out", "/abs", "lib", "usr", "a/b/c", "usr/bin/sh", "l")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for _ in range(dice.below(8)):
            member = tarfile.TarInfo(dice.pick(names) if dice.below(8) else dice.text() or "x")
            member.type = dice.pick(
                (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, b"3", b"6")
            )
            member.linkname = dice.pick((*names, "..", "/", "../../.."))
            member.mode = dice.pick((0o755, 0o644, 0, 0o7777))
            body = dice.take(dice.below(20)) if member.isreg() else b""
            member.size = len(body)
            try:
                archive.addfile(member, io.BytesIO(body))
            except (ValueError, UnicodeError):
                continue
    raw = bytearray(content.getvalue())
    if dice.below(4) == 3 and raw:
        raw[dice.below(len(raw))] ^= 1 + dice.below(255)
    name, packed = b"data.tar", bytes(raw)
    if dice.flag():
        name, packed = b"data.tar.zst", zstandard.ZstdCompressor().compress(packed)
        packed = packed[: len(packed) - dice.below(3)]
    header = b"%-16s%-12d%-6d%-6d%-8o%-10d`\n" % (name, 0, 0, 0, 0o100644, len(packed))
    return _AR_MAGIC + header + packed


def read_locks(data: bytes, folder: Path) -> None:
    """Read a file as both kinds of lock, and as a line of a listing."""
    path = folder / "lock.yaml"
    path.write_bytes(data)
    refused = 0
    for read in (read_lock, read_debian_lock):
        try:
            read(path)
        except BadImage:
            refused += 1
    if refused == 2:
        raise BadImage("no lock", fix="")


def read_listing(data: bytes, folder: Path) -> None:
    """Read a line of the listing of a file system."""
    parse_line(data.decode(errors="surrogateescape"), "squashfs-root")


DEBIAN_LOCK = b"""\
date: 20261120T000000Z
sections:
  base:
  - {name: ab, version: '1', path: debian/pool/x.deb, size: 5, sha256: %s}
""" % (b"a" * 64)
IMAGE_LOCK = b"native: {sha3: %s, size_bytes: 5, sources: a, commit: b, tag: c}\n" % (b"a" * 56)

TARGETS = (
    Target("image", read_image, (ImageError,), lambda: [built_image(b"\1" * 300)]),
    Target(
        "built-image",
        lambda data, folder: read_image(built_image(data), folder),
        (ImageError,),
        max_bytes=1024,
    ),
    Target("descriptor", read_descriptor, (DescriptorError,)),
    Target("package", read_package, (BadImage,), lambda: [built_package(bytes(range(90)))]),
    Target(
        "built-package",
        lambda data, folder: read_package(built_package(data), folder),
        (BadImage,),
        max_bytes=512,
    ),
    Target("locks", read_locks, (BadImage,), lambda: [DEBIAN_LOCK, IMAGE_LOCK]),
    Target(
        "listing",
        read_listing,
        (BadImage,),
        lambda: [
            b"-rw-r--r-- 0/0                 5 2026-11-20 00:00 squashfs-root/a",
            b"lrwxrwxrwx 0/0                 5 2026-11-20 00:00 squashfs-root/b -> c",
        ],
        max_bytes=256,
    ),
)
