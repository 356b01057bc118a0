"""The cache's upkeep: builds share it, and nobody cleans it while one is at work."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gvmi.errors import MachineUnfit
from gvmi.packages.downloads import cache_folder

_MADE_AGAIN = ("build-roots", "roots", "wheels")
_FETCHED = ("downloads", "kernels")


@contextmanager
def cache_in_use(*, alone: bool = False) -> Iterator[None]:
    """Share the cache with other builds, or have it `alone`.

    Raises:
        MachineUnfit: it is to be had alone, and a build is at work.
    """
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "in-use").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        except BlockingIOError as error:
            raise MachineUnfit("an image is being built", fix="clean when it is done") from error
        yield


def clean_cache(images: Path, *, downloads: bool) -> int:
    """Delete what builds have kept, downloads too if `downloads`; return the bytes that were freed.

    In the folder of `images` only the drafts of killed builds go.

    Raises:
        MachineUnfit: a build is at work.
    """
    freed_bytes = 0
    with cache_in_use(alone=True):
        cached = [*cache_folder().iterdir()]
        stale = [path for path in cached if path.name in _MADE_AGAIN]
        stale += [path for path in cached if downloads and path.name in _FETCHED]
        drafts = [*cached, *(images.iterdir() if images.is_dir() else ())]
        stale += [path for path in drafts if path.name.startswith("tmp") and path.is_dir()]
        for path in stale:
            freed_bytes += _size_bytes(path)
            shutil.rmtree(path)
    return freed_bytes


def _size_bytes(folder: Path) -> int:
    return sum(
        os.lstat(os.path.join(parent, name)).st_size
        for parent, _, names in os.walk(folder)
        for name in names
    )
