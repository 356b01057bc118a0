"""Installing wheels into a root: places, programs, records; what is no wheel is refused."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from gvmi.errors import BadImage
from gvmi.packages.wheels import install_wheel
from tests.gvmi.packages.made_packages import write_wheel

PACKAGES = "/opt/derl/lib/python3.11/site-packages"
PYTHON = "/opt/derl/bin/python3"


def install(wheel: Path, root: Path) -> None:
    install_wheel(wheel, root, PACKAGES, PYTHON)


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_modules_and_programs_arrive_with_the_images_interpreter(tmp_path: Path) -> None:
    wheel = write_wheel(
        tmp_path,
        "tiny",
        {
            "tiny/__init__.py": "x = 1\n",
            "tiny-1.0.data/scripts/old-way": "#!python\nprint()\n",
            "tiny-1.0.data/data/share/tiny.txt": "text",
        },
        scripts="tiny-tool = tiny:main",
    )
    root = tmp_path / "a root"
    install(wheel, root)
    found = files(root)
    site = PACKAGES[1:]
    assert found[f"{site}/tiny/__init__.py"] == b"x = 1\n"
    assert found["opt/derl/bin/tiny-tool"].startswith(b"#!/opt/derl/bin/python3\n")
    assert found["opt/derl/bin/old-way"] == b"#!/opt/derl/bin/python3\nprint()\n"
    assert found["opt/derl/share/tiny.txt"] == b"text"
    assert found[f"{site}/tiny-1.0.dist-info/INSTALLER"] == b"derl"
    assert (root / "opt/derl/bin/tiny-tool").stat().st_mode & 0o111
    assert not any(name.endswith(".pyc") for name in found)
    assert str(tmp_path).encode() not in b"".join(found.values())


def test_the_same_wheel_gives_the_same_files_whatever_root_and_umask(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "tiny", {"tiny.py": ""}, scripts="tiny = tiny:main")
    before = os.umask(0o077)
    try:
        install(wheel, tmp_path / "one")
        os.umask(0o000)
        install(wheel, tmp_path / "two/three")
    finally:
        os.umask(before)
    assert files(tmp_path / "one") == files(tmp_path / "two/three")


@pytest.mark.parametrize(
    "place",
    [
        "../../../../../../../../../tmp/derl-evil.py",
        "tiny-1.0.data/scripts/../../../../evil",
        "tiny-1.0.data/purelib/../../../evil.py",
        "/tmp/derl-evil.py",
    ],
)
def test_a_wheel_that_leads_out_of_its_folder_is_refused(tmp_path: Path, place: str) -> None:
    wheel = write_wheel(tmp_path, "tiny", {place: "evil"})
    with pytest.raises(BadImage, match=r"tiny-1\.0-py3-none-any\.whl: not a wheel"):
        install(wheel, tmp_path / "root")
    assert not any("evil" in str(path) for path in tmp_path.rglob("*"))
    assert not Path("/tmp/derl-evil.py").exists()


def test_two_wheels_with_the_same_file_are_refused(tmp_path: Path) -> None:
    install(write_wheel(tmp_path, "one", {"shared.py": "1"}), tmp_path / "root")
    with pytest.raises(BadImage, match=r"two-1\.0.*already exists"):
        install(write_wheel(tmp_path, "two", {"shared.py": "2"}), tmp_path / "root")


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    wheel.write_bytes(b"not a zip")
    with pytest.raises(BadImage, match="not a wheel"):
        install(wheel, tmp_path / "root")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "")
    with pytest.raises(BadImage, match="not a wheel"):
        install(wheel, tmp_path / "root")
    whole = write_wheel(tmp_path, "tiny", {"tiny.py": "x" * 5000}).read_bytes()
    wheel.write_bytes(whole.replace(b"xxxx", b"xyxx"))
    with pytest.raises(BadImage, match="not a wheel"):
        install(wheel, tmp_path / "root")
