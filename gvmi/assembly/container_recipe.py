"""What runs inside `docker build`: the image's root is laid out by the same code as without Docker.

It is run by the image's own Python, with nothing installed but what stands in the context.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from gvmi.assembly.root_file_system import Ingredients, make_root, strip_command
from gvmi.errors import ImageToolError

PACKAGES, WHEELS, DESCRIPTION = Path("/packages"), Path("/wheels"), Path("/description")
IMAGE = Path("/image")
MODULES = (
    "__init__",
    "assembly/__init__",
    "assembly/container_recipe",
    "assembly/root_file_system",
    "errors",
    "packages/__init__",
    "packages/debian_packages",
    "packages/wheels",
    "variants",
)
"""The modules of `gvmi` that this one needs; they import the standard library and `installer`."""


def run_in_chroot(root: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a command with `root` as its root; raises `ImageToolError` if it fails."""
    surroundings = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp", **environment}

    def enter() -> None:
        os.chroot(root)
        os.chdir("/")

    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        env=surroundings,
        preexec_fn=enter,
        check=False,
    )
    if done.returncode:
        raise ImageToolError(f"{command[0]} ended with code {done.returncode}")


def main() -> None:
    """Lay out the image's root from the context."""
    IMAGE.mkdir()
    ingredients = Ingredients(sorted(PACKAGES.iterdir()), sorted(WHEELS.glob("*/*.whl")))
    make_root(ingredients, IMAGE, run_in_chroot)
    if command := strip_command(IMAGE):
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
    for path in sorted(DESCRIPTION.rglob("*")):
        target = IMAGE / path.relative_to(DESCRIPTION)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            shutil.copyfile(path, target)
        target.chmod(0o755 if path.is_dir() else 0o644)


if __name__ == "__main__":
    main()
