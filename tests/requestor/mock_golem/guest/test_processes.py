"""Process trees of real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from requestor.mock_golem.guest import processes
from requestor.mock_golem.guest.processes import (
    busy_seconds,
    children,
    descendants,
    is_zombie,
    private_bytes,
    process_times,
    tree_cpu_seconds,
)

NO_PROCESS = 2**22 + 1  # above the largest process id Linux gives


@pytest.fixture
def family() -> Iterator[subprocess.Popen[bytes]]:
    """A shell whose child has a child of its own, which has used some CPU time."""
    burn = "while [ $((i += 1)) -lt 100000 ]; do :; done; echo burnt; read x"
    script = f"sh -c '(sh -c \"{burn.replace('$', chr(92) + '$')}\"; :); :'; :"
    process = subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == b"burnt\n"
    yield process
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


@pytest.mark.parametrize("kernel_lists_children", [True, False])
def test_descendants(
    family: subprocess.Popen[bytes],
    monkeypatch: pytest.MonkeyPatch,
    kernel_lists_children: bool,
) -> None:
    monkeypatch.setattr(processes, "_KERNEL_LISTS_CHILDREN", kernel_lists_children)
    found = descendants(family.pid)
    assert len(found) >= 2
    assert found[0] == children(family.pid)[0]
    assert set(found) <= set(descendants(os.getpid()))
    assert family.pid in children(os.getpid())


def test_cpu_time_of_a_tree_without_its_root(family: subprocess.Popen[bytes]) -> None:
    used = tree_cpu_seconds(family.pid)
    assert used >= 0.01
    leaf = descendants(family.pid)[-1]
    assert busy_seconds(leaf) > 0.0
    times = process_times(family.pid)
    assert times is not None and times.own_seconds < used


def private_bytes_of(script: str) -> int:
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", f"{script}; print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None and child.stdout is not None
    child.stdout.readline()
    found = private_bytes(child.pid)
    child.communicate()
    return found


def test_memory_is_what_is_not_shared() -> None:
    bare = private_bytes_of("x = b''")
    more = private_bytes_of("x = b'x' * (50 << 20)") - bare
    assert 45 << 20 <= more < 60 << 20
    assert bare < 45 << 20


def test_the_gone_and_the_dead() -> None:
    assert children(NO_PROCESS) == descendants(NO_PROCESS) == []
    assert process_times(NO_PROCESS) is None
    assert busy_seconds(NO_PROCESS) == private_bytes(NO_PROCESS) == 0
    assert is_zombie(NO_PROCESS)
    child = subprocess.Popen(["/bin/true"])
    deadline = time.monotonic() + 60
    while not is_zombie(child.pid):
        assert time.monotonic() < deadline
    assert Path(f"/proc/{child.pid}").exists(), "not collected yet"
    child.wait()


def test_a_name_cannot_confuse_the_parser(tmp_path: Path) -> None:
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/cat")
    child = subprocess.Popen([program], stdin=subprocess.PIPE)
    assert child.stdin is not None
    assert not is_zombie(child.pid)
    times = process_times(child.pid)
    assert times is not None and times.own_seconds < 1
    child.stdin.close()
    child.wait(60)
