"""Fuzz one target with atheris (libFuzzer): `python -m tests.fuzz.fuzzing TARGET [options]`.

Options are libFuzzer's. An exception that is no refusal is a crash, and so is memory beyond the
bound. Started by `scripts/fuzz`.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["provider_image", "requestor", "gvmi", "tests"]):
    from tests.fuzz.targets import TARGETS
from tests.fuzz.target import MEMORY_BYTES

PAGE_BYTES = resource.getpagesize()


def main(arguments: list[str]) -> None:
    """Fuzz until libFuzzer ends the process."""
    target = TARGETS[arguments[1]]
    scratch = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    folder, seeds = Path(scratch.name) / "work", Path(scratch.name) / "seeds"
    folder.mkdir()
    seeds.mkdir()

    def read(data: bytes) -> None:
        target.try_on(data, folder)

    for number, seed in enumerate(target.seeds()):
        (seeds / str(number)).write_bytes(seed)
        read(seed)
    in_use = int(Path("/proc/self/statm").read_text().split()[5]) * PAGE_BYTES
    limit = in_use + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    options = [f"-max_len={target.max_bytes}", "-timeout=20", f"-rss_limit_mb={limit >> 20}"]
    atheris.Setup([arguments[0], *options, *arguments[2:], str(seeds)], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
