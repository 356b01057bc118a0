"""Building: labels, the row of the lock, and outputs that are whole or not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gvmi.assembly import building
from gvmi.assembly.building import BuildOptions, Contents, build
from gvmi.assembly.provider_wheel import ProviderWheel
from gvmi.assembly.root_file_system import SHARE, SITE_PACKAGES, Ingredients, set_modes
from gvmi.assembly.squashing import Squeeze
from gvmi.errors import ImageToolError
from gvmi.image_lock import LockedImage, read_lock, write_locked
from gvmi.packages.package_locks import DebianPackage, PythonPackage
from gvmi.packages.wheels import install_wheel
from gvmi.variants import VARIANTS, Variant
from requestor.mock_golem.images.gvmi_file import image_hash, read_gvmi
from tests.gvmi.assembly.squashing_root import make_squashing_root
from tests.gvmi.packages.made_packages import write_wheel

DEBIAN = (DebianPackage("dash", "0.5", "debian/pool/dash.deb", 1, "0a" * 32),)
PYTHON = (PythonPackage("tiny", "1.0", "0b" * 32),)
SOURCES = "5e" * 32
QUICK = Squeeze("gzip", 1 << 17)


def contents(variant: Variant, wheel: Path) -> Contents:
    return Contents(
        variant,
        SOURCES,
        ProviderWheel(wheel, "6f" * 32, "a-build-root"),
        DEBIAN,
        PYTHON,
        Ingredients([], [wheel]),
    )


@pytest.fixture(scope="module")
def build_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands in for the build root."""
    return make_squashing_root(tmp_path_factory.mktemp("build root"))


@pytest.fixture
def workplace(tmp_path: Path, build_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a build of one small wheel, without Debian's packages, takes no time."""
    wheel = write_wheel(tmp_path, "tiny", {"tiny.py": "x = 1\n"})

    def gather(variant: Variant, progress: object, **options: object) -> Contents:
        return contents(variant, wheel)

    def make_root(ingredients: Ingredients, root: Path, run: object) -> None:
        for one in ingredients.wheels:
            install_wheel(one, root, SITE_PACKAGES, "/opt/derl/bin/python3")
        for name in ("tmp", "var/tmp", SHARE[1:]):
            (root / name).mkdir(parents=True)
        set_modes(root)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(building, "gather", gather)
    monkeypatch.setattr(building, "make_root", make_root)
    monkeypatch.setattr(building, "make_build_root", lambda *more, **options: build_root)
    monkeypatch.setattr(
        building, "write_locked", lambda row: write_locked(row, tmp_path / "image.lock.yaml")
    )
    (tmp_path / "out").mkdir()
    return tmp_path


def make(workplace: Path, variant: Variant = "native", **options: Any) -> building.BuiltImage:
    output = options.pop("output", workplace / "out" / "my image.gvmi")
    return build(variant, BuildOptions(output, QUICK, **options), lambda what: None)


def outputs(workplace: Path) -> list[str]:
    return sorted(path.name for path in (workplace / "out").iterdir())


@pytest.mark.parametrize("variant", VARIANTS)
def test_labels_say_what_the_image_is(variant: Variant, tmp_path: Path) -> None:
    labels = contents(variant, tmp_path).labels
    assert labels["derl.variant"] == variant
    assert labels["derl.sources"] == SOURCES
    assert labels["derl.learner"] == ("native" if variant == "native" else "sb3")
    assert labels["org.opencontainers.image.title"] == f"derl-{variant}"
    assert labels["derl.cuda"] == "no"
    assert all(text.isprintable() for text in labels.values())


def test_a_build_gives_an_image_its_bill_and_a_row_of_the_lock(workplace: Path) -> None:
    built = make(workplace)
    assert outputs(workplace) == ["my image.cdx.json", "my image.gvmi"]
    found = read_gvmi(built.path)
    assert found.settings.labels["derl.sources"] == SOURCES
    bill = json.loads((workplace / "out" / "my image.cdx.json").read_text())
    assert {one["name"] for one in bill["components"]} == {"dash", "tiny"}
    assert built.locked.sha3 == image_hash(built.path)
    assert built.locked.size_bytes == built.path.stat().st_size
    assert (built.locked.variant, built.locked.sources) == ("native", SOURCES)
    assert read_lock(workplace / "image.lock.yaml") == {"native": built.locked}
    assert list((workplace / "cache/derl/roots").iterdir()) == []


def test_two_builds_in_a_row_give_the_same_image(workplace: Path) -> None:
    one = make(workplace, output=workplace / "out" / "one.gvmi")
    before = os.umask(0o077)
    try:
        two = make(workplace, output=workplace / "out" / "two")
    finally:
        os.umask(before)
    assert one.locked.sha3 == two.locked.sha3
    assert outputs(workplace) == ["one.cdx.json", "one.gvmi", "two", "two.cdx.json"]


def test_the_lock_can_be_left_as_it_is(workplace: Path) -> None:
    make(workplace, locks=False)
    assert not (workplace / "image.lock.yaml").exists()


def test_a_build_that_fails_leaves_everything_as_it_was(
    workplace: Path, build_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(workplace)
    before = {path.name: path.read_bytes() for path in (workplace / "out").iterdir()}
    lock = (workplace / "image.lock.yaml").read_bytes()
    program = build_root / "usr/bin/mksquashfs"
    program.rename(program.with_name("away"))
    monkeypatch.setattr(
        building,
        "gather",
        lambda *more, **options: contents("sb3", write_wheel(workplace, "other", {"o.py": ""})),
    )
    try:
        with pytest.raises(ImageToolError, match="mksquashfs failed"):
            make(workplace, "sb3")
    finally:
        program.with_name("away").rename(program)
    assert {path.name: path.read_bytes() for path in (workplace / "out").iterdir()} == before
    assert (workplace / "image.lock.yaml").read_bytes() == lock
    assert list((workplace / "cache/derl/roots").iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*more: object, **options: object) -> Path:
        raise AssertionError("work was begun")

    monkeypatch.setattr(building, "make_build_root", never)
    monkeypatch.setattr(building, "gather", never)
    (workplace / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        make(workplace, output=workplace / "file" / "my.gvmi")
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and may(path, mode))
    with pytest.raises(PermissionError, match="out"):
        make(workplace)


def test_two_locks_at_once_lose_no_row(tmp_path: Path) -> None:
    lock = tmp_path / "image.lock.yaml"
    program = (
        "import sys; from pathlib import Path; from gvmi.image_lock import *\n"
        "for number in range(1, 40):\n"
        " write_locked(LockedImage(sys.argv[1], '0a' * 28, number, 'a', 'b'), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program]
    running = [subprocess.Popen([*command, name, str(lock)]) for name in ("native", "sb3")]
    assert [process.wait() for process in running] == [0, 0]
    assert {name: row.size_bytes for name, row in read_lock(lock).items()} == {
        "native": 39,
        "sb3": 39,
    }
    assert [path.name for path in tmp_path.iterdir()] == ["image.lock.yaml"]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone that holds the image lock and one source."""
    folder = tmp_path / "a clone"
    (folder / "gvmi").mkdir(parents=True)
    (folder / "gvmi" / "image.lock.yaml").write_text("a: b\n")
    (folder / "source.py").write_text("x = 1\n")
    monkeypatch.setattr(building, "REPOSITORY", folder)
    monkeypatch.setattr(building, "LOCK_FILE", folder / "gvmi" / "image.lock.yaml")
    return folder


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def recorded(workplace: Path) -> LockedImage:
    image = workplace / "image"
    image.write_bytes(b"image")
    return building.record(contents("native", image), image, locks=False)


def test_the_commit_is_told_with_a_plus_for_changed_sources(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recorded(tmp_path).commit == "unknown"  # no clone
    git(repository, "init", "-q")
    assert recorded(tmp_path).commit == "unknown"  # no commit yet
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "First")
    commit = git(repository, "rev-parse", "--short=12", "HEAD")
    assert recorded(tmp_path).commit == commit
    (repository / "gvmi" / "image.lock.yaml").write_text("written: by a build\n")
    assert recorded(tmp_path).commit == commit
    (repository / "new.py").write_text("")
    assert recorded(tmp_path).commit == f"{commit}+"
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert recorded(tmp_path).commit == "unknown"  # no git


@pytest.mark.machine
@pytest.mark.timeout(3600)
def test_two_real_builds_in_a_row_give_the_same_image(tmp_path: Path) -> None:
    """The second compiles the kernels anew, under another umask and elsewhere."""
    program = "from gvmi.cli.main import main; main()"
    images = []
    for number, options in enumerate(([], ["--fresh"])):
        output = tmp_path / f"place {number}" / "native.gvmi"
        command = [sys.executable, "-c", program, "build", "native", "--no-lock", "--json"]
        command += ["--output", str(output), *options]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, umask=(0o022, 0o077)[number]
        )
        assert done.returncode == 0, done.stderr
        images.append(json.loads(done.stdout))
        assert images[-1]["sha3"] == image_hash(output)
    assert images[0]["sha3"] == images[1]["sha3"]
    assert images[0]["size_bytes"] <= 60_000_000
