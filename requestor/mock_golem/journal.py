"""The journal: JSON lines, only ever appended to, from which a daemon's books are rebuilt.

Each line is `{"at": instant, "records": [{"type": ..., "data": {...}}, ...]}`: all records of one
change, each whole, the last one of an id wins. A line reaches the operating system before the
change is answered, so a killed daemon loses nothing that it told anybody; a last line that was cut
short is dropped.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

JOURNAL_NAME = "journal.jsonl"
MAX_JOURNAL_BYTES = 1 << 32


class JournalError(Exception):
    """A journal cannot be read or is in use; the message names the file and the fix."""


class Journal:
    """Appends to a state directory's journal; one process at a time.

    Args:
        directory: created if it is not there.

    Raises:
        JournalError: the directory cannot be used, or another daemon uses it.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / JOURNAL_NAME
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise JournalError(
                f"{directory}: cannot be used as state directory: {error.strerror}. "
                "Name another with --state."
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise JournalError(
                f"{directory}: another mock-golem uses this state directory. "
                "Stop it, or name another with --state."
            ) from error

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the records written so far, oldest first, and cut off an unfinished last line.

        Raises:
            JournalError: a line other than the last is damaged.
        """
        _, whole_bytes = _split(self.path)
        os.ftruncate(self._file, whole_bytes)
        return read_journal(self.path)

    def append(self, at: str, records: list[dict[str, Any]]) -> None:
        """Write one change; it is in the operating system's hands when this returns."""
        line = json.dumps({"at": at, "records": records}, separators=(",", ":")) + "\n"
        remaining = memoryview(line.encode())
        while remaining:
            remaining = remaining[os.write(self._file, remaining) :]

    def close(self) -> None:
        """Close the file and let others use the directory."""
        os.close(self._file)


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a journal, oldest first; an unfinished last line is left out.

    Raises:
        JournalError: the file cannot be read, or a line is damaged.
    """
    text, _ = _split(path)
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            yield from json.loads(line)["records"]
        except (ValueError, KeyError, TypeError) as error:
            raise JournalError(
                f"{path}:{number}: damaged line. Restore the file, or start with a new --state."
            ) from error


def _split(path: Path) -> tuple[bytes, int]:
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_JOURNAL_BYTES:
            raise JournalError(f"{path}: {size_bytes} bytes are too many. Start a new --state.")
        content = path.read_bytes()
    except OSError as error:
        raise JournalError(
            f"{path}: cannot be read: {error.strerror}. Was a daemon run with this --state?"
        ) from error
    whole_bytes = content.rfind(b"\n") + 1
    return content[:whole_bytes], whole_bytes
