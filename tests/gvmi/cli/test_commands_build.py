"""`derl-image build` and `derl-image lock` as programs: help, messages, exit codes, Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gvmi.cli.commands_build import is_repeated
from gvmi.image_lock import LockedImage
from gvmi.variants import SPECS

PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # even if the tests run in the background
from gvmi.cli.main import main
main()
"""
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What leads to no network and to an empty cache."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PIP_")}
    return {
        **kept,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "DERL_DEBIAN_MIRROR": NOWHERE,
        "DERL_DEBIAN_ARCHIVE": NOWHERE,
        "DERL_UBUNTU_MIRROR": NOWHERE,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "no_proxy": "*",
        "COLUMNS": "200",
        "LC_ALL": "C.UTF-8",
    }


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def left_in(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.name != "in-use"
    )


@pytest.fixture
def needs_bubblewrap() -> None:
    """Skip where builds are refused for want of bubblewrap."""
    if shutil.which("bwrap") is None:
        pytest.skip("there is no bubblewrap: sudo apt install bubblewrap")


def test_help_names_the_commands_and_what_exit_codes_mean(environment: dict[str, str]) -> None:
    done = run(environment, "--help")
    assert done.returncode == 0
    for word in ("build", "lock", "verify", "push", "boot", "Exit codes", "130 interrupted"):
        assert word in done.stdout
    assert run(environment, "-h").stdout == done.stdout


def test_the_help_of_build_names_variants_and_options(environment: dict[str, str]) -> None:
    done = run(environment, "build", "--help")
    assert done.returncode == 0
    for word in (*SPECS, "--output", "--compression", "--fresh", "--no-lock", "--json"):
        assert word in done.stdout
    done = run(environment, "lock", "--help")
    assert done.returncode == 0
    assert "gvmi/packages/locks" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["build"], "Missing argument"),
        (["build", "windows"], "windows"),
        (["build", "native", "--compression", "zstd"], "zstd"),
        (["build", "native", "--output", "/"], "directory"),
        (["lock", "everything"], "everything"),
        (["bake"], "bake"),
    ],
)
def test_wrong_usage_ends_with_2(
    environment: dict[str, str], arguments: list[str], word: str
) -> None:
    done = run(environment, *arguments)
    assert done.returncode == 2
    assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_without_bubblewrap_the_way_to_it_is_told(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = run({**environment, "PATH": str(tmp_path)}, "build", "native", "--with", "bubblewrap")
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "derl-image: there is no bubblewrap, in which the image is built",
        "fix: sudo apt install bubblewrap",
    ]


@pytest.mark.usefixtures("needs_bubblewrap")
def test_without_a_network_the_first_build_says_what_is_not_to_be_had(
    environment: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "out" / "my.gvmi"
    done = run(environment, "build", "native", "--no-lock", "--output", str(output))
    assert done.returncode == 5
    *_, error, fix = done.stderr.splitlines()
    assert error.startswith("derl-image: ")
    assert f"is not to be had: {NOWHERE}/debian/pool/" in error
    assert fix.startswith("fix: look at the network (DERL_DEBIAN_MIRROR")
    assert "Traceback" not in done.stderr
    assert left_in(tmp_path) == []


@pytest.mark.usefixtures("needs_bubblewrap")
def test_a_place_that_is_no_place_ends_with_4(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file" / "my.gvmi")
    done = run(environment, "build", "native", "--no-lock", "--output", place)
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1] == "fix: give a path that exists and can be written"
    assert f"derl-image: {tmp_path}/file" in done.stderr


@pytest.fixture
def slow_mirror() -> Iterator[tuple[str, socket.socket]]:
    """A mirror that accepts connections; the test answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", listener


@pytest.mark.usefixtures("needs_bubblewrap")
def test_an_interrupted_build_ends_with_130_and_leaves_nothing_half_written(
    environment: dict[str, str], tmp_path: Path, slow_mirror: tuple[str, socket.socket]
) -> None:
    url, listener = slow_mirror
    environment |= {"DERL_DEBIAN_MIRROR": url, "DERL_DEBIAN_ARCHIVE": url}
    command = [sys.executable, "-c", PROGRAM, "build", "native", "--no-lock"]
    command += ["--output", str(tmp_path / "out" / "my.gvmi")]
    building = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nthe first bytes"
    connections = [listener.accept()[0] for _ in range(6)]
    for connection in connections:
        connection.recv(1 << 16)
        connection.sendall(answer)
    building.send_signal(signal.SIGINT)
    listener.close()
    try:
        for connection in connections:
            connection.sendall(b"more")  # a slow server goes on
            connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it has gone already
    _, said = building.communicate(timeout=60)
    assert building.returncode == 130
    assert said.splitlines()[-1] == "derl-image: interrupted; nothing is half written"
    assert "Traceback" not in said
    assert left_in(tmp_path) == []


def test_the_same_sources_must_give_the_locked_bytes() -> None:
    built = LockedImage("native", "0a" * 28, 10, "5" * 64, "abc")
    assert is_repeated(built, None) is None
    assert is_repeated(built, LockedImage("native", "0a" * 28, 10, "6" * 64, "abc")) is None
    assert is_repeated(built, LockedImage("native", "0a" * 28, 10, "5" * 64, "abd")) is True
    assert is_repeated(built, LockedImage("native", "0b" * 28, 10, "5" * 64, "abc")) is False
