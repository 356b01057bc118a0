"""Fetching locked packages: from a mirror and its archive here, and from a folder of wheels."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gvmi.errors import NotToBeHad
from gvmi.packages import downloads
from gvmi.packages.downloads import cache_folder, fetch_debian, fetch_wheels
from gvmi.packages.package_locks import DebianPackage, PythonPackage
from tests.gvmi.packages.made_packages import write_wheel

DATE = "20261120T000000Z"
CONTENT = b"a package" * 1000
ENDLESS = b"\0"  # sent for ever


@dataclass
class Mirror:
    """A server of files. Answers are bytes, a status, or `None` for something that is no HTTP."""

    url: str
    answers: dict[str, bytes | int | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror and an archive on this machine, and an empty cache."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            answer = found.answers.get(self.path, 404)
            if answer is None:
                self.wfile.write(b"no HTTP at all\r\n\r\n")
                return
            self.send_response(answer if isinstance(answer, int) else 200)
            self.end_headers()
            try:
                while answer is ENDLESS:
                    self.wfile.write(bytes(1 << 16))
            except OSError:
                return
            if isinstance(answer, bytes):
                self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Mirror(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloads, "MIRROR", found.url)
    monkeypatch.setattr(downloads, "ARCHIVE", f"{found.url}/archive")
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def package(name: str = "dash", content: bytes = CONTENT, size: int | None = None) -> DebianPackage:
    return DebianPackage(
        name,
        "1.0",
        f"debian/pool/main/{name}_1.0_amd64.deb",
        len(content) if size is None else size,
        hashlib.sha256(content).hexdigest(),
    )


def on_mirror(name: str = "dash") -> str:
    return f"/debian/pool/main/{name}_1.0_amd64.deb"


def in_archive(name: str = "dash") -> str:
    return f"/archive/debian/{DATE}/pool/main/{name}_1.0_amd64.deb"


def kept() -> list[str]:
    return sorted(path.name for path in (cache_folder() / "downloads").iterdir())


def test_packages_are_fetched_once_and_kept(mirror: Mirror) -> None:
    names = [f"package{number}" for number in range(9)]
    wanted = [package(name, name.encode()) for name in names]
    mirror.answers = {on_mirror(name): name.encode() for name in names}
    said: list[str] = []
    files = fetch_debian(wanted, DATE, said.append)
    assert [file.read_bytes() for file in files] == [name.encode() for name in names]
    assert said == ["fetching 9 Debian packages, 0 MiB"]
    mirror.answers = {}
    assert fetch_debian(wanted, DATE, said.append) == files
    assert len(said) == 1
    assert sorted(mirror.asked) == sorted(on_mirror(name) for name in names)


@pytest.mark.parametrize(
    "first",
    [404, 500, None, b"other content", CONTENT + b"more", CONTENT[:-1], b"", ENDLESS],
    ids=["404", "500", "no HTTP", "other", "too many", "too few", "nothing", "endless"],
)
def test_what_the_mirror_has_not_as_locked_comes_from_the_archive(
    mirror: Mirror, first: bytes | int | None
) -> None:
    mirror.answers = {on_mirror(): first, in_archive(): CONTENT}
    [file] = fetch_debian([package()], DATE, lambda what: None)
    assert file.read_bytes() == CONTENT
    assert mirror.asked == [on_mirror(), in_archive()]
    assert kept() == [file.name]


@pytest.mark.parametrize("answer", [404, None, b"other content", ENDLESS])
def test_what_nobody_has_is_named_with_both_addresses(
    mirror: Mirror, answer: bytes | int | None
) -> None:
    mirror.answers = {on_mirror(): answer, in_archive(): answer}
    with pytest.raises(NotToBeHad, match=r"dash 1\.0 is not to be had") as error:
        fetch_debian([package()], DATE, lambda what: None)
    assert f"{mirror.url}{on_mirror()}" in str(error.value)
    assert f"{mirror.url}{in_archive()}" in str(error.value)
    assert error.value.exit_code == 5
    assert "derl-image lock" in (error.value.fix or "")
    assert kept() == []


def test_without_a_network_everything_kept_is_found_and_the_rest_named(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.answers = {on_mirror("dash"): CONTENT}
    files = fetch_debian([package("dash")], DATE, lambda what: None)
    monkeypatch.setattr(downloads, "MIRROR", "http://127.0.0.1:1")
    monkeypatch.setattr(downloads, "ARCHIVE", "http://127.0.0.1:1/archive")
    assert fetch_debian([package("dash")], DATE, lambda what: None) == files
    with pytest.raises(NotToBeHad, match=r"bash 1\.0 is not to be had.*refused") as error:
        fetch_debian([package("dash"), package("bash", b"b")], DATE, lambda what: None)
    assert "DERL_DEBIAN_MIRROR" in (error.value.fix or "")


def test_a_kept_package_that_has_changed_is_fetched_again(mirror: Mirror) -> None:
    mirror.answers = {on_mirror(): CONTENT}
    [file] = fetch_debian([package()], DATE, lambda what: None)
    file.write_bytes(b"")  # as a computer that lost power leaves it
    assert fetch_debian([package()], DATE, lambda what: None) == [file]
    assert file.read_bytes() == CONTENT


def test_one_package_that_is_not_to_be_had_does_not_lose_the_others(mirror: Mirror) -> None:
    names = ["good", "bad"]
    mirror.answers = {on_mirror("good"): b"good"}
    wanted = [package(name, name.encode()) for name in names]
    with pytest.raises(NotToBeHad, match="bad"):
        fetch_debian(wanted, DATE, lambda what: None)
    assert kept() == [f"{wanted[0].sha256}.deb"]


def test_a_relative_cache_folder_is_not_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/var/somebody")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path("/var/somebody/.cache/derl")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/mine")
    assert cache_folder() == Path("/var/cache/mine/derl")


@dataclass
class Index:
    """A folder of wheels that pip looks into, and nowhere else."""

    folder: Path

    def add(self, name: str, text: str = "", tag: str = "py3-none-any") -> PythonPackage:
        """Add a wheel; return it as locked."""
        wheel = write_wheel(self.folder, name, {f"{name}.py": text}, tag=tag)
        return PythonPackage(name, "1.0", hashlib.sha256(wheel.read_bytes()).hexdigest())


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """Settings for pip that need no network, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    return Index(folder)


def test_wheels_are_fetched_for_the_images_python_once_and_kept(index: Index) -> None:
    index.add("tiny", tag="cp314-cp314-manylinux_2_36_x86_64")
    tiny = index.add("tiny", tag="cp311-cp311-manylinux_2_28_x86_64")
    pure = index.add("pure")
    said: list[str] = []
    files = fetch_wheels([tiny, pure], said.append)
    assert [file.name for file in files] == [
        "tiny-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        "pure-1.0-py3-none-any.whl",
    ]
    for wheel in index.folder.iterdir():
        wheel.unlink()
    assert fetch_wheels([tiny, pure], said.append) == files
    assert said == ["fetching 2 Python packages"]
    files[1].write_bytes(b"damaged")
    with pytest.raises(NotToBeHad, match="pip download failed"):
        fetch_wheels([tiny, pure], said.append)


def test_a_wheel_of_other_content_or_for_another_machine_is_not_taken(index: Index) -> None:
    other = PythonPackage("tiny", "1.0", "0a" * 32)
    index.add("tiny", "other")
    with pytest.raises(NotToBeHad, match="pip download failed") as error:
        fetch_wheels([other], lambda what: None)
    assert "pip's settings" in (error.value.fix or "")
    foreign = index.add("foreign", tag="cp311-cp311-manylinux_2_39_x86_64")
    with pytest.raises(NotToBeHad, match=r"foreign==1\.0"):
        fetch_wheels([foreign], lambda what: None)
    assert list((cache_folder() / "downloads" / "wheels").iterdir()) == []
    assert [path.name for path in (cache_folder() / "downloads").iterdir()] == ["wheels"]
