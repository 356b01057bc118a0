"""scripts/contract and .ci/run: what was not tested must look neither like success nor a crash."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_YAGNA = 77  # the usual code of a skipped test; pytest itself uses 0 to 5


def program(path: Path, *lines: str) -> None:
    """Write a shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


def run(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    programs = path.parents[1] / "bin"
    return subprocess.run(
        ["bash", str(path)],
        env={"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the scripts, in a folder with a space; setup and Python are stand-ins."""
    folder = tmp_path / "a clone"
    for name in ("scripts/contract", ".ci/run"):
        (folder / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, folder / name)
    program(folder / "scripts" / "setup")
    program(folder / "scripts" / "prove")
    program(folder / "scripts" / "image", 'echo "image $@"', "exit ${IMAGE_CODE:-0}")
    program(folder / ".venv" / "bin" / "derl-image", 'echo "derl-image $@"')
    for name in ("bwrap", "mksquashfs"):  # nothing is installed by a test
        program(folder / "bin" / name)
    program(folder / "scripts" / "test", "exit ${TEST_CODE:-0}")
    program(
        folder / ".venv" / "bin" / "python",
        'if [ "$1" = -c ]; then echo "$MISSING"; exit 0; fi',
        'echo "$@"',
        "exit ${PYTEST_CODE:-0}",
    )
    return folder


def test_both_daemons_and_all_that_needs_the_real_one(checkout: Path) -> None:
    done = run(checkout / "scripts" / "contract")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "-m pytest -m testnet or not testnet tests/contract",
        "-m pytest -m testnet tests --ignore tests/contract",
    ]


def test_no_yagna_has_a_code_of_its_own(checkout: Path) -> None:
    done = run(checkout / "scripts" / "contract", MISSING="there is none; fix: get one")
    assert done.returncode == NO_YAGNA
    assert done.stderr == "contract: SKIPPED: there is none; fix: get one\n"
    done = run(checkout / ".ci" / "run", MISSING="there is none")
    assert done.returncode == 0
    assert "NOT RUN on the real daemon" in done.stderr


def test_images_are_built_from_a_new_lock_where_the_old_one_is_not_to_be_had(
    checkout: Path,
) -> None:
    done = run(checkout / ".ci" / "run")
    assert done.returncode == 0 and "image native sb3" in done.stdout.splitlines()
    assert run(checkout / ".ci" / "run", IMAGE_CODE="3").returncode == 3
    done = run(checkout / ".ci" / "run", IMAGE_CODE="5")  # twice: the stand-in never has it
    assert done.returncode == 5
    assert [line for line in done.stdout.splitlines() if "image" in line] == [
        "image native sb3",
        "derl-image lock root build",
        "image native sb3",
    ]


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5])
def test_no_failure_of_pytest_passes_for_a_missing_yagna(checkout: Path, code: int) -> None:
    assert run(checkout / "scripts" / "contract", PYTEST_CODE=str(code)).returncode == code
    assert run(checkout / ".ci" / "run", PYTEST_CODE=str(code)).returncode == code
    assert run(checkout / ".ci" / "run", TEST_CODE=str(code)).returncode == code
