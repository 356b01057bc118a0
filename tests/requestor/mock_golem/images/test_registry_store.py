"""The registry's folder: files by any name, changed files, tags."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from requestor.mock_golem.images.registry import RegistryApi
from requestor.mock_golem.images.registry_server import RegistryServer
from requestor.mock_golem.images.store import ImageStore, NotStored, StoreError
from tests.requestor.mock_golem.images.registry_client import Client, descriptor, gvmi, sha3

IMAGE = gvmi(5000)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "derl-native.gvmi").write_bytes(IMAGE)
    return tmp_path


def overwrite(path: Path, at: int = 2000) -> bytes:
    """Change one byte where it lies, and set the time back to what it was."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return bytes(content)


class TestFolder:
    def test_files_are_known_by_their_hash(self, store: Path) -> None:
        (store / "notes.txt").write_text("x")
        (store / ".hidden.gvmi").write_bytes(gvmi(10))
        found = ImageStore(store).find(sha3(IMAGE))
        assert found.path == store / "derl-native.gvmi" and found.size_bytes == len(IMAGE)
        assert len(ImageStore(store).images()) == 1

    def test_a_file_is_read_once(self, store: Path) -> None:
        ImageStore(store).find(sha3(IMAGE))
        index = store / ".registry" / "index.json"
        index.write_text(index.read_text().replace(sha3(IMAGE), "7" * 56))
        assert ImageStore(store).find("7" * 56).path.name == "derl-native.gvmi"

    @pytest.mark.parametrize(
        "index",
        ["", "[]", "{", '{"a": 1}', '{"derl-native.gvmi": {"mark": [1]}}', "[" * 100_000, "\x00"],
    )
    def test_an_index_that_is_none_is_made_anew(self, store: Path, index: str) -> None:
        (store / ".registry").mkdir()
        (store / ".registry" / "index.json").write_text(index)
        assert ImageStore(store).find(sha3(IMAGE)).path.name == "derl-native.gvmi"
        assert json.loads((store / ".registry" / "index.json").read_text())

    def test_one_changed_byte(self, store: Path) -> None:
        images = ImageStore(store)
        images.find(sha3(IMAGE))
        changed = overwrite(store / "derl-native.gvmi")
        now = sha3(changed)
        for fresh in (images, ImageStore(store)):
            with pytest.raises(
                NotStored,
                match=f"derl-native.gvmi is no longer image {sha3(IMAGE)}: it has the hash {now}",
            ):
                fresh.find(sha3(IMAGE))
            assert fresh.find(now).sha3 == now

    def test_a_file_named_by_a_hash_that_is_not_its_own(self, store: Path) -> None:
        (store / f"{'5' * 56}.gvmi").write_bytes(IMAGE)
        images = ImageStore(store)
        with pytest.raises(NotStored, match=f"{'5' * 56}.gvmi is no longer image"):
            images.find("5" * 56)
        assert list(images.refused()) == [f"{'5' * 56}.gvmi"]
        (store / "derl-native.gvmi").unlink()
        with pytest.raises(NotStored):
            images.find(sha3(IMAGE))

    def test_what_is_no_image_is_refused_by_name(self, store: Path) -> None:
        (store / "bad.gvmi").write_bytes(IMAGE[:-1])
        (store / "folder.gvmi").mkdir()
        (store / "dangling.gvmi").symlink_to(store / "gone")
        refused = ImageStore(store).refused()
        assert set(refused) == {"bad.gvmi", "folder.gvmi", "dangling.gvmi"}
        assert "no GVMI trailer" in refused["bad.gvmi"]

    def test_files_come_and_go(self, store: Path) -> None:
        images = ImageStore(store)
        assert len(images.images()) == 1
        other = gvmi(100, seed=1)
        (store / "other.gvmi").write_bytes(other)
        assert images.find(sha3(other)).size_bytes == len(other)
        (store / "other.gvmi").unlink()
        with pytest.raises(NotStored, match=f"no image with hash {sha3(other)}"):
            images.find(sha3(other))

    @pytest.mark.parametrize(
        "tags", ["[]", "{", '{"a/b:c": 1}', '{"nonsense": "' + "0" * 56 + '"}', '{"a/b:c": "0"}']
    )
    def test_a_file_of_tags_that_is_none(self, store: Path, tags: str) -> None:
        (store / "tags.json").write_text(tags)
        with pytest.raises(StoreError, match=r"tags\.json: no map of tags to hashes; correct or"):
            ImageStore(store).tags()


@pytest_asyncio.fixture
async def registry(store: Path) -> AsyncIterator[Client]:
    server = RegistryServer(RegistryApi(store=ImageStore(store)))
    url = await server.start()
    async with aiohttp.ClientSession() as session:
        yield Client(url, session)
    await server.stop()


@pytest.mark.asyncio
class TestOverHttp:
    async def test_a_changed_image_is_not_served(self, registry: Client, store: Path) -> None:
        raw = descriptor(IMAGE)
        await registry.begin(raw)
        assert (await registry.status(raw))["status"] == "full"  # it lies there already
        assert (await registry.attach(raw, "v1"))[0] == 200
        overwrite(store / "derl-native.gvmi")
        for path in (
            f"/v1/image/info?hash={sha3(IMAGE)}",
            "/v1/image/info?tag=me/derl:v1",
            f"/image.{sha3(IMAGE)}.link",
            f"/download/{sha3(IMAGE)}.gvmi",
        ):
            status, text = await registry.get(path)
            assert status == 404 and b"derl-native.gvmi is no longer image" in text, path
        assert (await registry.status(raw))["status"] == "partial"

    async def test_pushing_mends_what_was_changed(self, registry: Client, store: Path) -> None:
        stored = store / f"{sha3(IMAGE)}.gvmi"
        (store / "derl-native.gvmi").rename(stored)
        overwrite(stored)
        raw = descriptor(IMAGE)
        await registry.begin(raw)
        for number in range((len(raw) - 52) // 32):
            assert (await registry.chunk(IMAGE, number))[0] == 200
        assert await registry.get(f"/download/{sha3(IMAGE)}.gvmi") == (200, IMAGE)

    async def test_bad_tags_are_told(self, registry: Client, store: Path) -> None:
        (store / "tags.json").write_text("[]")
        status, text = await registry.get("/v1/image/info?tag=a/b:c")
        assert status == 500 and b"correct or remove it" in text

    @pytest.mark.parametrize(
        "path",
        [
            "/download/..%2F..%2Fetc%2Fpasswd",
            "/download/derl-native.gvmi",
            f"/download/{'0' * 64}",
            "/tags.json",
            "/.registry/index.json",
            "/v1/image/descr/zz",
        ],
    )
    async def test_nothing_else_is_served(self, registry: Client, path: str) -> None:
        assert (await registry.get(path))[0] == 404
