"""Which limit is broken by what, and the limits of single processes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from requestor.errors import UsageError
from requestor.evaluation.limits import Limits, Usage, default_limits, usage_of

LIMITS = Limits(memory_bytes=1000, order_seconds=10, file_bytes=100, processes=3)


@pytest.mark.parametrize(
    ("now", "seconds", "words"),
    [
        (Usage(), 10.5, "not done after 10 s"),
        (Usage(cpu_seconds=15.5), 1, "more than 10 s of CPU time"),
        (Usage(memory_bytes=1001), 1, "of memory"),
        (Usage(processes=4), 1, "started 4 processes, 3 are allowed"),
        (Usage(folder_bytes=401), 1, "it wrote"),
        (Usage(folder_entries=10_001), 1, "it wrote"),
    ],
)
def test_each_limit_is_told(now: Usage, seconds: float, words: str) -> None:
    assert words in (LIMITS.broken_by(Usage(cpu_seconds=5), now, seconds) or "")


def test_up_to_the_limits_nothing_is_broken() -> None:
    now = Usage(1000, 15.0, 3, 400, 10_000)
    assert LIMITS.broken_by(Usage(cpu_seconds=5), now, 10) is None


def test_single_processes_are_held_to_them() -> None:
    limits = Limits(memory_bytes=64 << 20, file_bytes=1 << 20, open_files=50)
    said = subprocess.run(
        limits.within(["/bin/sh", "-c", "ulimit -c; ulimit -d; ulimit -f; ulimit -n; echo $0"]),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    # KiB of data, blocks of 512 bytes of a file
    assert said == ["0", str(64 << 10), str(1 << 11), "50", "/bin/sh"]


def test_what_this_process_takes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(5000))
    (tmp_path / "b").symlink_to("/")
    usage = usage_of(os.getpid(), tmp_path)
    assert usage.memory_bytes > 1 << 20
    assert usage.processes >= 1
    assert usage.cpu_seconds > 0
    assert usage.folder_entries == 2
    assert usage_of(2**22 + 1, tmp_path / "nowhere") == Usage()


def test_the_environment_sets_limits() -> None:
    found = default_limits({"DERL_JAIL_MEMORY_GIB": "1.5", "DERL_JAIL_ORDER_SECONDS": "60"})
    assert (found.memory_bytes, found.order_seconds) == (3 << 29, 60.0)
    assert default_limits({}).order_seconds == 3600.0
    with pytest.raises(UsageError, match="DERL_JAIL_MEMORY_GIB is 'much'"):
        default_limits({"DERL_JAIL_MEMORY_GIB": "much"})
