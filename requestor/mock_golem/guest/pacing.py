"""Making an activity slow, and ending it when it outgrows its memory."""

from __future__ import annotations

import os
import resource
import signal

from .processes import busy_seconds, descendants, private_bytes, signal_all

SHORT_WINDOW_SECONDS = 0.02
LONG_WINDOW_SECONDS = 0.16
LONGEST_PAUSE_SECONDS = 2.0
FILE_BYTES = 1 << 10  # what the kernel takes for a file in memory, even an empty one
FASTEST_MEMORY_GROWTH_BYTES = 2 << 30  # per second; how fast a process may touch new memory


class Pacer:
    """Stops all guest processes for so long that work takes `1 / pace` times its own time.

    Time is cut into windows in which the processes run. What they used of one (running, or
    waiting for a core that others had) they pay for: they are stopped (SIGSTOP) for
    `(1 - pace) / pace` times as long. Idle processes are left alone.
    """

    def __init__(self, pace: float, init: int) -> None:
        self._price = (1.0 - pace) / pace
        self._init = init
        self._known: dict[int, float] = {}
        self._collected_seconds = 0.0
        self._debt_seconds = 0.0
        self._window_seconds = SHORT_WINDOW_SECONDS
        self._window_start = 0.0
        self._stopped: list[int] = []
        self.next_step: float | None = None  # when `step` wants to be called; None: not needed

    def wake(self, now: float) -> None:
        """A command has been started."""
        if self.next_step is None and self._price > 0:
            self._begin_window(now, SHORT_WINDOW_SECONDS)

    def step(self, now: float) -> None:
        """End the present window or pause."""
        if self._stopped:
            signal_all(self._stopped, signal.SIGCONT)
            self._stopped = []
            self._begin_window(now, SHORT_WINDOW_SECONDS)
            return
        pids = descendants(self._init)
        elapsed = now - self._window_start
        used = min(elapsed, self._used_seconds(pids))
        self._debt_seconds += used * self._price
        if not pids:
            self.next_step = None
        elif self._debt_seconds < SHORT_WINDOW_SECONDS / 2:
            self._begin_window(now, min(2 * self._window_seconds, LONG_WINDOW_SECONDS))
        else:
            pause = min(self._debt_seconds, LONGEST_PAUSE_SECONDS)
            self._debt_seconds -= pause
            self._stopped = signal_all(pids, signal.SIGSTOP)
            # Those that were forked while their parents were being stopped:
            late = [pid for pid in descendants(self._init) if pid not in set(pids)]
            self._stopped += signal_all(late, signal.SIGSTOP)
            self.next_step = now + pause

    def _begin_window(self, now: float, seconds: float) -> None:
        self._window_seconds = seconds
        self._window_start = now
        self.next_step = now + seconds

    def _used_seconds(self, pids: list[int]) -> float:
        """Busy time of all guests since the last call, dead ones included."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        collected = usage.ru_utime + usage.ru_stime
        used = collected - self._collected_seconds
        self._collected_seconds = collected
        known = {pid: busy_seconds(pid) for pid in pids}
        for pid, seconds in known.items():
            used += max(0.0, seconds - self._known.get(pid, 0.0))
        used -= sum(seconds for pid, seconds in self._known.items() if pid not in known)
        self._known = known
        return max(0.0, used)


class MemoryGuard:
    """Tells when the guest processes together hold more than `limit_bytes`.

    Looks as rarely as it may: the nearer the limit, the sooner the next look.
    """

    def __init__(self, limit_bytes: int | None, init: int, memory_folders: list[str]) -> None:
        self._limit_bytes = limit_bytes
        self._init = init
        self._memory_folders = memory_folders
        self.next_step: float | None = None

    def wake(self, now: float) -> None:
        """A command has been started."""
        if self._limit_bytes is not None:
            self.next_step = now + 0.02

    def is_exceeded(self, now: float) -> bool:
        """Measure, and plan the next look."""
        assert self._limit_bytes is not None
        pids = descendants(self._init)
        used = sum(map(private_bytes, pids)) + sum(map(_stored_bytes, self._memory_folders))
        seconds = (self._limit_bytes - used) / FASTEST_MEMORY_GROWTH_BYTES
        self.next_step = now + min(max(seconds, 0.02), 1.0) if pids else None
        return used > self._limit_bytes


def _stored_bytes(folder: str) -> int:
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    files = found.f_files - found.f_ffree
    return (found.f_blocks - found.f_bfree) * found.f_frsize + files * FILE_BYTES
