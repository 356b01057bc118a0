"""GVMI files: a trailer computed by hand, what is sound is read, all else is refused by name."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requestor.mock_golem.images.gvmi_file import (
    MAX_SETTINGS_BYTES,
    ImageError,
    image_hash,
    read_gvmi,
    trailer,
)

NO_TABLE = 0xFFFF_FFFF_FFFF_FFFF
SETTINGS = {
    "Env": ["PATH=/opt/derl/bin:/bin", "EMPTY=", "EQUAL=a=b"],
    "WorkingDir": "/golem/work",
    "Volumes": {"/golem/work": {}},
    "Labels": {"derl.variant": "native"},
}


def superblock(**changes: int) -> bytes:
    """96 bytes as the kernel's documentation lays them out."""
    fields = {
        "magic": 0x73717368,
        "inodes": 3,
        "modified": 1_700_000_000,
        "block": 131072,
        "fragments": 0,
        "compression": 3,
        "block_log": 17,
        "flags": 0xC0,
        "ids": 1,
        "major": 4,
        "minor": 0,
        "root": 0,
        "used": 200,
        "id_table": 190,
        "xattr": NO_TABLE,
        "inode_table": 96,
        "folder_table": 120,
        "fragment_table": NO_TABLE,
        "lookup": NO_TABLE,
    } | changes
    return struct.pack("<5I6H8Q", *fields.values())


def write(path: Path, content: Any = SETTINGS, body: bytes | None = None) -> Path:
    """An image file with these settings (an object, or the very bytes)."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    squashfs = superblock() + bytes(104) if body is None else body
    path.write_bytes(squashfs + trailer(raw))
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write(tmp_path / "image.gvmi")


def test_the_trailer_is_what_a_hand_computes() -> None:
    # `printf '{}' | gzip -c | tail -c 8` ends with the CRC 43 bf a6 a3 and the length
    assert trailer(b"{}") == b"\x43\xbf\xa6\xa3{}00000002"
    with pytest.raises(ValueError, match="at most"):
        trailer(bytes(MAX_SETTINGS_BYTES + 1))


def test_what_is_sound_is_read(image: Path) -> None:
    found = read_gvmi(image)
    assert found.size_bytes == image.stat().st_size == 200 + 12 + len(json.dumps(SETTINGS))
    assert found.squashfs.compression == "lzo"
    assert (found.squashfs.inodes, found.squashfs.size_bytes) == (3, 200)
    assert found.settings.environment == {
        "PATH": "/opt/derl/bin:/bin",
        "EMPTY": "",
        "EQUAL": "a=b",
    }
    assert found.settings.working_dir == "/golem/work"
    assert found.settings.volumes == ("/golem/work",)
    assert found.settings.user == "root"
    assert found.settings.labels == {"derl.variant": "native"}


def test_paths_are_told_in_their_plain_form(tmp_path: Path) -> None:
    odd = {"Volumes": {"//golem/./work/": {}, "/golem/work": {}}, "WorkingDir": "/golem/work//"}
    found = read_gvmi(write(tmp_path / "odd", odd)).settings
    assert (found.volumes, found.working_dir) == (("/golem/work",), "/golem/work")


@pytest.mark.parametrize("content", [{}, {"Env": None, "Volumes": None, "Labels": None}])
def test_settings_may_say_nothing(tmp_path: Path, content: Any) -> None:
    found = read_gvmi(write(tmp_path / "bare", content)).settings
    assert (found.environment, found.working_dir, found.volumes) == ({}, "/", ())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"[]", "no JSON object"),
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a": 1' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        ('{"User": "me"}'.encode("utf-16"), "not JSON"),
        (b'{"User": "\xff"}', "not JSON"),
        (b'{"Env": [], "Env": ["A=1"]}', "'Env' twice"),
        ({"Env": ["A"]}, "not NAME=VALUE"),
        ({"Env": ["=A=1"]}, "not NAME=VALUE"),
        ({"Env": ["A=1", "A=2"]}, "sets 'A' twice"),
        ({"Env": ["A=\0"]}, "Env in the trailer holds"),
        ({"Env": ["A=\ud800"]}, "Env in the trailer holds"),
        ({"Env": ["A=1\nB=2"]}, "Env in the trailer holds"),
        ({"Env": [1]}, "Env in the trailer holds"),
        ({"Env": {"A": "1"}}, "no list of at most 1024 texts"),
        ({"Env": False}, "no list of at most"),
        ({"Env": [f"A{i}=1" for i in range(1025)]}, "no list of at most"),
        ({"Volumes": ["/a"]}, "no dict of at most"),
        ({"Volumes": {"a": {}}}, "no absolute path"),
        ({"Volumes": {"/a/../b": {}}}, "no absolute path"),
        ({"Volumes": {"/\x1b[31m": {}}}, "no absolute path"),
        ({"Volumes": {"/": {}}}, "the whole root is a volume"),
        ({"Volumes": {"//.": {}}}, "the whole root is a volume"),
        ({"Volumes": {f"/{i}": {} for i in range(65)}}, "65 volumes"),
        ({"WorkingDir": "work"}, "no absolute path"),
        ({"WorkingDir": 0}, "WorkingDir in the trailer is no text"),
        ({"User": "\x07"}, "User in the trailer is no text"),
        ({"Labels": {"a": 1}}, "label 'a'"),
        ({"Labels": {"\x1b": "1"}}, "label"),
    ],
)
def test_odd_settings_are_refused_by_name(tmp_path: Path, content: Any, complaint: str) -> None:
    with pytest.raises(ImageError, match=complaint):
        read_gvmi(write(tmp_path / "image.gvmi", content))


def test_a_label_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    labels = {"Labels": {"a": "\x1b]0;x\x07" + "y" * 5000}}
    shown = read_gvmi(write(tmp_path / "image.gvmi", labels)).settings.labels["a"]
    assert shown.startswith("?]0;x?y") and len(shown) == 1000


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"magic": 1}, "does not begin with `hsqs`"),
        ({"major": 3}, r"squashfs 3\.0"),
        ({"compression": 6}, "zstd, which the kernel of Golem's runtime cannot read"),
        ({"compression": 99}, r"unknown \(99\)"),
        ({"block": 0}, "blocks of 0 bytes"),
        ({"block_log": 16}, r"blocks of 131072 bytes \(2 to the 16\)"),
        ({"block": 1 << 21, "block_log": 21}, "blocks of"),
        ({"used": 1 << 40}, "claims 1099511627776 bytes"),
        ({"used": 201}, "claims 201 bytes, and the file holds 200"),
        ({"inode_table": 200}, "tables beyond its own end"),
        ({"id_table": NO_TABLE}, "tables beyond its own end"),
        ({"lookup": 5000}, "tables beyond its own end"),
    ],
)
def test_a_superblock_that_lies(tmp_path: Path, change: dict[str, int], complaint: str) -> None:
    with pytest.raises(ImageError, match=complaint):
        read_gvmi(write(tmp_path / "image.gvmi", body=superblock(**change) + bytes(104)))


@pytest.mark.parametrize(
    ("digits", "complaint"),
    [
        (b"99999999", "claims 99999999 bytes"),
        (b"00000000", "checksum"),
        (b"00001000", "claims 1000 bytes"),
        (b"-0000001", "no GVMI trailer"),
        (b"0000000\xb2", "no GVMI trailer"),
        (b" 0000002", "no GVMI trailer"),
    ],
)
def test_a_trailer_that_lies(image: Path, digits: bytes, complaint: str) -> None:
    image.write_bytes(image.read_bytes()[:-8] + digits)
    with pytest.raises(ImageError, match=complaint):
        read_gvmi(image)


def test_cut_off_anywhere_it_is_refused(image: Path) -> None:
    whole = image.read_bytes()
    for length in range(len(whole)):
        image.write_bytes(whole[:length])
        with pytest.raises(ImageError):
            read_gvmi(image)


def test_one_changed_byte_of_the_trailer_is_seen_and_changes_the_hash(image: Path) -> None:
    whole = image.read_bytes()
    named = image_hash(image)
    assert named == hashlib.sha3_224(whole).hexdigest() and len(named) == 56
    for place in range(200, len(whole)):
        image.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert image_hash(image) != named
        with pytest.raises(ImageError):
            read_gvmi(image)


def test_progress_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes((2 << 20) + 5))
    told: list[int] = []
    image_hash(file, told.append)
    assert told == [1 << 20, 2 << 20, (2 << 20) + 5]


@pytest.mark.parametrize("read", [read_gvmi, image_hash])
def test_what_is_no_file(tmp_path: Path, read: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, complaint in {
        tmp_path: "not a regular file",
        tmp_path / "pipe": "not a regular file",  # and is not waited for
        tmp_path / "gone": "No such file",
        Path("nul\0"): "is no path",
    }.items():
        with pytest.raises(ImageError, match=complaint):
            read(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    head=st.binary(max_size=200) | st.just(superblock() + bytes(104)),
    content=st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["Env", "Volumes", "WorkingDir", "User", "Labels"]) | st.text(),
                inner,
            )
        ),
    ).map(lambda found: json.dumps(found).encode()),
    end=st.none() | st.binary(max_size=20),
)
def test_arbitrary_bytes_are_read_or_refused(
    tmp_path: Path, head: bytes, content: bytes, end: bytes | None
) -> None:
    path = tmp_path / "any"
    path.write_bytes(head + (trailer(content) if end is None else content + end))
    try:
        found = read_gvmi(path)
    except ImageError as error:
        assert str(error).isprintable()
    else:
        assert all(place.startswith("/") for place in found.settings.volumes)


def test_a_huge_file_is_read_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    raw = json.dumps({"Env": ["A=" + "x" * 900_000]}).encode()
    with path.open("wb") as file:
        file.write(superblock(used=(50 << 30)))
        file.seek(50 << 30)
        file.write(trailer(raw))
    tracemalloc.start()
    try:
        assert read_gvmi(path).size_bytes > 50 << 30
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(shutil.which("mksquashfs") is None, reason="needs squashfs-tools")
@pytest.mark.parametrize("compression", ["gzip", "lzo", "xz", "lz4"])
def test_what_mksquashfs_writes(tmp_path: Path, compression: str) -> None:
    folder, squashfs = tmp_path / "root", tmp_path / "root.squashfs"
    folder.mkdir()
    (folder / "file").write_bytes(b"x" * 10_000)
    subprocess.run(
        ["mksquashfs", folder, squashfs, "-comp", compression, "-quiet", "-no-progress"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    whole = squashfs.read_bytes()
    path = write(tmp_path / "image.gvmi", body=whole)
    found = read_gvmi(path)
    assert found.squashfs.compression == compression
    assert (found.squashfs.inodes, found.squashfs.block_bytes) == (2, 131072)
    assert 0 <= len(whole) - found.squashfs.size_bytes < 4096
    assert zlib.crc32(json.dumps(SETTINGS).encode()).to_bytes(4, "little") in path.read_bytes()
