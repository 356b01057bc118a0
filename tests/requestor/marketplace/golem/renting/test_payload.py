"""Demands, and whether the offers that are meant match them: by the mock daemon's matcher."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from yapapi.props.builder import DemandBuilder

from requestor.marketplace.golem.renting.payload import (
    GpuImagePayload,
    ProviderImagePayload,
    build_payload,
    manifest_properties,
)
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.ports import GpuNeeds, Manifest, Terms
from requestor.mock_golem.constraints import matches, parse
from requestor.mock_golem.fleet import Gpu, ProviderModel
from requestor.mock_golem.offers import offer_properties

pytestmark = pytest.mark.asyncio
HASH = "5" * 56
PACKAGE = f"hash:sha3:{HASH}:http://127.0.0.1/image.gvmi"
PLATFORM = "erc20-hoodi-tglm"
WALLET = "0x" + "1" * 40


def terms(**changes: Any) -> Terms:
    """Usual terms."""
    usual: dict[str, Any] = {
        "run_id": "run-1",
        "providers": 1,
        "budget_glm": Decimal(1),
        "ceilings": Prices(),
        "memory_gib": 2.0,
        "storage_gib": 3.0,
        "threads": 2,
        "image": PACKAGE,
        "image_url": None,
        "subnet": "public",
        "payment_driver": "erc20",
        "payment_network": "hoodi",
        "expiration_seconds": 3600.0,
        "deploy_timeout_seconds": 3.0,
        "invoice_timeout_seconds": 5.0,
    }
    return Terms(**{**usual, **changes})


async def demand(**changes: Any) -> DemandBuilder:
    """The demand under terms."""
    builder = DemandBuilder()  # type: ignore[no-untyped-call]
    await builder.decorate(await build_payload(terms(**changes)))
    return builder


def offer(**changes: Any) -> dict[str, Any]:
    """The properties of a provider's offer; a machine that is large enough if nothing is said."""
    model = ProviderModel(**{"name": "oak", "threads": 2, "memory_gib": 4.0, **changes})
    return offer_properties(model, "public", PLATFORM, WALLET)


def fits(asked: DemandBuilder, properties: dict[str, Any]) -> bool:
    """Whether the mock's matcher puts an offer before a demand."""
    return matches(parse(asked.constraints), properties)


def gpu_offer(names: Any, capability: str, model: str = "NVIDIA A30", gib: float = 24.0) -> Any:
    return offer(
        runtime="vm-nvidia",
        capabilities=("vpn", capability),
        gpu=Gpu(model=model, memory_gib=gib, names=names),
    )


async def test_a_plain_demand_asks_for_the_vm_and_its_size() -> None:
    asked = await demand()
    assert asked.properties == {
        "golem.srv.app.derl.run": "run-1",
        "golem.srv.comp.task_package": PACKAGE,
        "golem.srv.comp.vm.package_format": "gvmkit-squash",
    }
    assert fits(asked, offer())
    assert not fits(asked, offer(threads=1))
    assert not fits(asked, offer(memory_gib=1.9))
    assert not fits(asked, offer(storage_gib=2.9))
    assert not fits(asked, offer(runtime="vm-nvidia"))
    # nothing of the requirements travels twice: constraints are no properties
    assert "golem.inf.mem.gib" not in asked.properties


@pytest.mark.parametrize(("names", "capability"), [("current", "gpu"), ("gap-35", "!exp:gpu")])
async def test_cards_match_under_their_new_and_old_names(names: str, capability: str) -> None:
    asked = await demand(runtime="vm-nvidia", gpu=GpuNeeds(24.0, ("Tesla T4", "NVIDIA A30")))
    assert isinstance(await build_payload(terms(runtime="vm-nvidia")), GpuImagePayload)
    assert fits(asked, gpu_offer(names, capability))
    assert not fits(asked, gpu_offer(names, "vpn"))
    assert not fits(asked, gpu_offer(names, capability, gib=23.9))
    assert not fits(asked, gpu_offer(names, capability, model="NVIDIA A3"))
    assert not fits(asked, offer())
    any_card = await demand(runtime="vm-nvidia")
    assert fits(any_card, gpu_offer(names, capability, model="anything", gib=1.0))


async def test_the_numberless_new_names_match_too() -> None:
    asked = await demand(runtime="vm-nvidia", gpu=GpuNeeds(16.0, ("NVIDIA A30",)))
    named = {"golem.inf.gpu.model": "NVIDIA A30", "golem.inf.gpu.memory.total.gib": 24.0}
    assert fits(
        asked, offer(runtime="vm-nvidia", capabilities=("gpu",), properties=named)
    )


@pytest.mark.parametrize("model", ["RTX (laptop)", "NVIDIA*", "a\\b"])
async def test_a_model_that_would_be_a_filter_is_refused(model: str) -> None:
    with pytest.raises(ValueError, match=r"golem\.gpu\.model"):
        await build_payload(terms(runtime="vm-nvidia", gpu=GpuNeeds(models=(model,))))


# --- manifests ---------------------------------------------------------------------------------

PLAIN = json.dumps({"payload": [{"hash": f"sha3:{HASH}", "urls": ["http://x/"]}]}).encode()
OUT = json.dumps({"compManifest": {"net": {"inet": {"out": {"urls": ["https://x/"]}}}}}).encode()


async def test_a_manifest_travels_as_base64_of_its_bytes() -> None:
    asked = await demand(image="", manifest=Manifest(PLAIN))
    assert "golem.srv.comp.task_package" not in asked.properties
    assert base64.b64decode(asked.properties["golem.srv.comp.payload"]) == PLAIN
    assert fits(asked, offer(properties={"golem.srv.caps.payload-manifest": True}))
    assert not fits(asked, offer())


async def test_bytes_that_look_like_base64_are_encoded_all_the_same() -> None:
    encoded = base64.b64encode(PLAIN)
    sent = manifest_properties(Manifest(encoded))["golem.srv.comp.payload"]
    assert base64.b64decode(sent) == encoded


async def test_what_goes_out_needs_a_runtime_that_lets_it() -> None:
    signed = Manifest(OUT, signature=b"sig", certificate=b"cert")
    asked = await demand(manifest=signed)
    assert asked.properties["golem.srv.comp.task_package"] == PACKAGE
    assert base64.b64decode(asked.properties["golem.srv.comp.payload.sig"]) == b"sig"
    assert base64.b64decode(asked.properties["golem.srv.comp.payload.cert"]) == b"cert"
    assert asked.properties["golem.srv.comp.payload.sig.algorithm"] == "sha256"
    able = {"golem.srv.caps.payload-manifest": True}
    both = ("inet", "manifest-support")
    assert fits(asked, offer(capabilities=both, properties=able))
    assert not fits(asked, offer(capabilities=("inet",), properties=able))
    partner = await demand(manifest=Manifest(OUT, node_descriptor=b'{"nodeDescriptor": {}}'))
    assert fits(partner, offer(capabilities=("inet",), properties=able))
    assert not fits(partner, offer(properties=able))
    descriptor = partner.properties["golem.!exp.gap-31.v0.node.descriptor"]
    assert descriptor == {"nodeDescriptor": {}}


@pytest.mark.parametrize("content", [b"", b"[1]", b"no json", b"[" * 100_000, b"\xff"])
async def test_a_manifest_that_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"golem\.manifest"):
        await build_payload(terms(manifest=Manifest(content)))


# --- images ------------------------------------------------------------------------------------


class Registry:
    """A registry that notes what it is asked, and answers with what a test says."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.sha3 = HASH
        self.url = ""

    async def info(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.query))
        if request.query.get("tag") == "no/body:v1":
            return web.Response(status=404, text="no such tag")
        answer = {"http": "http://x/i", "https": "https://x/i", "sha3": self.sha3, "size": 7}
        return web.json_response(answer)

    async def image(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["name"] == "there" else 404)


@pytest_asyncio.fixture
async def registry() -> AsyncIterator[Registry]:
    held = Registry()
    application = web.Application()
    application.add_routes(
        [web.get("/v1/image/info", held.info), web.route("HEAD", "/{name}", held.image)]
    )
    async with TestServer(application) as server:
        held.url = str(server.make_url("/"))
        yield held


async def resolved(registry: Registry, image: str, **changes: Any) -> str | None:
    payload = await build_payload(terms(image=image, registry_url=registry.url, **changes))
    assert isinstance(payload, ProviderImagePayload)
    return payload.package_url


async def test_tags_and_hashes_are_asked_of_the_configured_registry(registry: Registry) -> None:
    assert await resolved(registry, "user/name:v1") == f"hash:sha3:{HASH}:http://x/i"
    assert await resolved(registry, HASH) == f"hash:sha3:{HASH}:http://x/i"
    assert registry.asked == [
        {"tag": "user/name:v1", "count": "true"},
        {"hash": HASH, "count": "true"},
    ]


async def test_a_registry_cannot_put_another_image_in_place_of_a_hash(registry: Registry) -> None:
    registry.sha3 = "6" * 56
    with pytest.raises(ValueError, match="another image"):
        await resolved(registry, HASH)


async def test_an_unknown_tag_is_an_error(registry: Registry) -> None:
    with pytest.raises(Exception, match="404"):
        await resolved(registry, "no/body:v1")


async def test_a_url_beside_a_hash_must_be_there_and_needs_no_registry(registry: Registry) -> None:
    url = f"{registry.url}there"
    assert await resolved(registry, HASH, image_url=url) == f"hash:sha3:{HASH}:{url}"
    with pytest.raises(Exception, match="404"):
        await resolved(registry, HASH, image_url=f"{registry.url}gone")
    assert registry.asked == []


async def test_a_whole_package_text_is_taken_as_it_is() -> None:
    assert (await build_payload(terms())).package_url == PACKAGE
