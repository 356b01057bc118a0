"""Installing wheels into the root of an image, whatever Python runs here."""

from __future__ import annotations

import os
from pathlib import Path

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.sources import WheelFile


def install_wheel(wheel: Path, root: Path, packages: str, interpreter: str) -> None:
    """Install a wheel into `packages` below `root`; its programs go to the interpreter's folder.

    `packages` and `interpreter` are places in the image. Nothing is byte-compiled.
    """
    programs = os.path.dirname(interpreter)
    scheme = {
        "purelib": packages,
        "platlib": packages,
        "scripts": programs,
        "data": os.path.dirname(programs),
        "headers": f"{packages}/include",
    }
    destination = SchemeDictionaryDestination(
        scheme, interpreter=interpreter, script_kind="posix", destdir=str(root)
    )
    with WheelFile.open(wheel) as source:
        install(source=source, destination=destination, additional_metadata={"INSTALLER": b"derl"})
