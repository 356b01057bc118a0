"""Transfers from and to web addresses (`http:`, `https:`).

A thread that is at a file is waited for even by who is cancelled: closed under it, its descriptor's
number may be another file's by then.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import aiohttp

from requestor.mock_golem.exe_unit.progress import Progress
from requestor.mock_golem.finishing import finish_anyway

_BLOCK_BYTES = 1 << 18
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=30.0, sock_read=60.0)
MOST_BYTES = 16 << 30


class WebError(Exception):
    """The web server does not give or take the file; the message says why."""


async def download(url: str, target: int, progress: Progress) -> None:
    """Write what is at a web address to a file descriptor. Raises `WebError` and `OSError`."""
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, session.get(url) as response:
            _check(response)
            size, done = response.content_length, 0
            async for block in response.content.iter_chunked(_BLOCK_BYTES):
                await finish_anyway(asyncio.to_thread(_write, target, block))
                done += len(block)
                if done > MOST_BYTES:
                    raise WebError(f"more than {MOST_BYTES} bytes")
                progress.advance(done, size)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise WebError(str(error) or type(error).__name__) from error


async def upload(source: int, url: str, progress: Progress) -> None:
    """PUT a file to a web address. Raises `WebError` and `OSError`."""
    size = os.fstat(source).st_size

    async def blocks() -> AsyncIterator[bytes]:
        own, done = os.dup(source), 0  # the task that sends outlives an upload that is cancelled
        try:
            while block := await finish_anyway(
                asyncio.to_thread(os.pread, own, _BLOCK_BYTES, done)
            ):
                yield block
                done += len(block)
                progress.advance(done, size)
        finally:
            os.close(own)

    headers = {"Content-Length": str(size)}
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.put(url, data=blocks(), headers=headers) as response,
        ):
            _check(response)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise WebError(str(error) or type(error).__name__) from error


def _check(response: aiohttp.ClientResponse) -> None:
    if not response.ok:
        raise WebError(f"the server answers {response.status} {response.reason}")


def _write(descriptor: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(descriptor, view) :]
