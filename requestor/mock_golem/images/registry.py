"""An image registry: answers what `yapapi.payload.vm.repo` and golem-core ask of Golem's own."""

import hashlib
from collections.abc import Sequence

from aiohttp import web

from requestor.mock_golem.answers import TextRefusal, json_answer
from requestor.mock_golem.images.description import HASH, LONGEST_TAG, TAG, Image


class RegistryApi:
    """What is asked of an image registry, without a key.

    Args:
        images: what the registry knows; none at all means that it knows every image.
    """

    def __init__(self, images: Sequence[Image]) -> None:
        self._images = images

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to serve."""
        return [
            web.get("/v1/image/info", self._info),
            web.get(r"/image.{image_hash:[0-9a-f]{56}}.link", self._link),
        ]

    @staticmethod
    def serves(path: str) -> bool:
        """Tell whether a request's path is the registry's."""
        return path == "/v1/image/info" or path.startswith("/image.")

    async def _info(self, request: web.Request) -> web.Response:
        """What yapapi asks: `hash=` or `tag=`."""
        image_hash, tag = request.query.get("hash"), request.query.get("tag")
        if (image_hash is None) == (tag is None):
            raise TextRefusal(400, "either `hash` or `tag` is needed")
        found = self._by_tag(tag) if image_hash is None else self._by_hash(image_hash)
        url = self._url(request, found)
        return json_answer({"http": url, "https": url, "sha3": found, "size": 0})

    async def _link(self, request: web.Request) -> web.Response:
        """What golem-core 0.7 asks: the image's address, as text."""
        found = self._by_hash(request.match_info["image_hash"])
        return web.Response(text=self._url(request, found))

    def _by_hash(self, image_hash: str) -> str:
        known = [image.hash for image in self._images]
        if HASH.fullmatch(image_hash) is None or (known and image_hash not in known):
            raise TextRefusal(404, f"no image with hash {image_hash[:64]}")
        return image_hash

    def _by_tag(self, tag: str | None) -> str:
        name = (tag or "")[:LONGEST_TAG]
        for image in self._images:
            if image.tag == name:
                return image.hash
        if self._images or TAG.fullmatch(name) is None:
            raise TextRefusal(404, f"no image with tag {name}")
        return hashlib.sha3_224(name.encode()).hexdigest()

    def _url(self, request: web.Request, image_hash: str) -> str:
        return str(request.url.origin().with_path(f"/download/{image_hash}.gvmi"))
