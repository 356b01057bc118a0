"""A stand-in for the build root: this machine's mksquashfs and what it loads, nothing more."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest


def make_squashing_root(root: Path, program: str = "mksquashfs") -> Path:
    """Make it in an empty folder; skips where this machine lacks a program."""
    for needed, package in (("bwrap", "bubblewrap"), (program, "squashfs-tools"), ("ldd", "libc")):
        if shutil.which(needed) is None:
            pytest.skip(f"there is no {needed}: sudo apt install {package}")
    for name in ("dev", "proc", "tmp", "out", "image", "usr/bin"):
        (root / name).mkdir(parents=True)
    binary = shutil.which(program)
    assert binary is not None
    shutil.copy(binary, root / "usr/bin" / program)
    loaded = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout
    libraries = re.findall(r"(/\S+) \(0x", loaded)
    # threads load it when they end
    more = [
        Path(library).with_name("libgcc_s.so.1") for library in libraries if "libc.so" in library
    ]
    for library in [*libraries, *(str(path) for path in more if path.exists())]:
        (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, root / library[1:])
    command = ["bwrap", "--unshare-all", "--ro-bind", str(root), "/", f"/usr/bin/{program}"]
    done = subprocess.run([*command, "-version"], capture_output=True, text=True, check=False)
    if f"{program} version" not in done.stdout:
        pytest.skip(f"{program} does not run under bubblewrap here: {done.stderr.strip()}")
    return root
