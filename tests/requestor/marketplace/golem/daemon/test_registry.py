"""Whether an image can be had: asked of a registry of the test's own over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio
from aiohttp import web

from requestor.marketplace.diagnosis import CheckFailed
from requestor.marketplace.golem.daemon.registry import ImageReference, check_image

pytestmark = pytest.mark.asyncio
SHA3 = "9a3b5d67b0b27746283cb5f287c13eab1beaa12d92a9f536b747c7ae"


@dataclass
class Registry:
    """Answers with `status` and `body`, and notes the questions."""

    url: str = ""
    status: int = 200
    body: str = ""
    questions: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer any request."""
        self.questions.append(f"{request.method} {request.path_qs}")
        if request.path == "/moved":
            raise web.HTTPFound("/image.gvmi")
        return web.Response(status=self.status, text=self.body)

    def reference(self, image: str, image_url: str | None = None) -> ImageReference:
        """Name an image of this registry."""
        return ImageReference(image, image_url, self.url)


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[Registry]:
    """Serve on loopback."""
    found = Registry()
    found.body = (
        f'{{"http": "http://x/i", "https": "https://x/i", "sha3": "{SHA3}", "size": 5242880}}'
    )
    app = web.Application()
    app.add_routes([web.route("*", "/{path:.*}", found.answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


async def test_a_hash(registry: Registry) -> None:
    answer = await check_image(registry.reference(SHA3))
    assert answer.says == "hash 9a3b5d67b0b2, 5 MiB"
    assert answer.facts == {"url": "https://x/i", "sha3": SHA3, "size_bytes": 5242880}
    assert registry.questions == [f"GET /v1/image/info?hash={SHA3}"]


async def test_a_tag_is_a_warning_with_its_hash(registry: Registry) -> None:
    answer = await check_image(registry.reference("golem/derl:latest"))
    assert answer.is_warning
    assert answer.fix == f"golem.image={SHA3}"
    assert registry.questions == ["GET /v1/image/info?tag=golem/derl:latest"]


@pytest.mark.parametrize("path", ["image.gvmi", "moved"])
async def test_an_address_beside_the_hash_needs_no_registry(registry: Registry, path: str) -> None:
    answer = await check_image(registry.reference(SHA3, f"{registry.url}/{path}"))
    assert answer.says.startswith(f"{registry.url}/{path}")
    assert registry.questions[0] == f"HEAD /{path}"


async def test_a_whole_package_text(registry: Registry) -> None:
    await check_image(registry.reference(f"hash:sha3:{SHA3}:{registry.url}/image.gvmi"))
    assert registry.questions == ["HEAD /image.gvmi"]


async def test_what_is_not_there(registry: Registry) -> None:
    registry.status = 404
    with pytest.raises(CheckFailed, match="knows no image of tag a/b:c") as caught:
        await check_image(registry.reference("a/b:c"))
    assert "derl-image push" in caught.value.fix
    with pytest.raises(CheckFailed, match=r"no image at .*/x: HTTP 404"):
        await check_image(registry.reference(SHA3, f"{registry.url}/x"))


async def test_a_registry_that_is_away(registry: Registry) -> None:
    gone = ImageReference(SHA3, None, "http://127.0.0.1:1")
    with pytest.raises(CheckFailed, match=r"127\.0\.0\.1 does not tell of the image"):
        await check_image(gone)
    with pytest.raises(CheckFailed, match="does not tell"):
        await check_image(ImageReference(SHA3, "nonsense://", registry.url))


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, "", "HTTP 500"),
        (200, "", "does not tell"),
        (200, "[]", "not an object"),
        (200, "[" * 60_000, "nested too deeply"),
        (200, "x" * 70_000, "too large"),
        (200, '{"sha3": "abc", "http": "http://x"}', "no hash or no URL"),
        (200, f'{{"sha3": "{SHA3}", "http": 5}}', "no hash or no URL"),
        (200, f'{{"sha3": "{SHA3[::-1]}", "http": "http://x"}}', "it answers with"),
    ],
)
async def test_hostile_answers(registry: Registry, status: int, body: str, reason: str) -> None:
    registry.status, registry.body = status, body
    with pytest.raises(CheckFailed, match=reason):
        await check_image(registry.reference(SHA3))
