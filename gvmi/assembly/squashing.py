"""From a folder to a GVMI file: squashfs by the build root's mksquashfs, then the settings."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gvmi.assembly.build_root import Jailed, run_jailed
from gvmi.variants import ENVIRONMENT, SOURCE_DATE_EPOCH, WORK_VOLUME, Variant
from requestor.mock_golem.images.gvmi_file import trailer

Compression = Literal["gzip", "lzo", "xz", "lz4"]
COMPRESSIONS: tuple[Compression, ...] = ("gzip", "lzo", "xz", "lz4")
_OPTIONS: dict[Compression, tuple[str, ...]] = {
    "gzip": ("-Xcompression-level", "9"),
    "lzo": ("-Xalgorithm", "lzo1x_999", "-Xcompression-level", "9"),
    "xz": ("-Xbcj", "x86"),
    "lz4": ("-Xhc",),
}


def usual_compression(variant: Variant) -> Compression:
    """Return the one that starts soonest, but for CUDA's gigabytes the smaller one."""
    return "gzip" if variant == "cuda" else Squeeze.compression


@dataclass(frozen=True)
class Squeeze:
    """How a root file system is compressed; `block_bytes` is a power of two up to 1 MiB."""

    compression: Compression = "lzo"
    block_bytes: int = 128 << 10
    labels: dict[str, str] = field(default_factory=dict)


def container_settings(labels: dict[str, str]) -> bytes:
    """Return the settings behind the squashfs, as the `Config` object of a Docker image."""
    return settings_json(ENVIRONMENT, labels, (WORK_VOLUME,), WORK_VOLUME)


def settings_json(
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    volumes: Iterable[str],
    working_dir: str,
) -> bytes:
    """Return settings as JSON: equal settings give equal bytes."""
    settings = {
        "Env": [f"{name}={value}" for name, value in sorted(environment.items())],
        "Labels": dict(sorted(labels.items())),
        "Volumes": {volume: {} for volume in sorted(volumes)},
        "WorkingDir": working_dir,
    }
    return json.dumps(settings, separators=(",", ":"), sort_keys=True).encode()


def mksquashfs_options(how: Squeeze) -> list[str]:
    """Return mksquashfs's options for an image; the file system depends on nothing else."""
    options = ["-noappend", "-no-progress", "-all-root", "-no-xattrs", "-no-exports"]
    options += ["-mkfs-time", str(SOURCE_DATE_EPOCH), "-all-time", str(SOURCE_DATE_EPOCH)]
    options += ["-b", str(how.block_bytes), "-comp", how.compression]
    return [*options, *_OPTIONS[how.compression]]


def write_gvmi(root: Path, target: Path, build_root: Path, how: Squeeze) -> None:
    """Write the image of a root file system, whole or not at all.

    Raises:
        ImageToolError: mksquashfs failed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        squash = Path(scratch) / "squashfs"
        command = ["/usr/bin/mksquashfs", "/image", "/out/squashfs", *mksquashfs_options(how)]
        folders = {"/image": root, "/out": Path(scratch)}
        run_jailed(build_root, Jailed(command, folders, writable=frozenset({"/out"})))
        with squash.open("ab") as file:
            file.write(trailer(container_settings(how.labels)))
            file.flush()
            os.fsync(file.fileno())
        squash.chmod(0o644)
        shutil.move(squash, target)
