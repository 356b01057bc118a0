"""An image registry: answers what `yapapi.payload.vm.repo` and golem-core ask of Golem's own.

What `gvmkit-build` sends to it is in `registry_push.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

from aiohttp import web

from requestor.mock_golem.answers import TextRefusal, json_answer
from requestor.mock_golem.fleet import Fleet
from requestor.mock_golem.images.description import HASH, LONGEST_TAG, TAG, Image
from requestor.mock_golem.images.registry_push import PushApi
from requestor.mock_golem.images.store import ImageStore, NotStored, StoredImage, StoreError

_PREFIXES = ("/v1/image/", "/auth/pat/", "/download/", "/image.")
_LETTERS = r"[0-9a-f]"


class RegistryApi:
    """What is asked of an image registry, without a key.

    Args:
        images: what a fleet file says that the registry knows, without files.
        store: the images it has, and where pushed ones go. Without it and without `images` the
            registry knows every image there may be.
        push: takes what is pushed into the store.
    """

    def __init__(
        self,
        images: Sequence[Image] = (),
        store: ImageStore | None = None,
        push: PushApi | None = None,
    ) -> None:
        self._images = images
        self._store = store
        self._push = push or (None if store is None else PushApi(store))

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to serve."""
        own = [
            web.get("/v1/image/info", self._info),
            web.get(rf"/image.{{image_hash:{_LETTERS}{{56}}}}.link", self._link),
            web.get(rf"/download/{{image_hash:{_LETTERS}{{56}}}}.gvmi", self._download),
            web.get(rf"/download/{{sha256:{_LETTERS}{{64}}}}", self._download),
        ]
        return own if self._push is None else [*own, *self._push.routes()]

    @staticmethod
    def serves(path: str) -> bool:
        """Tell whether a request's path is the registry's."""
        return path.startswith(_PREFIXES)

    async def _info(self, request: web.Request) -> web.Response:
        """What yapapi asks: `hash=` or `tag=`."""
        image_hash, tag = request.query.get("hash"), request.query.get("tag")
        if (image_hash is None) == (tag is None):
            raise TextRefusal(400, "either `hash` or `tag` is needed")
        sha3, size_bytes = (
            await self._by_tag(tag) if image_hash is None else await self._by_hash(image_hash)
        )
        url = self._url(request, sha3)
        return json_answer({"http": url, "https": url, "sha3": sha3, "size": size_bytes})

    async def _link(self, request: web.Request) -> web.Response:
        """What golem-core 0.7 asks: the image's address, as text."""
        sha3, _ = await self._by_hash(request.match_info["image_hash"])
        return web.Response(text=self._url(request, sha3))

    async def _download(self, request: web.Request) -> web.StreamResponse:
        """The bytes themselves, or the range of them that is asked for."""
        sha3 = request.match_info.get("image_hash")
        if sha3 is None and self._push is not None:
            sha3 = self._push.image_hash(request.match_info["sha256"])
        if self._store is None or sha3 is None:
            raise TextRefusal(404, "no such image is stored here")
        stored = await self._stored(sha3)
        headers = {"Content-Type": "application/octet-stream"}
        return web.FileResponse(stored.path, headers=headers)

    async def _by_hash(self, image_hash: str) -> tuple[str, int]:
        if HASH.fullmatch(image_hash) is None:
            raise TextRefusal(404, f"no image with hash {image_hash[:64]}")
        if any(image.hash == image_hash for image in self._images) or self._knows_all:
            return image_hash, 0
        return image_hash, (await self._stored(image_hash)).size_bytes

    async def _by_tag(self, tag: str | None) -> tuple[str, int]:
        name = (tag or "")[:LONGEST_TAG]
        for image in self._images:
            if image.tag == name:
                return image.hash, 0
        if self._knows_all and TAG.fullmatch(name) is not None:
            return hashlib.sha3_224(name.encode()).hexdigest(), 0
        try:
            found = None if self._store is None else self._store.tags().get(name)
        except StoreError as error:
            raise TextRefusal(500, str(error)) from error
        if found is None:
            raise TextRefusal(404, f"no image with tag {name}")
        return found, (await self._stored(found)).size_bytes

    @property
    def _knows_all(self) -> bool:
        return self._store is None and not self._images

    async def _stored(self, sha3: str) -> StoredImage:
        if self._store is None:
            raise TextRefusal(404, f"no image with hash {sha3[:64]}")
        try:
            return await asyncio.to_thread(self._store.find, sha3)
        except NotStored as error:
            raise TextRefusal(404, str(error)) from error
        except StoreError as error:
            raise TextRefusal(500, str(error)) from error

    def _url(self, request: web.Request, image_hash: str) -> str:
        return str(request.url.origin().with_path(f"/download/{image_hash}.gvmi"))


def fleet_registry(fleet: Fleet) -> RegistryApi:
    """Return the registry that a fleet file describes."""
    if fleet.registry is None:
        return RegistryApi(fleet.images)
    fleet.registry.store.mkdir(parents=True, exist_ok=True)
    return RegistryApi(fleet.images, ImageStore(fleet.registry.store))
