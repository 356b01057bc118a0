"""Archives for the kernel: against bytes written out by hand, and as busybox's kin list them."""

import shutil
import subprocess

import pytest

from gvmi.booting.cpio_archive import Entry, file_entry, write_cpio


def test_the_bytes_are_those_of_the_format() -> None:
    def header(inode: int, mode: int, links: int, size: int, name_bytes: int) -> bytes:
        return (
            b"070701"
            + b"%08x%08x" % (inode, mode)
            + b"00000000" * 2
            + (b"%08x" % links + b"00000000" + b"%08x" % size + b"00000000" * 4)
            + b"%08x" % name_bytes
            + b"00000000"
        )

    # names and contents are padded to multiples of 4; a header has 110 bytes
    expected = (
        header(1, 0o100755, 1, 5, 5) + b"init\0" + b"\0" + b"hello" + b"\0\0\0"
        + header(0, 0, 1, 0, 11) + b"TRAILER!!!\0" + b"\0\0\0"
    )  # fmt: skip
    assert write_cpio({"init": file_entry(b"hello", 0o755)}) == expected


def test_folders_on_the_way_come_before_what_is_in_them() -> None:
    archive = write_cpio({"a/b/c": file_entry(b""), "a/link": Entry(0o120777, b"b/c")})
    places = [archive.index(name + b"\0") for name in (b"a", b"a/b", b"a/b/c", b"a/link")]
    assert places == sorted(places)
    assert archive.count(b"000041ed") == 2  # drwxr-xr-x


@pytest.mark.skipif(shutil.which("cpio") is None, reason="no cpio on this machine")
def test_cpio_lists_what_was_put_in() -> None:
    archive = write_cpio({"bin/x": file_entry(b"12345"), "init": file_entry(b"1", 0o755)})
    listed = subprocess.run(["cpio", "-t"], input=archive, capture_output=True, check=True)
    assert listed.stdout.decode().split() == ["bin", "bin/x", "init"]


def test_the_order_of_entries_does_not_matter() -> None:
    one, other = file_entry(b"1"), file_entry(b"2")
    assert write_cpio({"a": one, "b": other}) == write_cpio({"b": other, "a": one})
