"""Installing wheels into the root of an image, whatever Python runs here."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.exceptions import InstallerError
from installer.sources import WheelFile

from gvmi.errors import BadImage


def install_wheel(wheel: Path, root: Path, packages: str, interpreter: str) -> None:
    """Install a wheel into `packages` below `root`; its programs go to the interpreter's folder.

    `packages` and `interpreter` are places in the image. Nothing is byte-compiled.

    Raises:
        BadImage: it is no wheel, leads out of these folders, or holds a file of another wheel.
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
    try:
        with WheelFile.open(wheel) as source:
            metadata = {"INSTALLER": b"derl"}
            install(source=source, destination=destination, additional_metadata=metadata)
    except (
        zipfile.BadZipFile,
        InstallerError,
        FileExistsError,
        NotADirectoryError,
        KeyError,
        ValueError,
    ) as error:
        raise BadImage(f"{wheel}: not a wheel that can be installed: {error}") from error
