"""The build root: made once, whole or not at all, also when two are made at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from gvmi.assembly import build_root
from gvmi.assembly.build_root import Jailed, make_build_root, run_jailed
from gvmi.errors import BadImage, ImageToolError, MachineUnfit
from tests.gvmi.packages.made_packages import entry, write_deb, write_wheel


class Packages:
    """What stands in for the locked packages."""

    def __init__(self, folder: Path) -> None:
        self.deb = write_deb(folder / "a.deb", entry("./usr/bin/tool", b"tool", 0o755))
        self.wheel = write_wheel(folder, "tiny", {"tiny.py": ""})
        self.fetched = 0

    def debian(self, *more: object) -> list[Path]:
        self.fetched += 1
        return [self.deb]

    def wheels(self, *more: object) -> list[Path]:
        return [self.wheel]


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packages:
    """Small packages and an empty cache."""
    made = Packages(tmp_path)
    monkeypatch.setattr(build_root, "fetch_debian", made.debian)
    monkeypatch.setattr(build_root, "fetch_wheels", made.wheels)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    return made


def kept(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "a cache/derl/build-roots").iterdir())


def make() -> Path:
    return make_build_root(lambda what: None)


def test_it_is_made_once_with_all_packages(tmp_path: Path, packages: Packages) -> None:
    root = make()
    assert (root / "usr/bin/tool").read_bytes() == b"tool"
    assert (root / "usr/lib/python3/dist-packages/tiny.py").exists()
    assert all((root / place).is_dir() for place in ("dev", "proc", "tmp", "src", "out", "image"))
    assert make() == root
    assert packages.fetched == 1
    assert kept(tmp_path) == [root]


def test_a_broken_package_leaves_nothing_half_made(tmp_path: Path, packages: Packages) -> None:
    whole = packages.deb.read_bytes()
    packages.deb.write_bytes(whole[:-9])
    with pytest.raises(BadImage, match=r"a\.deb"):
        make()
    assert kept(tmp_path) == []
    packages.deb.write_bytes(whole)
    assert (make() / "usr/bin/tool").exists()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_an_interruption_leaves_nothing_half_made(
    tmp_path: Path, packages: Packages, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*more: object) -> None:
        raise error

    monkeypatch.setattr(build_root, "install_wheel", fail)
    with pytest.raises(type(error)):
        make()
    assert kept(tmp_path) == []


def test_of_two_made_at_once_one_is_kept(
    tmp_path: Path, packages: Packages, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch, others = packages.wheels, []

    def slow(*more: object) -> list[Path]:
        monkeypatch.setattr(build_root, "fetch_wheels", fetch)
        others.append(make())
        return fetch()

    monkeypatch.setattr(build_root, "fetch_wheels", slow)
    assert [make()] == others == kept(tmp_path)


def test_a_bubblewrap_that_may_not_work_here_is_told_from_a_command_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bwrap"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program.write_text("#!/bin/sh\necho 'bwrap: No permission for a namespace'; exit 1\n")
    program.chmod(0o755)
    with pytest.raises(MachineUnfit, match=r"bubblewrap does not work here: .*namespace") as error:
        run_jailed(tmp_path, Jailed(["/usr/bin/tool"]))
    assert "unprivileged_userns_clone" in (error.value.fix or "")
    program.write_text("#!/bin/sh\nseq 100; echo 'tool: broken'; exit 3\n")
    with pytest.raises(ImageToolError, match="tool failed in the build root") as failed:
        run_jailed(tmp_path, Jailed(["/usr/bin/tool"]))
    assert str(failed.value).splitlines()[1:3] == ["72", "73"]  # the last 30 lines
    assert str(failed.value).endswith("tool: broken")
