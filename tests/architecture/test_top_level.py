"""What may lie at the top of the repository, and no package where none belongs."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "requestor",
    "provider_image",
    "native_kernels",
    "gvmi",
    "scripts",
    "tests",
    "configs",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
}
VAGUE = {"utils", "util", "common", "helpers", "helper", "misc", "shared", "lib"}


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [Path(name) for name in listed.stdout.split("\0") if name]


def test_the_top_level_holds_only_what_belongs_there(tracked: list[Path]) -> None:
    top = {path.parts[0] for path in tracked}
    assert {name for name in top if not name.startswith(".")} <= ALLOWED
    assert {"requestor", "provider_image", "native_kernels", "pyproject.toml", ".ci"} <= top


def test_tests_are_no_package(tracked: list[Path]) -> None:
    """An __init__.py there would make tests/requestor the package requestor."""
    assert [p for p in tracked if p.parts[0] == "tests" and p.name == "__init__.py"] == []


def test_names_say_what_is_inside(tracked: list[Path]) -> None:
    assert [str(path) for path in tracked if VAGUE & {*path.parts[:-1], path.stem}] == []


def test_programs_in_scripts_can_be_started(tracked: list[Path]) -> None:
    programs = [p for p in tracked if p.parts[0] in ("scripts", ".ci")]
    assert programs
    assert [str(path) for path in programs if not (ROOT / path).stat().st_mode & 0o100] == []
