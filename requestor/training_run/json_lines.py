"""Append-only files of JSON lines that survive a crash in the middle of a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MAX_LINE_BYTES = 1 << 24
"""No longer line is read: a run's folder may be somebody else's."""


class JsonLines:
    """A file to which records are appended, each visible to readers at once."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`; a line torn by a crash is cut off."""
        whole = _whole_bytes(path)
        self._file = path.open("ab")
        self._file.truncate(whole)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one record."""
        self._file.write(json.dumps(record, allow_nan=False, default=str).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a file; stops at a torn line, and at one longer than
    `MAX_LINE_BYTES`; a missing file has none."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        while line := lines.readline(MAX_LINE_BYTES + 1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                return
            if isinstance(record, dict):
                yield record


def _whole_bytes(path: Path) -> int:
    if not path.exists():
        return 0
    whole = size = 0
    with path.open("rb") as lines:
        while piece := lines.readline(MAX_LINE_BYTES):
            size += len(piece)
            if piece.endswith(b"\n"):
                whole = size
    return whole
