"""What is fuzzed: one reader of strangers' bytes, and what it may say when they are bad."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MEMORY_BYTES = 512 << 20
"""What reading one input may take beyond what the process had before."""


DEEP = (b"[" * 4000 + b"\n", b'{"a":' * 800 + b"\n")
"""JSON that is nested deeper than any reader can follow."""


@dataclass(frozen=True)
class Target:
    """A reader.

    `read(data, folder)` gives it some bytes; `folder` is empty scratch space for those that read
    files. Only `refusals` may come out of it. `seeds` are inputs from which fuzzing begins.
    """

    name: str
    read: Callable[[bytes, Path], object]
    refusals: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]] = lambda: []
    max_bytes: int = 4096

    def try_on(self, data: bytes, folder: Path) -> bool:
        """Read `data`; True if it was accepted. Anything but a refusal is raised."""
        try:
            self.read(data, folder)
        except self.refusals:
            return False
        return True
