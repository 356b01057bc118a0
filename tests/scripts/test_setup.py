"""scripts/setup against a stand-in Python whose pip only writes down what it was asked."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ["bash", "cat", "cp", "cut", "dirname", "find", "flock", "mkdir", "rm", "sed"]
TOOLS += ["sha256sum", "sort", "xargs"]
STAND_IN = f"""#!/bin/sh
case "$1 $2" in
    "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip")
        echo "$@" >>"$PIP_LOG"
        [ -z "$PIP_KILLED" ] || kill -9 $PPID
        case "$*" in *golem-node*) exit "${{YAGNA_STATUS:-0}}" ;; esac
        exit "${{PIP_STATUS:-0}}" ;;
    *) exec '{sys.executable}' "$@" ;;
esac
"""


@dataclass
class Checkout:
    """A copy of what scripts/setup looks at, in a folder with a space, with an environment."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def setup(
        self, *arguments: str, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(self.folder / "scripts" / "setup"), *arguments],
            cwd="/",
            env={**self.environment, **(more or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def installations(self) -> list[str]:
        """What pip was asked to do since the last question."""
        log = Path(self.environment["PIP_LOG"])
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    folder = tmp_path / "a clone"
    for name in ("scripts", "native_kernels"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "pyproject.toml", folder)
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, f"{tool} is missing on this machine"
        (tools / tool).symlink_to(found)
    # a compiler finds its parts by its own name and PATH, so no link
    (tools / "c++").write_text(f'#!/bin/sh\nPATH="{os.environ["PATH"]}" exec c++ "$@"\n')
    (tools / "c++").chmod(0o755)
    stand_in = tmp_path / "python"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    (tools / "python3").symlink_to(stand_in)
    return Checkout(
        folder, {"PATH": str(tools), "PIP_LOG": str(tmp_path / "pip.log"), "LC_ALL": "C"}
    )


def test_installs_once_then_starts_at_once(checkout: Checkout) -> None:
    assert checkout.setup().returncode == 0
    (command,) = checkout.installations()
    assert command.endswith("--editable .")
    again = checkout.setup()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert checkout.installations() == []


def test_says_nothing_on_stdout(checkout: Checkout) -> None:
    """It belongs to the program that is started afterwards."""
    first = checkout.setup()
    assert first.stdout == ""
    assert "derl: making .venv with Python" in first.stderr


def test_test_tools_are_added_and_never_taken_away(checkout: Checkout) -> None:
    checkout.setup()
    checkout.setup("dev")
    run, dev, yagna = checkout.installations()
    assert (run.rpartition(" ")[2], dev.rpartition(" ")[2]) == (".", ".[dev]")
    assert "--quiet golem-node==" in yagna
    checkout.setup()
    assert checkout.installations() == []
    (checkout.folder / "native_kernels" / "src" / "new.cpp").touch()
    checkout.setup()
    assert checkout.installations()[0].rpartition(" ")[2] == ".[dev]"


def test_the_real_daemon_may_be_missing(checkout: Checkout) -> None:
    done = checkout.setup("dev", more={"YAGNA_STATUS": "1"})
    assert done.returncode == 0
    assert "the real yagna (golem-node==0.17.6) cannot be had here" in done.stderr
    checkout.installations()
    checkout.setup("dev")
    assert checkout.installations() == []


@pytest.mark.parametrize(
    "source",
    [
        "pyproject.toml",
        "native_kernels/CMakeLists.txt",
        "native_kernels/include/derl/weighted_mean.hpp",
        "native_kernels/src/bindings/module.cpp",
    ],
)
def test_what_is_built_is_rebuilt(checkout: Checkout, source: str) -> None:
    checkout.setup()
    checkout.installations()
    with (checkout.folder / source).open("a") as file:
        file.write("\n")
    assert checkout.setup().returncode == 0
    assert len(checkout.installations()) == 1


def test_python_sources_need_no_reinstallation(checkout: Checkout) -> None:
    checkout.setup()
    checkout.installations()
    with (checkout.folder / "native_kernels" / "__init__.py").open("a") as file:
        file.write("\n")
    checkout.setup()
    assert checkout.installations() == []


def test_a_moved_checkout_is_installed_again(checkout: Checkout) -> None:
    checkout.setup()
    checkout.installations()
    checkout.folder = checkout.folder.rename(checkout.folder.with_name("moved"))
    assert checkout.setup().returncode == 0
    assert len(checkout.installations()) == 1


def test_a_killed_installation_is_started_afresh(checkout: Checkout) -> None:
    killed = checkout.setup(more={"PIP_KILLED": "1"})
    assert killed.returncode != 0
    leftover = checkout.folder / ".venv" / "leftover"
    leftover.touch()
    repaired = checkout.setup()
    assert repaired.returncode == 0
    assert "interrupted, starting afresh" in repaired.stderr
    assert not leftover.exists()


def test_a_failed_installation_keeps_what_is_there_and_tries_again(checkout: Checkout) -> None:
    failed = checkout.setup(more={"PIP_STATUS": "1"})
    assert failed.returncode == 4
    assert "installation failed" in failed.stderr
    kept = checkout.folder / ".venv" / "kept"
    kept.touch()
    assert checkout.setup().returncode == 0
    assert kept.exists()


def test_a_broken_venv_is_made_again(checkout: Checkout) -> None:
    checkout.setup()
    (checkout.folder / ".venv" / "bin" / "python").unlink()
    assert checkout.setup().returncode == 0
    assert (checkout.folder / ".venv" / "bin" / "python").exists()


def without(checkout: Checkout, tool: str, replacement: str | None = None) -> None:
    path = Path(checkout.environment["PATH"]) / tool
    path.unlink()
    if replacement is not None:
        path.write_text(f"#!/bin/sh\n{replacement}\n")
        path.chmod(0o755)


def complaint(checkout: Checkout) -> str:
    done = checkout.setup()
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert not (checkout.folder / ".venv").exists()
    return line


def test_no_python_is_told_with_the_way_out(checkout: Checkout) -> None:
    without(checkout, "python3")
    assert complaint(checkout).startswith(
        "derl: Python 3.11 or newer is needed; fix: sudo apt install python3 python3-venv"
    )


def test_an_old_python_is_told_with_the_way_out(checkout: Checkout) -> None:
    without(checkout, "python3", '[ "$1" = -V ] && echo Python 3.9.2')
    told = complaint(checkout)
    assert "found only Python 3.9.2; fix: sudo apt install python3.11 python3.11-venv" in told


@pytest.mark.parametrize("compiler", [None, "exit 1"], ids=["none", "too old"])
def test_no_compiler_is_told_with_the_way_out(checkout: Checkout, compiler: str | None) -> None:
    without(checkout, "c++", compiler)
    told = complaint(checkout)
    assert told == "derl: missing on this machine: a C++20 compiler; fix: sudo apt install g++"


def test_no_venv_module_and_no_headers_are_told_together(checkout: Checkout) -> None:
    real = f"exec '{sys.executable}' \"$@\""
    lacks = f'case "$2" in *ensurepip*|*Python.h*) exit 1 ;; esac; {real}'
    without(checkout, "python3", lacks)
    name = f"python3.{sys.version_info.minor}"
    assert complaint(checkout) == (
        "derl: missing on this machine: Python's venv module, Python's C headers; "
        f"fix: sudo apt install {name}-venv {name}-dev"
    )


def test_a_wrong_derl_python_is_told(checkout: Checkout) -> None:
    checkout.environment["DERL_PYTHON"] = "/nowhere/python"
    assert complaint(checkout).startswith("derl: DERL_PYTHON=/nowhere/python is not a Python")
