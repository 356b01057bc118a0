"""A GVMI with a few of this machine's programs, built in a moment."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from requestor.mock_golem.exe_unit import bubblewrap_problem
from requestor.mock_golem.images.gvmi_file import trailer

PROGRAMS = ("sh", "cat", "ls", "id", "touch", "head", "mkdir", "chroot", "mount", "sleep", "df")
SETTINGS: dict[str, Any] = {
    "Env": ["PATH=/bin", "OF_THE_IMAGE=yes"],
    "WorkingDir": "/golem/work",
    "Volumes": {"/golem/work": {}, "/golem/other": {}},
}


def missing() -> str | None:
    """Why images cannot be built and run here; None if they can."""
    if shutil.which("mksquashfs") is None:
        return "there is no `mksquashfs` program on PATH (package squashfs-tools)"
    return bubblewrap_problem()


needs_images = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def build(
    target: Path, furnish: Callable[[Path], None] = lambda root: None, **settings: Any
) -> Path:
    """Build an image; `furnish` is called with its root, `settings` go over `SETTINGS`."""
    root = target.with_suffix(".root")
    shutil.copytree(_base(target.parent), root, symlinks=True)
    furnish(root)
    squashfs = target.with_suffix(".squashfs")
    words = ["-all-root", "-comp", "gzip", "-noappend", "-quiet", "-no-progress"]
    subprocess.run(["mksquashfs", root, squashfs, *words], check=True, stdout=subprocess.DEVNULL)
    text = json.dumps({**SETTINGS, **settings}).encode()
    target.write_bytes(squashfs.read_bytes() + trailer(text))
    return target


def add_program(root: Path, name: str) -> None:
    """Copy a program of this machine with its libraries."""
    program = shutil.which(name)
    assert program is not None, name
    shutil.copy(program, root / "bin" / name)
    said = subprocess.run(["ldd", program], check=False, capture_output=True, text=True).stdout
    for library in (word for word in said.split() if word.startswith("/")):
        place = root / library[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, place)


@functools.cache
def _base(folder: Path) -> Path:
    root = folder / "base"
    for name in ("bin", "etc", "golem/work", "opt"):
        (root / name).mkdir(parents=True)
    for name in PROGRAMS:
        add_program(root, name)
    (root / "golem" / "work" / "hidden").write_text("x")
    (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\nworker:x:1234:1235::/:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\nworkers:x:77:worker\n")
    return root
