"""Listing and reading a squashfs: strictly, and within bounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gvmi.errors import BadImage, MachineUnfit
from gvmi.verification import squashfs
from gvmi.verification.squashfs import Entry, list_squashfs, parse_line, read_member
from gvmi.verification.tree import LeadsOut, Tree
from tests.gvmi.verification.conftest import MakeImage

FILE = "-rwxr-x--- 0/1000               12345 2023-11-14 22:13 P/usr/bin/sh"


def test_a_line_is_read() -> None:
    assert parse_line(FILE, "P") == Entry(
        "/usr/bin/sh", "-", "rwxr-x---", 0, 1000, 12345, "2023-11-14 22:13"
    )
    link = parse_line("lrwxrwxrwx 0/0                       2 2023-11-14 22:13 P/x y -> sh", "P")
    assert link is not None and (link.path, link.target) == ("/x y", "sh")
    device = parse_line("brw------- 0/0                   8,  1 2023-11-14 22:13 P/dev", "P")
    assert device is not None and (device.kind, device.size_bytes) == ("b", 0)
    root = parse_line("drwxr-xr-x 0/0                      74 2023-11-14 22:13 P", "P")
    assert root is not None and root.path == "/" and root.is_folder


@pytest.mark.parametrize(
    "line",
    [
        "",
        FILE.replace("P/", "Q/"),
        FILE.replace("P/usr", "Pusr"),
        FILE.replace("-rwx", "?rwx"),
        FILE.replace("0/1000", "root/root"),
        FILE.replace("12345", "8,  1"),
        FILE.replace("12345", "-1"),
        FILE.replace("12345", "1" * 21),
        FILE.replace("2023-11-14", "yesterday"),
        FILE.replace("usr/bin", "usr/../bin"),
        FILE.replace("usr/bin", "usr//bin"),
        FILE.replace("usr/bin", "./bin"),
        FILE + "/",
        FILE.replace("-rwx", "lrwx", 1),
        FILE.replace("-rwx", "lrwx", 1) + " -> a -> b",
        FILE.replace("-rwx", "brwx", 1),
    ],
)
def test_any_other_line_is_not(line: str) -> None:
    assert parse_line(line, "P") is None


@given(st.text() | st.text().map(lambda text: FILE + text) | st.from_regex(squashfs._LINE))
def test_arbitrary_lines_are_read_or_not(line: str) -> None:
    entry = parse_line(line, "P")
    assert entry is None or (entry.path.startswith("/") and "/../" not in entry.path)


def test_files_are_read_within_bounds(make_image: MakeImage) -> None:
    image = make_image({"etc/twelve": "x" * 12, "etc/a*": "star", "etc/ab": "ab"})
    assert {"/etc/twelve", "/etc/a*"} <= {entry.path for entry in list_squashfs(image)}
    assert read_member(image, "/etc/twelve", 12) == b"x" * 12
    assert read_member(image, "/etc/a*", 12) == b"star"
    with pytest.raises(BadImage, match="'/etc/twelve' in it has more than 11 bytes"):
        read_member(image, "/etc/twelve", 11)
    for path in ("/etc/none", "/etc", "/etc/*"):
        with pytest.raises(BadImage, match="cannot be read"):
            read_member(image, path, 100)


def test_too_many_names(make_image: MakeImage, monkeypatch: pytest.MonkeyPatch) -> None:
    image = make_image()
    monkeypatch.setattr(squashfs, "MAX_ENTRIES", 10)
    with pytest.raises(BadImage, match="more than 10 names"):
        list_squashfs(image)


def test_too_long_names(make_image: MakeImage, monkeypatch: pytest.MonkeyPatch) -> None:
    image = make_image()
    monkeypatch.setattr(squashfs, "MAX_LISTING_BYTES", 500)
    with pytest.raises(BadImage, match="500 bytes of them"):
        list_squashfs(image)


def test_a_child_that_does_not_end(
    make_image: MakeImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make_image()
    stuck = tmp_path / "stuck" / "unsquashfs"
    stuck.parent.mkdir()
    stuck.write_text("#!/bin/sh\nexec sleep 600\n")
    stuck.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stuck.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(squashfs, "MAX_SECONDS", 1)
    with pytest.raises(BadImage, match="did not come to an end in 1 s"):
        list_squashfs(image)


def test_without_the_program_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineUnfit) as error:
        list_squashfs(tmp_path / "image")
    assert error.value.fix == "apt install squashfs-tools"


def entries(*names: str) -> Tree:
    """A tree of folders, files (`a`) and links (`a -> b`)."""
    found = []
    for name in names:
        path, _, target = name.partition(" -> ")
        kind = "l" if target else ("d" if path.endswith("/") else "-")
        plain = path.rstrip("/") or "/"
        found.append(Entry(plain, kind, "rwxr-xr-x", 0, 0, 0, "", target))
    return Tree(found)


TREE = entries(
    "/",
    "/usr/",
    "/usr/bin/",
    "/usr/bin/dash",
    "/bin -> usr/bin",
    "/usr/bin/sh -> dash",
    "/usr/bin/up -> ../../usr/bin/sh",
    "/usr/bin/abs -> /bin/sh",
    "/a -> b",
    "/b -> a",
)


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("/bin/sh", "/usr/bin/dash"),
        ("/bin/up", "/usr/bin/dash"),
        ("/bin/abs", "/usr/bin/dash"),
        ("/bin/../bin/dash", "/usr/bin/dash"),
        ("/usr/bin/..", "/usr"),
        ("/a", None),
        ("/nothing/at/all", None),
    ],
)
def test_links_are_followed_as_by_the_kernel(path: str, leads_to: str | None) -> None:
    found = TREE.find(path)
    assert (found and found.path) == leads_to


@pytest.mark.parametrize("path", ["/..", "/bin/../../..", "/none/../../x"])
def test_a_way_above_the_root_is_told(path: str) -> None:
    with pytest.raises(LeadsOut):
        TREE.find(path)
