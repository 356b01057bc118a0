"""Downloads by hash: right, wrong, cut off, hostile, and many at once."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from requestor.mock_golem.images.cache import DownloadError, ImageCache
from requestor.mock_golem.images.package import Package

pytestmark = pytest.mark.asyncio
CONTENT = bytes(range(256)) * 20_000  # 5.12 MB: several blocks
SHA3 = hashlib.sha3_224(CONTENT).hexdigest()
PLENTY = 1 << 30


class Origin:
    """A web server that counts what is asked of it."""

    def __init__(self) -> None:
        self.asked = 0
        self.held = asyncio.Event()
        self.held.set()
        app = web.Application()
        app.router.add_get("/{name}", self._answer)
        self.server = TestServer(app)

    def package(self, *names: str, sha3: str = SHA3) -> Package:
        return Package(sha3, tuple(str(self.server.make_url(f"/{name}")) for name in names))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        await self.held.wait()
        name = request.match_info["name"]
        if name == "good":
            return web.Response(body=CONTENT)
        if name == "moved":
            raise web.HTTPFound("/good")
        if name == "round":
            raise web.HTTPFound("/round")
        if name == "file":
            raise web.HTTPFound("file:///etc/passwd")
        if name == "packed":
            body = gzip.compress(bytes(1 << 24))
            return web.Response(body=body, headers={"Content-Encoding": "gzip"})
        if name == "changed":
            return web.Response(body=b"X" + CONTENT[1:])
        response = web.StreamResponse()
        if name == "short":
            response.content_length = len(CONTENT)
            await response.prepare(request)
            await response.write(CONTENT[:1_000_000])
            assert request.transport is not None
            request.transport.abort()
            return response
        if name == "endless":
            await response.prepare(request)
            while True:
                await response.write(CONTENT)
        raise web.HTTPNotFound


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[Origin]:
    found = Origin()
    await found.server.start_server()
    yield found
    await found.server.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


async def fetch(folder: Path, package: Package, most_bytes: int = PLENTY) -> Path:
    return await ImageCache(folder).fetch(package, most_bytes, lambda done, size: None)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_file_is_downloaded_once(origin: Origin, folder: Path) -> None:
    told: list[tuple[int, int | None]] = []
    cache, package = ImageCache(folder), origin.package("good")
    assert cache.find(package) is None
    path = await cache.fetch(package, PLENTY, lambda done, size: told.append((done, size)))
    assert path.read_bytes() == CONTENT and told[-1] == (len(CONTENT), len(CONTENT))
    assert cache.find(package) == await cache.fetch(package, 0, lambda done, size: None) == path
    assert origin.asked == 1 and names(folder) == [f"{SHA3}.gvmi"]


async def test_those_who_ask_at_once_share_a_download(origin: Origin, folder: Path) -> None:
    cache, package = ImageCache(folder), origin.package("good")
    origin.held.clear()
    waiting = [
        asyncio.create_task(cache.fetch(package, PLENTY, lambda done, size: None)) for _ in range(4)
    ]
    while not origin.asked:
        await asyncio.sleep(0)
    waiting[0].cancel()  # the one that downloads: another takes over
    origin.held.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert len(set(done[1:])) == 1 and origin.asked == 2
    assert names(folder) == [f"{SHA3}.gvmi"]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("changed", f"Invalid digest: [0-9a-f]{{56}}, expected {SHA3}"),
        ("packed", f"Invalid digest: [0-9a-f]{{56}}, expected {SHA3}"),
        ("short", "HTTP error: "),
        ("none", "HTTP error: the server answers 404 Not Found"),
        ("round", "HTTP error: more than 5 redirects"),
        ("file", "Unsupported scheme: file"),
    ],
)
async def test_what_is_wrong_is_refused(
    origin: Origin, folder: Path, name: str, complaint: str
) -> None:
    with pytest.raises(DownloadError, match=complaint):
        await fetch(folder, origin.package(name))
    assert names(folder) == []


@pytest.mark.parametrize("name", ["good", "endless"])
async def test_no_more_is_taken_than_there_is_room(origin: Origin, folder: Path, name: str) -> None:
    with pytest.raises(DownloadError, match="more than the provider's 3000000 bytes of storage"):
        await fetch(folder, origin.package(name), 3_000_000)
    assert names(folder) == []


async def test_other_addresses_are_tried(origin: Origin, folder: Path) -> None:
    assert (await fetch(folder, origin.package("none", "changed", "moved"))).is_file()


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("/etc/passwd", "Unsupported scheme: none"),
        ("file:///etc/passwd", "Unsupported scheme: file"),
        ("http://", "HTTP error"),
        ("http://[::1", "HTTP error"),
        ("http://127.0.0.1:1/x", "HTTP error: Cannot connect"),
    ],
)
async def test_addresses_that_lead_nowhere(folder: Path, address: str, complaint: str) -> None:
    with pytest.raises(DownloadError, match=complaint):
        await fetch(folder, Package(SHA3, (address,)))


async def test_what_was_cut_off_is_never_taken_and_goes(origin: Origin, folder: Path) -> None:
    folder.mkdir()
    (folder / f"{SHA3}.0123.part").write_bytes(CONTENT[:100])
    (folder / f"{SHA3}.unpacked.4567.part" / "root").mkdir(parents=True)
    cache = ImageCache(folder)
    assert cache.find(origin.package("good")) is None
    cache.remove_drafts()
    assert names(folder) == []
