"""The root file system: what belongs into it, its links, modes and byte-compiled modules."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from gvmi.assembly import root_file_system
from gvmi.assembly.build_root import Jailed, run_in_root, run_jailed
from gvmi.assembly.root_file_system import (
    SITE_PACKAGES,
    byte_compile,
    is_wanted,
    make_links_relative,
    prune_wheels,
    set_modes,
)
from gvmi.errors import ImageToolError
from gvmi.packages.debian_packages import unpack
from gvmi.packages.downloads import cache_folder
from gvmi.packages.package_locks import read_debian_lock


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("usr/bin/python3.11", True),
        ("usr/lib/python3.11/json/__init__.py", True),
        ("usr/lib/python3.11/test/support/__init__.py", False),
        ("usr/share/doc/dash/copyright", True),
        ("usr/share/doc/dash/changelog.gz", False),
        ("usr/share/man/man1/dash.1.gz", False),
        ("var/lib/dpkg/info/dash.list", False),
        ("etc/ssl/openssl.cnf", True),
    ],
)
def test_licences_and_what_runs_belong_into_an_image(path: str, wanted: bool) -> None:
    assert is_wanted(path) is wanted


def test_what_wheels_hold_for_compilers_and_tests_is_deleted(tmp_path: Path) -> None:
    for name in (
        "numpy/__init__.py",
        "numpy/_core/include/numpy/arrayobject.h",
        "numpy/tests/test_x.py",
        "numpy/linalg/tests/test_y.py",
        "numpy/testing/__init__.py",
        "msgspec/_core.pyi",
        "msgspec/_core.so",
        "msgspec-1.0.dist-info/licenses/LICENSE",
    ):
        write(tmp_path / name)
    prune_wheels(tmp_path)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == [
        "msgspec-1.0.dist-info/licenses/LICENSE",
        "msgspec/_core.so",
        "numpy/__init__.py",
        "numpy/testing/__init__.py",
    ]


@pytest.mark.parametrize(
    ("place", "target", "relative"),
    [
        ("usr/bin/tool", "/usr/lib/tool/run", "../lib/tool/run"),
        ("tool", "/usr/lib/tool", "usr/lib/tool"),
        ("usr/lib/a/b", "/", "../../.."),
        ("etc/x", "//usr//x", "../usr/x"),
        ("etc/x", "/../../usr/x", "../usr/x"),
        ("etc/x", "../../../../usr/x", "../usr/x"),
        ("x", "../etc/passwd", "etc/passwd"),
        ("usr/bin/sh", "dash", "dash"),
        ("usr/lib/x", "../../etc/x", "../../etc/x"),
        ("usr/lib/x", "nothing/../y", "nothing/../y"),
    ],
)
def test_links_lead_to_the_same_place_below_the_root(
    tmp_path: Path, place: str, target: str, relative: str
) -> None:
    link = tmp_path / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    make_links_relative(tmp_path)
    assert os.readlink(link) == relative


def test_modes_are_the_same_whatever_they_were(tmp_path: Path) -> None:
    for name in ("tmp", "var/tmp", "usr/bin"):
        (tmp_path / name).mkdir(parents=True)
    write(tmp_path / "usr/bin/tool").chmod(0o4700)
    write(tmp_path / "usr/text").chmod(0o666)
    write(tmp_path / "usr/hidden").chmod(0o600)
    (tmp_path / "usr/bin").chmod(0o2700)
    (tmp_path / "usr/outside").symlink_to(write(tmp_path.parent / f"{tmp_path.name}-outside"))
    (tmp_path.parent / f"{tmp_path.name}-outside").chmod(0o600)
    set_modes(tmp_path)
    found = {
        str(path.relative_to(tmp_path)): stat.S_IMODE(path.lstat().st_mode)
        for path in tmp_path.rglob("*")
        if not path.is_symlink()
    }
    assert found == {
        "tmp": 0o1777,
        "var": 0o755,
        "var/tmp": 0o1777,
        "usr": 0o755,
        "usr/bin": 0o755,
        "usr/bin/tool": 0o755,
        "usr/text": 0o644,
        "usr/hidden": 0o644,
    }
    assert stat.S_IMODE((tmp_path.parent / f"{tmp_path.name}-outside").stat().st_mode) == 0o600


@pytest.fixture(scope="module")
def debian_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of the locked Debian packages, if an image was built here before."""
    if shutil.which("bwrap") is None:
        pytest.skip("there is no bubblewrap: sudo apt install bubblewrap")
    kept = cache_folder() / "downloads"
    files = [kept / f"{one.sha256}.deb" for one in read_debian_lock().section("root")]
    if not all(file.exists() for file in files):
        pytest.skip("the locked packages are not kept here: derl-image build native fetches them")
    root = tmp_path_factory.mktemp("a root")
    unpack(files, root, is_wanted)
    done = subprocess.run(
        ["bwrap", "--unshare-user", "--ro-bind", str(root), "/", "/bin/sh", "-c", "exit 0"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"bubblewrap does not work here: {done.stderr.strip()}")
    return root


def test_modules_are_compiled_by_the_images_python_and_never_checked(
    debian_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root_file_system, "STANDARD_LIBRARY", "/left/alone")
    packages = debian_root / SITE_PACKAGES[1:]
    write(packages / "tiny" / "__init__.py", "NAMES = {'a', 'b', 'c'}\nx = 'abc'\n")
    compiled = packages / "tiny/__pycache__/__init__.cpython-311.pyc"
    byte_compile(debian_root, run_in_root)
    raw = compiled.read_bytes()
    # PEP 552: after the magic number, 1 means a hash of the source that is not checked
    assert raw[4:8] == bytes([1, 0, 0, 0])
    compiled.unlink()
    os.utime(packages / "tiny" / "__init__.py", (1, 1))
    byte_compile(debian_root, run_in_root)
    assert compiled.read_bytes() == raw
    write(packages / "tiny" / "__init__.py", "raise SystemExit('looked at')\n")
    program = f"import sys; sys.path.append({SITE_PACKAGES!r}); import tiny; print(tiny.x)"
    run_jailed(debian_root, Jailed(["/usr/bin/python3.11", "-I", "-c", program]))
    write(packages / "tiny" / "broken.py", "def\n")
    with pytest.raises(ImageToolError, match=r"(?s)failed in the build root:.*broken\.py") as error:
        byte_compile(debian_root, run_in_root)
    assert "SyntaxError" in str(error.value)
    shutil.rmtree(packages / "tiny")


def test_a_jail_has_no_network_no_host_and_no_writable_root(debian_root: Path) -> None:
    def run(program: str, **more: object) -> None:
        command = ["/usr/bin/python3.11", "-I", "-c", program]
        run_jailed(debian_root, Jailed(command, **more))  # type: ignore[arg-type]

    run("import os; assert os.getuid() == 0; assert os.listdir('/home') == []")
    run("import os; assert not set(os.environ) - {'PATH', 'LANG', 'HOME', 'LC_CTYPE', 'PWD'}")
    run("import os; assert os.uname().nodename == 'derl'")
    run("import os; assert os.umask(0) == 0o022")
    run("open('/tmp/x', 'w')")
    with pytest.raises(ImageToolError, match="Read-only file system"):
        run("open('/etc/x', 'w')")
    with pytest.raises(ImageToolError, match="Network is unreachable"):
        run("import socket; socket.create_connection(('192.0.2.1', 9))")
    run("open('/etc/x', 'w')", writable=frozenset({"/"}))
    (debian_root / "etc/x").unlink()
    with pytest.raises(ImageToolError, match="nothing-of-the-kind") as error:
        run_jailed(debian_root, Jailed(["/usr/bin/nothing-of-the-kind"]))
    assert error.value.exit_code == 1  # and not the one of a machine without bubblewrap
