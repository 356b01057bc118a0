"""How much a local worker may take, and how much it takes: memory, time, processes, disk.

What one process can be held to is set before it starts (`within`); the sums over all that it
starts are looked at while an order is done (`usage_of`, `Limits.broken_by`).
"""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from provider_image.wire import MAX_FILE_BYTES
from requestor.errors import UsageError

MEMORY_VARIABLE = "DERL_JAIL_MEMORY_GIB"
SECONDS_VARIABLE = "DERL_JAIL_ORDER_SECONDS"
MEMORY_SHARE = 0.75
"""Of the machine's memory a worker may take so much, if nothing else is said."""

MAX_FOLDER_ENTRIES = 10_000
MAX_PROCESSES = 128
_KIB = 1024
_BLOCK_BYTES = 512  # in which a POSIX shell counts the size of files
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = resource.getpagesize()


@dataclass(frozen=True)
class Usage:
    """What a worker and all that it has started take; `cpu_seconds` of those that still run."""

    memory_bytes: int = 0
    cpu_seconds: float = 0.0
    processes: int = 0
    folder_bytes: int = 0
    folder_entries: int = 0


@dataclass(frozen=True)
class Limits:
    """The most that a worker may take.

    memory_bytes: of each process and of all together.
    order_seconds: for one order, by the clock on the wall and in CPU time.
    file_bytes: of each file; four times as much is for all in its folder.
    """

    memory_bytes: int
    order_seconds: float = 3600.0
    file_bytes: int = MAX_FILE_BYTES
    processes: int = MAX_PROCESSES
    open_files: int = 1024

    def broken_by(self, before: Usage, now: Usage, seconds: float) -> str | None:
        """Say which limit an order broke that began at `before`, `seconds` ago; None if none."""
        if seconds > self.order_seconds:
            return f"it was not done after {self.order_seconds:g} s ({SECONDS_VARIABLE})"
        if now.cpu_seconds - before.cpu_seconds > self.order_seconds:
            return f"it took more than {self.order_seconds:g} s of CPU time ({SECONDS_VARIABLE})"
        if now.memory_bytes > self.memory_bytes:
            return f"it took {_gib(now.memory_bytes)} of {_gib(self.memory_bytes)} of memory " + (
                f"({MEMORY_VARIABLE})"
            )
        if now.processes > self.processes:
            return f"it started {now.processes} processes, {self.processes} are allowed"
        if now.folder_bytes > 4 * self.file_bytes or now.folder_entries > MAX_FOLDER_ENTRIES:
            return f"it wrote {_gib(now.folder_bytes)} in {now.folder_entries} files or more"
        return None

    def within(self, command: Sequence[str]) -> list[str]:
        """Return the command line that runs `command` with the limits of a single process."""
        wanted = (
            ("c", resource.RLIMIT_CORE, 0, 1),
            ("d", resource.RLIMIT_DATA, self.memory_bytes, _KIB),
            ("f", resource.RLIMIT_FSIZE, self.file_bytes, _BLOCK_BYTES),
            ("n", resource.RLIMIT_NOFILE, self.open_files, 1),
        )
        words = [
            f"ulimit -{name} {_at_most(which, most) // unit}"
            for name, which, most, unit in (wanted)
        ]
        return ["/bin/sh", "-c", " && ".join([*words, 'exec "$@"']), "sh", *command]


def default_limits(environment: Mapping[str, str]) -> Limits:
    """Return the limits that the environment sets, or those for this machine.

    Raises:
        UsageError: a variable is no number above 0.
    """
    memory = environment.get(MEMORY_VARIABLE)
    seconds = environment.get(SECONDS_VARIABLE)
    limits = Limits(int(MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES))
    return Limits(
        limits.memory_bytes if not memory else int(_number(MEMORY_VARIABLE, memory) * 2**30),
        limits.order_seconds if not seconds else _number(SECONDS_VARIABLE, seconds),
    )


def usage_of(process_id: int, folder: Path) -> Usage:
    """Return what a process, its descendants and a folder take now; what is gone takes nothing."""
    memory = processes = 0
    cpu = 0.0
    for one in descendants(process_id):
        try:
            fields = Path(f"/proc/{one}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        processes += 1
        cpu += (int(fields[11]) + int(fields[12])) / _TICKS
        memory += int(fields[21]) * _PAGE_BYTES
    return Usage(memory, cpu, processes, *_size(folder))


def descendants(process_id: int) -> list[int]:
    """Return a process and all that it and they have started, as far as they still run."""
    found = [process_id]
    for one in found:
        if len(found) > 4 * MAX_PROCESSES:
            break
        for thread in _names(f"/proc/{one}/task"):
            try:
                text = Path(f"/proc/{one}/task/{thread}/children").read_text()
            except OSError:
                continue
            found += [int(child) for child in text.split()]
    return found


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _size(folder: Path) -> tuple[int, int]:
    """Bytes and number of the entries in a folder and those in it; no link is followed."""
    total = count = 0
    left = [os.fspath(folder)]
    while left and count <= MAX_FOLDER_ENTRIES:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    count += 1
                    total += status.st_blocks * 512
                    if stat.S_ISDIR(status.st_mode):
                        left.append(entry.path)
                    if count > MAX_FOLDER_ENTRIES:
                        break
        except OSError:
            continue
    return total, count


def _at_most(which: int, most: int) -> int:
    hard = resource.getrlimit(which)[1]
    return most if hard == resource.RLIM_INFINITY else min(most, hard)


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise UsageError(f"{name} is {text!r}", fix="set it to a number above 0, or unset it")
    return number


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
