"""What we ask the market for: a VM of some size, with or without a GPU, that runs the image."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from yapapi.payload import Payload
from yapapi.payload.package import check_package_url, resolve_package_url
from yapapi.props import inf
from yapapi.props.base import constraint, join_str_constraints, prop
from yapapi.props.builder import DemandBuilder

from requestor.marketplace.offers.graphics import NEW_PREFIX, OLD_PREFIX
from requestor.marketplace.ports import RUN_PROPERTY, GpuNeeds, Manifest, Terms

CAPABILITIES = "golem.runtime.capabilities"
GPU_CAPABILITIES = ("gpu", "!exp:gpu")
"""Of the GPU runtime since 0.5.1, and before."""

GPU_PREFIXES = (NEW_PREFIX, f"{NEW_PREFIX}d0.", OLD_PREFIX)
"""A card's properties as they are named now, without and with the device's number, and before."""

MANIFEST_SUPPORT = "golem.srv.caps.payload-manifest"
_HASH = re.compile(r"[0-9a-f]{56}")
_RESERVED = re.compile(r"[()*\\]")


@dataclass
class ProviderImagePayload(Payload):
    """A demand for the `vm` runtime with one image; without a package, a manifest names it."""

    run_id: str = prop(RUN_PROPERTY)
    package_url: str | None = prop("golem.srv.comp.task_package", default=None)
    package_format: str = prop("golem.srv.comp.vm.package_format", default="gvmkit-squash")
    runtime: str = constraint(inf.INF_RUNTIME_NAME, default="vm")
    memory_gib: float = constraint(inf.INF_MEM, operator=">=", default=1.0)
    storage_gib: float = constraint(inf.INF_STORAGE, operator=">=", default=1.0)
    threads: int = constraint(inf.INF_THREADS, operator=">=", default=1)
    manifest: Manifest | None = None

    async def decorate_demand(self, demand: DemandBuilder) -> None:
        """Add properties and constraints to a demand, those of the manifest included."""
        await super().decorate_demand(demand)
        if self.manifest is not None:
            demand.add_properties(manifest_properties(self.manifest))
            demand.ensure(f"({MANIFEST_SUPPORT}=true)")
            for name in manifest_capabilities(self.manifest):
                demand.ensure(f"({CAPABILITIES}={name})")


@dataclass
class GpuImagePayload(ProviderImagePayload):
    """A demand for the `vm-nvidia` runtime: an image of its own kind, and a card that will do."""

    runtime: str = constraint(inf.INF_RUNTIME_NAME, default="vm-nvidia")
    gpu: GpuNeeds = field(default_factory=GpuNeeds)

    async def decorate_demand(self, demand: DemandBuilder) -> None:
        """Add properties and constraints; what has had several names is asked for by all."""
        await super().decorate_demand(demand)
        demand.ensure(any_of(f"({CAPABILITIES}={name})" for name in GPU_CAPABILITIES))
        if self.gpu.memory_gib > 0:
            least = f"memory.total.gib>={self.gpu.memory_gib:g}"
            demand.ensure(any_of(f"({prefix}{least})" for prefix in GPU_PREFIXES))
        if self.gpu.models:
            demand.ensure(
                any_of(
                    f"({prefix}model={model})"
                    for model in self.gpu.models
                    for prefix in GPU_PREFIXES
                )
            )


def any_of(constraints: Iterable[str]) -> str:
    """Return a constraint that is met where one of `constraints` is."""
    return str(join_str_constraints(list(constraints), "|"))


async def build_payload(terms: Terms) -> ProviderImagePayload:
    """Resolve the image to a package URL and return the payload.

    `terms.image` is a full package text (`hash:sha3:…:url`), a SHA3-224 hash, or a registry tag
    (`user/name:tag`); with `image_url` a hash needs no registry.

    Raises:
        ValueError: a GPU's model cannot be asked for, a manifest is none, or the registry answers
            with another image.
        Exception: the registry, or the host of the image, does not have it.
    """
    if any(_RESERVED.search(model) for model in (terms.gpu.models if terms.gpu else ())):
        raise ValueError("a GPU's model in golem.gpu.model must not contain ( ) * or \\")
    common: dict[str, Any] = {
        "run_id": terms.run_id,
        "package_url": await _package_url(terms),
        "memory_gib": terms.memory_gib,
        "storage_gib": terms.storage_gib,
        "threads": terms.threads,
        "manifest": terms.manifest,
    }
    if terms.manifest is not None:
        manifest_capabilities(terms.manifest)
    if terms.runtime == "vm-nvidia":
        return GpuImagePayload(**common, gpu=terms.gpu or GpuNeeds())
    return ProviderImagePayload(**common)


def manifest_properties(manifest: Manifest) -> dict[str, Any]:
    """Return the properties that carry a manifest.

    (yapapi takes a manifest that is text for one that is encoded already.)
    """
    properties: dict[str, Any] = {"golem.srv.comp.payload": _encoded(manifest.content)}
    if manifest.signature is not None and manifest.certificate is not None:
        properties["golem.srv.comp.payload.sig"] = _encoded(manifest.signature)
        properties["golem.srv.comp.payload.sig.algorithm"] = manifest.algorithm
        properties["golem.srv.comp.payload.cert"] = _encoded(manifest.certificate)
    if manifest.node_descriptor is not None:
        descriptor = _object(manifest.node_descriptor, "golem.manifest.node_descriptor")
        properties["golem.!exp.gap-31.v0.node.descriptor"] = descriptor
    return properties


def manifest_capabilities(manifest: Manifest) -> tuple[str, ...]:
    """Return what a runtime must be able to do for a manifest: let it out into the internet.

    Raises:
        ValueError: it is no JSON object.
    """
    section: Any = _object(manifest.content, "golem.manifest")
    for name in ("compManifest", "net", "inet", "out"):
        section = section.get(name) if isinstance(section, dict) else None
    if section is None:
        return ()
    # a node descriptor stands for the provider's own list of what it lets out
    return ("inet",) if manifest.node_descriptor is not None else ("inet", "manifest-support")


def _object(content: bytes, key: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the file of {key} is not JSON") from error
    if not isinstance(found, dict):
        raise ValueError(f"the file of {key} is not a JSON object")
    return found


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


async def _package_url(terms: Terms) -> str | None:
    if terms.manifest is not None and not terms.image:
        return None
    if terms.image.startswith("hash:"):
        return terms.image
    is_hash = _HASH.fullmatch(terms.image) is not None
    if terms.image_url is not None:
        return str(await check_package_url(terms.image_url, terms.image))
    found = str(
        await resolve_package_url(
            terms.registry_url.rstrip("/"),
            image_tag=None if is_hash else terms.image,
            image_hash=terms.image if is_hash else None,
        )
    )
    if is_hash and not found.startswith(f"hash:sha3:{terms.image}:"):
        raise ValueError(f"the registry answers with another image: {found[:120]!r}")
    return found
