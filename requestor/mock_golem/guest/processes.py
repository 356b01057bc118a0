"""Process trees through `/proc`: who descends from a process, what they used, ending them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_KERNEL_COUNTS_WAITING = os.path.exists("/proc/self/schedstat")
_KERNEL_LISTS_CHILDREN = os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children")


class ProcessTimes(NamedTuple):
    """CPU seconds of a process itself and of its children that have been waited for."""

    own_seconds: float
    children_seconds: float


def children(pid: int) -> list[int]:
    """The direct children of `pid`, of all its threads; empty when it is gone."""
    if not _KERNEL_LISTS_CHILDREN:
        return _children_by_scan(pid)
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found.extend(map(int, file.read().split()))
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread ended; its children are now another thread's or an ancestor's
    return found


def descendants(pid: int) -> list[int]:
    """Everything below `pid`, parents before their children."""
    found: list[int] = []
    pending = children(pid)
    seen = set(pending)
    while pending:
        found.extend(pending)
        pending = [new for parent in pending for new in children(parent) if new not in seen]
        seen.update(pending)
    return found


def process_times(pid: int) -> ProcessTimes | None:
    """CPU times of `pid`, zombies included; None when it is gone."""
    fields = _stat_fields(pid)
    if fields is None:
        return None
    user, system, children_user, children_system = (int(fields[index]) for index in range(11, 15))
    return ProcessTimes(
        (user + system) / TICKS_PER_SECOND, (children_user + children_system) / TICKS_PER_SECOND
    )


def tree_cpu_seconds(init: int) -> float:
    """CPU seconds of everything that ever ran below `init`, without its own."""
    own = process_times(init)
    total = own.children_seconds if own else 0.0
    for pid in descendants(init):
        times = process_times(pid)
        if times is not None:
            total += times.own_seconds + times.children_seconds
    return total


def busy_seconds(pid: int) -> float:
    """Seconds all threads of `pid` have run or waited for a free core; 0 when it is gone."""
    if not _KERNEL_COUNTS_WAITING:
        times = process_times(pid)
        return times.own_seconds if times else 0.0
    nanoseconds = 0
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return 0.0
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                running, waiting, _ = file.read().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        nanoseconds += int(running) + int(waiting)
    return nanoseconds / 1e9


def private_bytes(pid: int) -> int:
    """Resident memory of `pid` that is not shared with files or other processes."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            _, resident, shared, *_ = file.read().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return max(0, int(resident) - int(shared)) * PAGE_BYTES


def signal_all(pids: Iterable[int], number: int) -> list[int]:
    """Send a signal to each that still exists; returns those that got it."""
    reached = []
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue
        reached.append(pid)
    return reached


def kill_descendants(pid: int, spared: int = 0, reap: Callable[[], None] | None = None) -> None:
    """Kill everything below `pid` but `spared`, however fast it forks, until nothing is left.

    The caller must be the one orphans fall to (a child-subreaper or PID 1) or its parent.
    `reap` is called between the passes to collect the dead.
    """
    while True:
        remaining = [child for child in descendants(pid) if child != spared]
        alive = [child for child in remaining if not is_zombie(child)]
        if not alive:
            if reap is not None:
                reap()
            if not [c for c in descendants(pid) if c != spared and not is_zombie(c)]:
                return
            continue
        signal_all(alive, signal.SIGSTOP)  # nobody forks any more while the list is worked off
        signal_all(alive, signal.SIGKILL)
        if reap is not None:
            reap()
        time.sleep(0.001)


def is_zombie(pid: int) -> bool:
    """Whether `pid` is dead, collected or not."""
    fields = _stat_fields(pid)
    return fields is None or fields[0] in ("Z", "X")


def _stat_fields(pid: int) -> list[str] | None:
    """The fields of `/proc/<pid>/stat` after the name: [0] is the state, [1] the parent."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def _children_by_scan(pid: int) -> list[int]:
    """For kernels built without `/proc/<pid>/task/<tid>/children`."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat_fields(int(name))
            if fields is not None and int(fields[1]) == pid:
                found.append(int(name))
    return found
