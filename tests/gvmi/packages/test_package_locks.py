"""Package locks: what is written comes back; what is no lock is refused by name."""

from pathlib import Path

import pytest

from gvmi.errors import BadImage
from gvmi.packages import package_locks
from gvmi.packages.package_locks import (
    DebianLock,
    DebianPackage,
    PythonPackage,
    read_debian_lock,
    read_python_lock,
    write_debian_lock,
    write_python_lock,
)

DASH = DebianPackage(
    "dash", "0.5.12-2", "debian/pool/main/d/dash/dash_0.5.12-2_amd64.deb", 97024, "0a" * 32
)
CPP = DebianPackage(
    "libstdc++6",
    "1:12.2.0-14+deb12u1",
    "debian-security/pool/updates/main/g/gcc-12/libstdc%2b%2b6_12.2.0-14_amd64.deb",
    613024,
    "0b" * 32,
)
TORCH = PythonPackage("torch", "2.13.0+cpu", "0c" * 32)
GOOD_ROW = (
    "{name: dash, version: 0.5.12-2, path: debian/pool/main/d/dash/dash_0.5.12-2_amd64.deb, "
    f"size: 97024, sha256: {'0a' * 32}}}"
)


def lock_of(row: str, date: str = "20261120T000000Z") -> str:
    return f"date: {date}\nsections:\n  root:\n  - {row}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of locks of the test's own."""
    monkeypatch.setattr(package_locks, "LOCKS_FOLDER", tmp_path)
    return tmp_path


def test_debian_packages_come_back(tmp_path: Path) -> None:
    lock = DebianLock("20261120T000000Z", {"root": (DASH, CPP), "build": (DASH,)})
    path = tmp_path / "debian.lock.yaml"
    write_debian_lock(lock, path)
    assert read_debian_lock(path) == lock
    assert read_debian_lock(path).section("root") == (DASH, CPP)
    with pytest.raises(BadImage, match="no Debian packages are locked for 'other'") as error:
        read_debian_lock(path).section("other")
    assert error.value.fix == "lock them: derl-image lock other"


def test_a_lock_that_is_written_by_hand_is_read(tmp_path: Path) -> None:
    path = tmp_path / "debian.lock.yaml"
    path.write_text(lock_of(GOOD_ROW))
    assert read_debian_lock(path) == DebianLock("20261120T000000Z", {"root": (DASH,)})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "[" * 5000,
        "date: 1\nsections: []",
        "date: 20261120T000000Z\nsections: {root: 5}",
        "date: 20261120T000000Z\nsections: {root: [5]}",
        "date: 20261120T000000Z\nsections: {root: [{name: dash}]}",
        lock_of(GOOD_ROW, date="../../../other"),
        lock_of(GOOD_ROW.replace("name: dash", "name: 'da sh'")),
        lock_of(GOOD_ROW.replace("version: 0.5.12-2", "version: 1.10")),
        lock_of(GOOD_ROW.replace("path: debian/", "path: debian/pool/../../")),
        lock_of(GOOD_ROW.replace("path: debian/", "path: https://else.where/debian/")),
        lock_of(GOOD_ROW.replace("debian/pool/main", "debian/pool/main/../..")),
        lock_of(GOOD_ROW.replace("size: 97024", "size: '97024'")),
        lock_of(GOOD_ROW.replace("size: 97024", "size: -1")),
        lock_of(GOOD_ROW.replace("size: 97024", "size: true")),
        lock_of(GOOD_ROW.replace("0a0a", "0A0A")),
        lock_of(GOOD_ROW.replace("0a0a", "")),
    ],
)
def test_what_is_no_debian_lock_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "debian.lock.yaml"
    path.write_text(text)
    with pytest.raises(BadImage, match=r"debian\.lock\.yaml: not a lock") as error:
        read_debian_lock(path)
    assert error.value.fix == "take it from git again"


@pytest.mark.parametrize("raw", [None, b"\xff\xfe\x00"])
def test_a_debian_lock_that_is_not_there_or_no_text_is_refused(
    tmp_path: Path, raw: bytes | None
) -> None:
    path = tmp_path / "debian.lock.yaml"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(BadImage, match="not a lock"):
        read_debian_lock(path)


def test_python_packages_come_back_in_the_order_of_their_names(folder: Path) -> None:
    numpy = PythonPackage("NumPy", "2.3.1", "0d" * 32)
    write_python_lock("sb3", (TORCH, numpy))
    assert (folder / "python-sb3.txt").read_text() == (
        "# Written by `derl-image lock`.\n"
        f"NumPy==2.3.1 --hash=sha256:{'0d' * 32}\n"
        f"torch==2.13.0+cpu --hash=sha256:{'0c' * 32}\n"
    )
    assert read_python_lock("sb3") == (numpy, TORCH)


def test_python_packages_that_are_not_locked_are_named_with_the_way_to_them(folder: Path) -> None:
    with pytest.raises(BadImage, match="no Python packages are locked for 'cuda'") as error:
        read_python_lock("cuda")
    assert error.value.fix == "lock them: derl-image lock cuda"


@pytest.mark.parametrize(
    "line",
    [
        "torch",
        "torch>=2 --hash=sha256:" + "0c" * 32,
        "torch==2.13.0",
        "torch==2.13.0 --hash=md5:" + "0c" * 16,
        "torch==2.13.0 --hash=sha256:" + "0c" * 31,
        "torch==2.13.0;python_version>'3' --hash=sha256:" + "0c" * 32,
        "torch==https://else.where/x.whl --hash=sha256:" + "0c" * 32,
        "--index-url=else.where",
        "-r other.txt",
        "caf\xe9==1 --hash=sha256:" + "0c" * 32,
    ],
)
def test_a_line_that_pins_no_single_wheel_is_refused(folder: Path, line: str) -> None:
    for encoding in ("utf-8", "latin-1"):
        (folder / "python-sb3.txt").write_text(f"# comment\n\n{line}\n", encoding=encoding)
        with pytest.raises(BadImage, match=r"python-sb3\.txt: not a lock"):
            read_python_lock("sb3")


def test_the_repositorys_own_locks_are_sound() -> None:
    lock = read_debian_lock()
    assert {"root", "build"} <= set(lock.sections)
    for name, packages in lock.sections.items():
        assert len({one.name for one in packages}) == len(packages), name
        assert all(f"/{one.name}_" in one.path.replace("%2b", "+") for one in packages)
    assert {one.name for one in read_python_lock("native")} == {
        "numpy",
        "msgspec",
        "safetensors",
        "zstandard",
    }
    sb3 = read_python_lock("sb3")
    assert set(read_python_lock("native")) <= set(sb3)
    assert {"torch", "stable_baselines3"} <= {one.name.replace("-", "_") for one in sb3}
