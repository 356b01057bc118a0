"""Where gvmkit-build is: the program that makes images of Docker's, and pushes them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from gvmi.errors import MachineUnfit


def find_gvmkit_build() -> Path:
    """Return where the program is: beside this Python, or on PATH.

    Raises:
        MachineUnfit: it is nowhere.
    """
    beside = Path(sys.executable).parent / "gvmkit-build"
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("gvmkit-build")
    if found is None:
        raise MachineUnfit(
            "gvmkit-build is not installed",
            fix=f"{sys.executable} -m pip install gvmkit-build==0.3.19 (Linux on x86-64)",
        )
    return Path(found)
