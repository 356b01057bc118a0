"""`derl-image verify` as a program: exit codes, what is printed, the real image where it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gvmi.image_lock import LOCK_FILE, read_lock
from requestor.mock_golem.exe_unit import bubblewrap_problem
from requestor.mock_golem.images.gvmi_file import image_hash
from tests.gvmi.verification.conftest import MakeImage

ROOT = Path(__file__).parents[3]
COMMAND = (sys.executable, "-c", "from gvmi.cli.main import main; main()", "verify")


def verify(*arguments: object, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"NO_COLOR": "1"} | ({"PATH": path} if path else {})
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=ROOT,
    )


@pytest.fixture
def no_lock(tmp_path: Path) -> tuple[str, Path]:
    return "--lock", tmp_path / "no.lock.yaml"


def test_a_good_image_that_is_not_run(make_image: MakeImage, no_lock: tuple[str, Path]) -> None:
    image = make_image()
    done = verify(image, "--no-run", *no_lock)
    assert (done.returncode, done.stderr) == (0, "")
    assert image_hash(image) in done.stdout
    assert "  ✓ devices    no device nodes, pipes or sockets\n" in done.stdout
    assert "not checked: no image native is locked in no.lock.yaml" in done.stdout
    assert done.stdout.endswith("nothing wrong found, but NOT RUN (--no-run was given)\n")
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_a_bad_one_is_not_run_and_the_worst_is_told_first(
    make_image: MakeImage, no_lock: tuple[str, Path]
) -> None:
    settings = {"WorkingDir": "/[red]"}
    image = make_image(pseudo=["sda b 600 0 0 8 0", "k.key f 600 0 0 echo x"], settings=settings)
    done = verify(image, *no_lock)
    assert done.returncode == 3
    said = done.stdout
    assert "  ✗ devices    no device nodes, pipes or sockets  1 deviation\n" in said
    assert "WorkingDir is /[red], which is in no volume" in said
    order = [said.index(text) for text in ("/sda is a block device", "/k.key looks", "WorkingDir")]
    assert order == sorted(order)
    assert "not checked: the image is not safe, or not the locked one" in said
    assert "3 deviations (the worst: /sda is a block device)" in done.stderr
    assert "\nfix: " in done.stderr


def test_json_has_the_same_content(make_image: MakeImage, no_lock: tuple[str, Path]) -> None:
    image = make_image(pseudo=["sda b 600 0 0 8 0"])
    done = verify(image, "--json", "--no-run", *no_lock)
    assert done.returncode == 3
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["verdict"] == "bad"
    assert report["image"]["sha3"] == image_hash(image)
    assert report["checks"]["devices"] == "failed" and report["checks"]["links"] == "passed"
    assert report["deviations"] == [{"check": "devices", "text": "/sda is a block device"}]
    assert report["skipped"]["start"] == "the image is not safe, or not the locked one"


def test_no_image_at_all(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    for name, complaint in {"text": "no squashfs image", "gone": "No such file"}.items():
        done = verify(tmp_path / name)
        assert done.returncode == 3
        assert complaint in done.stderr and "fix: " in done.stderr
        assert "Traceback" not in done.stderr


def test_what_this_machine_lacks_is_told(
    make_image: MakeImage, tmp_path: Path, no_lock: tuple[str, Path]
) -> None:
    image = make_image()
    programs = tmp_path / "programs"
    programs.mkdir()
    done = verify(image, *no_lock, path=str(programs))
    assert done.returncode == 4 and "fix: apt install squashfs-tools" in done.stderr
    for name in ("unsquashfs", "prlimit"):
        (programs / name).symlink_to(str(shutil.which(name)))
    done = verify(image, *no_lock, path=str(programs))
    assert done.returncode == 4
    assert "verdict: nothing wrong found, but NOT RUN" in done.stdout
    assert "apt install bubblewrap" in done.stderr


def test_another_variant_is_wrong_usage_or_a_deviation(
    make_image: MakeImage, no_lock: tuple[str, Path]
) -> None:
    image = make_image()
    assert verify(image, "--variant", "huge").returncode == 2
    done = verify(image, "--variant", "sb3", "--no-run", *no_lock)
    assert done.returncode == 3 and "'sb3' was asked for" in done.stderr


@pytest.mark.skipif(bubblewrap_problem() is not None, reason=str(bubblewrap_problem()))
def test_an_image_whose_programs_are_none(make_image: MakeImage, no_lock: tuple[str, Path]) -> None:
    """The good tree has files for programs that no kernel runs."""
    done = verify(make_image(), *no_lock)
    assert done.returncode == 3
    assert "  ✗ start" in done.stdout and "did not come that far" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(bubblewrap_problem() is not None, reason=str(bubblewrap_problem()))
@pytest.mark.timeout(600)
@pytest.mark.parametrize("variant", ["native", "sb3"])
def test_the_real_image(variant: Any, tmp_path: Path) -> None:
    image = ROOT / "build" / "images" / f"derl-{variant}.gvmi"
    if not image.exists():
        pytest.skip(f"{image.relative_to(ROOT)} is not built: derl-image build {variant}")
    row = read_lock(LOCK_FILE).get(variant)
    is_locked = row is not None and row.sha3 == image_hash(image)
    lock = () if is_locked else ("--lock", tmp_path / "none")
    done = verify(image, "--json", *lock)
    report = json.loads(done.stdout)
    assert (report["verdict"], report["deviations"], done.returncode) == ("good", [], 0)
    assert any("the same bits as on this machine" in note for note in report["notes"])
    timings = {timing["what"]: timing for timing in report["timings"]}
    rounds = {"native"} if variant == "native" else {"native", "sb3"}
    assert {f"the order {name}-train" for name in rounds} <= timings.keys()
    assert timings["worker's first start"]["peak_bytes"] > 10 << 20
    assert timings["worker's second start"]["cpu_seconds"] > 0
