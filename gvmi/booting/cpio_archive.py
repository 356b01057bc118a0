"""Archives in the format that the Linux kernel unpacks as its first root file system (newc cpio).

Every entry belongs to root and has the time 0, so that the same files give the same bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass

_MAGIC = "070701"
_END = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """One file, folder or symbolic link (`data` is its target); `mode` has the type's bits."""

    mode: int
    data: bytes = b""


def file_entry(data: bytes, permissions: int = 0o644) -> Entry:
    """Return a regular file."""
    return Entry(stat.S_IFREG | permissions, data)


def write_cpio(entries: Mapping[str, Entry]) -> bytes:
    """Return the archive of entries by their paths, none of which begins with a slash.

    Folders on the way to an entry are added where they are missing.
    """
    whole = dict(entries)
    for path in entries:
        parent = path.rpartition("/")[0]
        while parent:
            whole.setdefault(parent, Entry(stat.S_IFDIR | 0o755))
            parent = parent.rpartition("/")[0]
    parts = [_record(i, path, whole[path]) for i, path in enumerate(sorted(whole), start=1)]
    return b"".join([*parts, _record(0, _END, Entry(0))])


def _record(inode: int, path: str, entry: Entry) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # inode, mode, uid, gid, links, time, size, device (4 numbers), length of the name, checksum
    numbers = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    head = (_MAGIC + "".join(f"{number:08x}" for number in numbers)).encode()
    return _padded(head + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
