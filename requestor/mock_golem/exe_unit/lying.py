"""The consistent liar: files and the checksums printed about them are falsified together."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from requestor.mock_golem.exe_unit.spec import Tamper
from requestor.mock_golem.exe_unit.tampering import file_sha256, tamper_file

Snapshot = dict[Path, tuple[int, ...]]  # regular files -> identity, size and time of last change


def take_snapshot(folders: Iterable[Path]) -> Snapshot:
    """All regular files below the folders; links are not followed."""
    found: Snapshot = {}
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                path = Path(parent, name)
                try:
                    status = path.lstat()
                except OSError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    found[path] = (status.st_ino, status.st_size, status.st_ctime_ns)
    return found


def falsify_reported_files(
    before: Snapshot, after: Snapshot, output: bytes, tamper: Tamper
) -> bytes:
    """Falsify each file written in between whose SHA-256 hex digest stands in `output`.

    Returns the output with the digests of the falsified files in their place.
    """
    for path, status in sorted(after.items()):
        if before.get(path) == status:
            continue
        honest = file_sha256(path).encode()
        if honest in output:
            tamper_file(path, tamper)
            output = output.replace(honest, file_sha256(path).encode())
    return output
