"""Laying an image's files over the root of a container, before any command runs."""

from __future__ import annotations

import os
from collections.abc import Sequence


def lay_over(source: str, target: str, volumes: Sequence[str]) -> None:
    """Copy everything below `source` to the same place below `target`, but what lies in volumes.

    Permissions and links are kept, links in `target` are followed. Raises `OSError`.
    """
    import shutil

    for parent, folders, files in os.walk(source):
        place = os.path.normpath(os.path.join(target, os.path.relpath(parent, source)))
        folders[:] = [name for name in folders if os.path.join(place, name) not in volumes]
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in folders:
            if name not in links:
                os.makedirs(os.path.join(place, name), 0o755, exist_ok=True)
        for name in (*files, *links):
            taken, laid = os.path.join(parent, name), os.path.join(place, name)
            shutil.copy(taken, laid, follow_symlinks=False)
