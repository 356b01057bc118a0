"""Pushing to the registry over HTTP: in any order, broken off, hostile."""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from requestor.mock_golem.images.registry import RegistryApi
from requestor.mock_golem.images.registry_push import PushApi
from requestor.mock_golem.images.registry_server import RegistryServer
from requestor.mock_golem.images.store import ImageStore
from requestor.mock_golem.images.uploads import MAX_UNFINISHED
from tests.requestor.mock_golem.images.registry_client import (
    Client,
    descriptor,
    gvmi,
    registry_process,
    sha3,
)

IMAGE = gvmi(5000)
RAW = descriptor(IMAGE)
COUNT = (len(RAW) - 52) // 32
ACCOUNTS = {"me": "s3cret"}
CUT_OFF = b"--b\r\nContent-Disposition: form-data; name=file\r\n\r\nabc"

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Client]:
    (tmp_path / "store").mkdir()
    store = ImageStore(tmp_path / "store")
    server = RegistryServer(RegistryApi(store=store, push=PushApi(store, ACCOUNTS)))
    url = await server.start()
    async with aiohttp.ClientSession() as session:
        yield Client(url, session)
    await server.stop()


async def push(registry: Client, image: bytes = IMAGE) -> None:
    raw = descriptor(image)
    assert (await registry.begin(raw))[0] == 200
    for number in range((len(raw) - 52) // 32):
        assert (await registry.chunk(image, number))[0] == 200


async def test_a_push_as_gvmkit_build_makes_it(registry: Client, tmp_path: Path) -> None:
    assert await registry.status(RAW) == {"descriptor": "not found", "version": 1}
    assert await registry.begin(RAW) == (200, hashlib.sha256(RAW).hexdigest())
    assert await registry.status(RAW) == {
        "descriptor": "ok",
        "version": 1,
        "status": "partial",
        "chunks": [0] * COUNT,
    }
    assert (await registry.attach(RAW, "v1", check="true"))[0] == 200
    answers = await asyncio.gather(*(registry.chunk(IMAGE, n) for n in reversed(range(COUNT))))
    assert {status for status, _ in answers} == {200}
    full = await registry.status(RAW)
    assert full["status"] == "full" and full["chunks"] == [1] * COUNT
    assert (await registry.attach(RAW, "v1"))[0] == 200

    url = f"{registry.url}/download/{sha3(IMAGE)}.gvmi"
    expected = {"http": url, "https": url, "sha3": sha3(IMAGE), "size": len(IMAGE)}
    assert await registry.info(tag="me/derl:v1") == (200, expected)
    assert await registry.info(hash=sha3(IMAGE)) == (200, expected)
    assert await registry.get(f"/download/{hashlib.sha256(RAW).hexdigest()}") == (200, IMAGE)
    status, part = await registry.get(f"/download/{sha3(IMAGE)}.gvmi", {"Range": "bytes=96-195"})
    assert (status, part) == (206, IMAGE[96:196])
    assert (tmp_path / "store" / f"{sha3(IMAGE)}.gvmi").read_bytes() == IMAGE
    assert not list((tmp_path / "store" / ".registry" / "uploads").iterdir())


async def test_what_has_come_outlives_the_registry(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as session:
        with registry_process(tmp_path) as url:
            registry = Client(url, session)
            await registry.begin(RAW)
            assert (await registry.chunk(IMAGE, 1))[0] == 200
            assert (await registry.chunk(IMAGE, COUNT - 1))[0] == 200
        with registry_process(tmp_path) as url:
            registry = Client(url, session)
            there = (await registry.status(RAW))["chunks"]
            assert there == [int(number in (1, COUNT - 1)) for number in range(COUNT)]
            assert (await registry.info(hash=sha3(IMAGE)))[0] == 404
            for number in range(COUNT):
                if not there[number]:
                    assert (await registry.chunk(IMAGE, number))[0] == 200
            assert (await registry.info(hash=sha3(IMAGE)))[0] == 200


@pytest.mark.parametrize(
    ("number", "changes", "why"),
    [
        (1, {"chunk-sha256": "0" * 64}, "in the descriptor it is 1000 bytes at 1000"),
        (1, {"chunk-pos": "999"}, "1000 bytes at 999"),
        (1, {"chunk-pos": "0"}, "1000 bytes at 0"),
        (1, {"chunk-len": "1001"}, "1001 bytes at 1000"),
        (1, {"chunk-no": "0"}, "chunk 0 is said to be"),
        (1, {"chunk-no": "6"}, "there is no chunk 6; there are 6"),
        (1, {"chunk-no": "999999999999999999"}, "there is no chunk"),
        (1, {"chunk-no": "-1"}, "no number `chunk-no`"),
        (1, {"chunk-pos": "²"}, "no number `chunk-pos`"),
        (1, {"chunk-len": "9" * 19}, "no number `chunk-len`"),
        (1, {"file": IMAGE[1000:1999]}, "does not arrive as the descriptor says: 999 bytes"),
        (1, {"file": IMAGE[1000:2001]}, "more bytes than the 1000"),
        (1, {"file": IMAGE[999:1999]}, "does not arrive as the descriptor says: 1000 bytes"),
        (1, {"file": "text"}, "does not arrive as the descriptor says: 4 bytes"),
        (1, {"descr-sha256": "0" * 64}, "no such descriptor"),
        (1, {"descr-sha256": "../" * 21 + "x"}, "no such descriptor"),
        (1, {"descr-sha256": "x" * 2000}, "more than 1024 bytes"),
    ],
)
async def test_a_chunk_that_is_not_the_descriptor_s(
    registry: Client, number: int, changes: dict[str, str | bytes], why: str
) -> None:
    await registry.begin(RAW)
    status, text = await registry.chunk(IMAGE, number, changes)
    assert 400 <= status < 500 and why in text
    assert (await registry.status(RAW))["chunks"] == [0] * COUNT


async def test_a_bad_chunk_takes_no_good_one_away(registry: Client) -> None:
    await registry.begin(RAW)
    assert (await registry.chunk(IMAGE, 2))[0] == 200
    assert (await registry.chunk(IMAGE, 2, {"file": bytes(1000)}))[0] == 400
    assert (await registry.status(RAW))["chunks"] == [0, 0, 1, 0, 0, 0]


async def test_forms_that_are_none(registry: Client) -> None:
    await registry.begin(RAW)
    async with aiohttp.ClientSession() as session:
        for body, kind in (
            (b"x" * 1000, "multipart/form-data"),
            (b"x" * 1000, "multipart/form-data; boundary=b"),
            (CUT_OFF, "multipart/form-data; boundary=b"),
            (b"{}", "application/json"),
            (b"", "text/plain"),
        ):
            for path in ("push/descr", "push/chunk", f"descr/attach/{'0' * 64}"):
                headers = {"Content-Type": kind}
                async with session.post(
                    f"{registry.url}/v1/image/{path}", data=body, headers=headers
                ) as response:
                    assert 400 <= response.status < 500, (path, kind, await response.text())
    status, text = await registry.post(
        "/v1/image/push/chunk", {f"part{number}": "x" for number in range(20)}
    )
    assert (status, text) == (400, "the form has more than 16 parts")
    status, text = await registry.post("/v1/image/push/descr", {"file": bytes(40_000)})
    assert status == 413 and "more than 32052 bytes" in text


async def test_a_descriptor_that_lies_about_the_whole(registry: Client, tmp_path: Path) -> None:
    lie = RAW[:24] + bytes(28) + RAW[52:]
    assert (await registry.begin(lie))[0] == 200
    answers = [await registry.chunk(IMAGE, number, raw=lie) for number in range(COUNT)]
    assert [status for status, _ in answers] == [200] * (COUNT - 1) + [422]
    assert f"SHA3-224 {sha3(IMAGE)}, its descriptor says {'0' * 56}" in answers[-1][1]
    assert (await registry.status(lie))["descriptor"] == "not found"
    assert not list((tmp_path / "store").glob("*.gvmi"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\0" * 2500, "not an image: no squashfs image"),
        (gvmi(2000)[:-3], "not an image: no GVMI trailer"),
        (gvmi(2000, compression=6), "not an image: compressed with zstd"),
    ],
)
async def test_what_is_no_image_is_not_kept(
    registry: Client, tmp_path: Path, content: bytes, why: str
) -> None:
    raw = descriptor(content)
    await registry.begin(raw)
    last = (len(raw) - 52) // 32 - 1
    for number in range(last):
        assert (await registry.chunk(content, number))[0] == 200
    status, text = await registry.chunk(content, last)
    assert status == 422 and text.startswith(why) and str(tmp_path) not in text
    assert (await registry.info(hash=sha3(content)))[0] == 404


async def test_unfinished_uploads_are_bounded(registry: Client) -> None:
    for seed in range(MAX_UNFINISHED):
        assert (await registry.begin(descriptor(gvmi(100, seed))))[0] == 200
    status, text = await registry.begin(RAW)
    assert status == 429 and f"{MAX_UNFINISHED} uploads are unfinished" in text
    assert (await registry.begin(descriptor(gvmi(100, 3))))[0] == 200  # it goes on
    await push(registry, gvmi(100, 5))
    assert (await registry.begin(RAW))[0] == 200


async def test_an_upload_whose_image_came_another_way_takes_no_place(
    registry: Client, tmp_path: Path
) -> None:
    for seed in range(MAX_UNFINISHED):
        await registry.begin(descriptor(gvmi(100, seed)))
    (tmp_path / "store" / "derl.gvmi").write_bytes(gvmi(100, 3))
    assert (await registry.begin(RAW))[0] == 200
    assert len(list((tmp_path / "store" / ".registry" / "uploads").iterdir())) == MAX_UNFINISHED


async def test_a_descriptor_that_is_none(registry: Client) -> None:
    huge = struct.pack(">QQQ28s", 0x333333334, 1 << 62, 1 << 20, bytes(28))
    for raw in (b"", b"x" * 52, huge):
        status, _ = await registry.begin(raw)
        assert status == 400


class TestWhoMay:
    async def login(self, registry: Client, body: str) -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{registry.url}/auth/pat/login", data=body) as response,
        ):
            assert "s3cret" not in await response.text()
            return response.status

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ('{"username": "me", "password": "s3cret"}', 200),
            ('{"username": "me", "password": "other"}', 401),
            ('{"username": "you", "password": "s3cret"}', 401),
            ('{"username": "you", "password": ""}', 401),
            ('{"username": ["me"], "password": {"a": 1}}', 401),
            ('{"username": "me"}', 401),
            ("[1]", 400),
            ("{", 400),
        ],
    )
    async def test_login(self, registry: Client, body: str, status: int) -> None:
        assert await self.login(registry, body) == status

    async def test_tags_are_named_by_who_is_logged_in(self, registry: Client) -> None:
        await push(registry)
        status, text = await registry.attach(RAW, "v1", token="wrong")
        assert status == 401 and "wrong user name or token" in text
        status, text = await registry.attach(RAW, "v1", user="golem")
        assert status == 403 and "me may not name images of golem" in text
        assert (await registry.attach(RAW, "v/1"))[0] == 400
        assert (await registry.attach(RAW, "v" * 300))[0] == 400
        assert (await registry.attach(descriptor(gvmi(7)), "v1"))[0] == 404
        assert (await registry.info(tag="me/derl:v1"))[0] == 404

    async def test_only_what_is_whole_gets_a_tag(self, registry: Client) -> None:
        await registry.begin(RAW)
        status, text = await registry.attach(RAW, "v1")
        assert (status, text) == (409, "the image is not whole yet")


async def test_pushing_again_moves_the_tag(registry: Client) -> None:
    other = gvmi(3000, seed=1)
    for image in (IMAGE, other):
        await push(registry, image)
        assert (await registry.attach(descriptor(image), "latest"))[0] == 200
        _, found = await registry.info(tag="me/derl:latest")
        assert found["sha3"] == sha3(image)
    assert (await registry.info(hash=sha3(IMAGE)))[0] == 200
