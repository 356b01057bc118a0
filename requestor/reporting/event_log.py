"""`events.jsonl`: the events of a run with their times, written as they happen and read back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from requestor.training_run.events import Event, event_from_record, event_record
from requestor.training_run.json_lines import JsonLines, read_json_lines

TimedEvent = tuple[float, Event]
"""Unix time in seconds, and what happened then."""


class EventLog:
    """An `Observer` that appends every event to a file."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`."""
        self._lines: JsonLines | None = JsonLines(path)

    def on_event(self, event: Event, unix_seconds: float) -> None:
        """Write one line; numbers that JSON does not have become null."""
        if self._lines is not None:
            record = {"unix_seconds": round(unix_seconds, 3), **event_record(event)}
            self._lines.append(_finite(record))

    def close(self) -> None:
        """Close the file."""
        if self._lines is not None:
            self._lines.close()
            self._lines = None


def read_events(path: Path) -> Iterator[TimedEvent]:
    """Yield the events of a log in order; lines of other versions are passed over."""
    for record in read_json_lines(path):
        event = event_from_record(record)
        unix_seconds = record.get("unix_seconds")
        if event is not None and isinstance(unix_seconds, int | float):
            yield float(unix_seconds), event


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
