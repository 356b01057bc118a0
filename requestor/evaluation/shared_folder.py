"""Files in a folder where somebody else may put anything at any time: links, pipes, folders."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO


def empty_folder(folder: Path) -> None:
    """Make a folder, or remove all that is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        _remove(path)


def create_file(path: Path) -> BinaryIO:
    """Open a new file to write, in place of whatever has its name; no link is followed."""
    _remove(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o644), "wb")


def read_tail(path: Path, most_bytes: int) -> bytes:
    """Return the end of a regular file; no link is followed, no pipe waited for."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is no regular file")
        file.seek(max(0, status.st_size - most_bytes))
        return file.read(most_bytes)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
