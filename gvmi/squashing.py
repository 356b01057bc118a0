"""From a folder to a GVMI file: squashfs by the build root's mksquashfs, then the settings."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gvmi.build_root import Jailed, run_jailed
from gvmi.variants import ENVIRONMENT, SOURCE_DATE_EPOCH, WORK_VOLUME
from requestor.mock_golem.images.gvmi_file import trailer

Compression = Literal["gzip", "lzo", "xz", "lz4"]
COMPRESSIONS: tuple[Compression, ...] = ("gzip", "lzo", "xz", "lz4")
_OPTIONS: dict[Compression, tuple[str, ...]] = {
    "gzip": ("-Xcompression-level", "9"),
    "lzo": ("-Xalgorithm", "lzo1x_999", "-Xcompression-level", "9"),
    "xz": ("-Xbcj", "x86"),
    "lz4": ("-Xhc",),
}


@dataclass(frozen=True)
class Squeeze:
    """How a root file system is compressed; `block_bytes` is a power of two up to 1 MiB."""

    compression: Compression = "lzo"
    block_bytes: int = 128 << 10
    labels: dict[str, str] = field(default_factory=dict)


def container_settings(labels: dict[str, str]) -> bytes:
    """Return the settings behind the squashfs, as the `Config` object of a Docker image."""
    settings = {
        "Env": [f"{name}={value}" for name, value in sorted(ENVIRONMENT.items())],
        "Labels": dict(sorted(labels.items())),
        "Volumes": {WORK_VOLUME: {}},
        "WorkingDir": WORK_VOLUME,
    }
    return json.dumps(settings, separators=(",", ":"), sort_keys=True).encode()


def write_gvmi(root: Path, target: Path, build_root: Path, how: Squeeze) -> None:
    """Write the image of a root file system, whole or not at all.

    Raises:
        ImageToolError: mksquashfs failed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        squash = Path(scratch) / "squashfs"
        command = ["/usr/bin/mksquashfs", "/image", "/out/squashfs", "-noappend", "-no-progress"]
        command += ["-all-root", "-no-xattrs", "-no-exports", "-b", str(how.block_bytes)]
        command += ["-mkfs-time", str(SOURCE_DATE_EPOCH), "-all-time", str(SOURCE_DATE_EPOCH)]
        command += ["-comp", how.compression, *_OPTIONS[how.compression]]
        folders = {"/image": root, "/out": Path(scratch)}
        run_jailed(build_root, Jailed(command, folders, writable=frozenset({"/out"})))
        with squash.open("ab") as file:
            file.write(trailer(container_settings(how.labels)))
            file.flush()
            os.fsync(file.fileno())
        squash.chmod(0o644)
        shutil.move(squash, target)
