"""A provider's images: had by their hashes, kept, and mounted for its activities."""

from __future__ import annotations

import asyncio
from pathlib import Path

from requestor.mock_golem.images.cache import ImageCache, Told
from requestor.mock_golem.images.gvmi_file import read_gvmi
from requestor.mock_golem.images.mounts import ImageMounts, MountedImage, Way
from requestor.mock_golem.images.package import Package

ALL_WAYS: tuple[Way, ...] = ("kernel", "squashfuse", "folder")


class ImageLibrary:
    """Images below one folder, shared by all who run activities from there; see `close`.

    `ways` are tried in this order to mount an image, see `ImageMounts`.
    """

    def __init__(self, folder: Path, ways: tuple[Way, ...] = ALL_WAYS) -> None:
        self._cache = ImageCache(folder)
        self._mounts = ImageMounts(folder, ways)
        self._cache.remove_drafts()

    def has(self, package: Package) -> bool:
        """Whether a package need not be downloaded any more."""
        return self._cache.find(package) is not None

    async def fetch(self, package: Package, most_bytes: int, told: Told) -> Path:
        """Return the file of a package; see `ImageCache.fetch`. Raises `ImageError`."""
        return await self._cache.fetch(package, most_bytes, told)

    async def mount(self, path: Path) -> MountedImage:
        """Read and mount an image file. Raises `ImageError`."""
        return await self._mounts.mount(await asyncio.to_thread(read_gvmi, path))

    async def close(self) -> None:
        """Unmount everything; the files stay. No activity may run in an image any more."""
        await self._mounts.close()
