"""Progress of `deploy` and `transfer`, told as runtime events at most so often as asked for."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

DEFAULT_INTERVAL_SECONDS = 1.0
_LONGEST_TEXT = 64
_PART = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]+)")
_UNIT_SECONDS = {
    **dict.fromkeys(("ns", "nsec", "nanos"), 1e-9),
    **dict.fromkeys(("us", "usec", "micros"), 1e-6),
    **dict.fromkeys(("ms", "msec", "millis"), 1e-3),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
}

Tell = Callable[[dict[str, Any]], None]


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as `300ms` or `1m 30s`. Raises `ValueError`."""
    rest, seconds = text.strip(), 0.0
    if not rest or len(text) > _LONGEST_TEXT:
        raise ValueError(f"{text[:_LONGEST_TEXT]!r} is no duration such as 300ms")
    while rest:
        part = _PART.match(rest)
        if part is None or part[2] not in _UNIT_SECONDS:
            raise ValueError(f"{text!r} is no duration such as 300ms")
        seconds += float(part[1]) * _UNIT_SECONDS[part[2]]
        rest = rest[part.end() :].strip()
    return seconds


class Progress:
    """Tells how far a command has come, in bytes.

    `tell` gets events' `progress`; `interval_seconds` pass between two of them, but a message is
    told at once. `clock` returns seconds.
    """

    def __init__(
        self,
        tell: Tell,
        interval_seconds: float = DEFAULT_INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell = tell
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._told_at = clock()
        self._position: tuple[int, int | None] = (0, None)

    def advance(self, done_bytes: int, size_bytes: int | None) -> None:
        """So much of the whole is done (None: nobody knows how much the whole is)."""
        self._position = (done_bytes, size_bytes)
        if self._clock() - self._told_at >= self._interval_seconds:
            self._emit(None)

    def say(self, message: str) -> None:
        """Tell something in words."""
        self._emit(message)

    def _emit(self, message: str | None) -> None:
        self._told_at = self._clock()
        self._tell(
            {
                "step": [0, 1],
                "message": message,
                "progress": list(self._position),
                "unit": "Bytes",
            }
        )


class NoProgress(Progress):
    """Tells nothing: nobody asked."""

    def __init__(self) -> None:
        super().__init__(lambda progress: None, float("inf"))

    def say(self, message: str) -> None:
        """Do nothing."""
