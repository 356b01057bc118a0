"""Downloaded images, kept by their hashes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import aiohttp

from requestor.mock_golem.finishing import finish_anyway
from requestor.mock_golem.images.gvmi_file import ImageError
from requestor.mock_golem.images.package import Package

_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_BLOCK_BYTES = 1 << 20
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=30.0, sock_read=60.0)

Told = Callable[[int, int | None], None]  # bytes so far, and in all if that is known


class DownloadError(ImageError):
    """A file could not be had, or is not the one that was asked for."""


class ImageCache:
    """A folder of image files, each named by its hash.

    Only whole files whose hash is right are ever in it under such a name.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks: dict[str, asyncio.Lock] = {}

    def remove_drafts(self) -> None:
        """Remove what was cut off: downloads, and images that were being unpacked."""
        for draft in self._folder.glob("*.part"):
            if draft.is_dir():
                shutil.rmtree(draft, ignore_errors=True)
            else:
                draft.unlink(missing_ok=True)

    def find(self, package: Package) -> Path | None:
        """Return the package's file, if it is there already."""
        path = self._path(package)
        return path if path.is_file() else None

    async def fetch(self, package: Package, most_bytes: int, told: Told) -> Path:
        """Return the package's file, downloaded if need be: one download at a time of each.

        Raises:
            DownloadError: none of its addresses has it; the text is of the last one.
        """
        async with self._locks.setdefault(package.hash, asyncio.Lock()):
            found = self.find(package)
            for address in package.addresses if found is None else ():
                try:
                    found = await self._download(package, address, most_bytes, told)
                    break
                except DownloadError:
                    if address == package.addresses[-1]:
                        raise
            assert found is not None  # a package has an address
            return found

    def _path(self, package: Package) -> Path:
        return self._folder / f"{package.hash}.gvmi"

    async def _download(self, package: Package, address: str, most_bytes: int, told: Told) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f"{package.hash}.{secrets.token_hex(8)}.part"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            found = await _receive(address, descriptor, most_bytes, told)
            if found != package.hash:
                raise DownloadError(f"Invalid digest: {found}, expected {package.hash}")
            await finish_anyway(asyncio.to_thread(os.fsync, descriptor))
            os.rename(draft, self._path(package))
        finally:
            os.close(descriptor)
            draft.unlink(missing_ok=True)
        return self._path(package)


async def _receive(address: str, target: int, most_bytes: int, told: Told) -> str:
    """Write what is at an address to a descriptor; returns its SHA3-224."""
    try:
        # Packed transfers would let a few bytes become many before they are counted.
        async with aiohttp.ClientSession(
            timeout=_TIMEOUT, auto_decompress=False, headers={"Accept-Encoding": "identity"}
        ) as session:
            url = address
            for _ in range(_MOST_REDIRECTS + 1):
                scheme = urlsplit(url).scheme
                if scheme not in ("http", "https"):
                    raise DownloadError(f"Unsupported scheme: {scheme or 'none'}")
                async with session.get(url, allow_redirects=False) as response:
                    if response.status not in _REDIRECTS:
                        return await _write(response, target, most_bytes, told)
                    url = urljoin(url, response.headers.get("Location", ""))
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise DownloadError(f"HTTP error: {str(error) or type(error).__name__}") from error
    raise DownloadError(f"HTTP error: more than {_MOST_REDIRECTS} redirects")


async def _write(response: aiohttp.ClientResponse, target: int, most_bytes: int, told: Told) -> str:
    if response.status != 200:
        raise DownloadError(f"HTTP error: the server answers {response.status} {response.reason}")
    size, done = response.content_length, 0
    digest = hashlib.sha3_224()

    def take(block: bytes) -> None:
        digest.update(block)
        view = memoryview(block)
        while view:
            view = view[os.write(target, view) :]

    too_large = DownloadError(f"HTTP error: more than the provider's {most_bytes} bytes of storage")
    if size is not None and size > most_bytes:
        raise too_large
    async for block in response.content.iter_chunked(_BLOCK_BYTES):
        done += len(block)
        if done > most_bytes:
            raise too_large
        await finish_anyway(asyncio.to_thread(take, block))
        told(done, size)
    return digest.hexdigest()
