"""Programs that a provider runs in place of those that it is asked for: `programs` of a fleet file.

A folder of small scripts stands first in the PATH of its containers. In the PATH that a script
hands on that folder is not, so what it starts finds the real program.
"""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path


def install_programs(folder: Path, programs: Mapping[str, str], path: str) -> str:
    """Write a script for each program into `folder`; returns the PATH with it in front of `path`.

    programs: by the name of a program the command line that runs instead, with the arguments that
        were given behind its own.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, command in programs.items():
        script = f'#!/bin/sh\nPATH={shlex.quote(path)}\nexport PATH\nexec {command} "$@"\n'
        temporary = folder / f".{name}"
        temporary.write_text(script, encoding="utf-8")
        temporary.chmod(0o755)
        temporary.replace(folder / name)
    return f"{os.fspath(folder)}{os.pathsep}{path}"
