"""What we ask the market for: a VM of some size that runs the provider image."""

from __future__ import annotations

from dataclasses import dataclass

from yapapi.payload import Payload
from yapapi.payload.package import resolve_package_url
from yapapi.props import inf
from yapapi.props.base import constraint, prop

from requestor.marketplace.ports import Terms

RUN_PROPERTY = "golem.srv.app.derl.run"
"""Our mark on every demand, and so on every agreement: a crashed run finds its own by it."""

DEFAULT_REGISTRY = "https://registry.golem.network"


@dataclass
class ProviderImagePayload(Payload):
    """A demand for the `vm` runtime with one image."""

    run_id: str = prop(RUN_PROPERTY)
    package_url: str = prop("golem.srv.comp.task_package")
    package_format: str = prop("golem.srv.comp.vm.package_format", default="gvmkit-squash")
    runtime: str = constraint(inf.INF_RUNTIME_NAME, default="vm")
    memory_gib: float = constraint(inf.INF_MEM, operator=">=", default=1.0)
    storage_gib: float = constraint(inf.INF_STORAGE, operator=">=", default=1.0)
    threads: int = constraint(inf.INF_THREADS, operator=">=", default=1)


async def build_payload(terms: Terms) -> ProviderImagePayload:
    """Resolve the image to a package URL and return the payload.

    `terms.image` is a full package text (`hash:sha3:…:url`), a SHA3-224 hash, or a registry tag
    (`user/name:tag`); with `image_url` a hash needs no registry.
    """
    return ProviderImagePayload(
        run_id=terms.run_id,
        package_url=await _package_url(terms),
        memory_gib=terms.memory_gib,
        storage_gib=terms.storage_gib,
        threads=terms.threads,
    )


async def _package_url(terms: Terms) -> str:
    if terms.image.startswith("hash:"):
        return terms.image
    if terms.image_url is not None:
        return f"hash:sha3:{terms.image}:{terms.image_url}"
    is_tag = ":" in terms.image or "/" in terms.image
    return str(
        await resolve_package_url(
            DEFAULT_REGISTRY,
            image_tag=terms.image if is_tag else None,
            image_hash=None if is_tag else terms.image,
        )
    )
