"""Images: what a container of the mock holds besides this machine's programs, and a registry.

No image is ever downloaded. A fleet file can say what one holds: a folder that is laid over the
container's root, volumes, working directory, environment. The registry answers the question that
`yapapi.payload.vm.repo` and golem-core ask of Golem's own.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, field_validator

from requestor.mock_golem.answers import TextRefusal, json_answer

TASK_PACKAGE = "golem.srv.comp.task_package"
MANIFEST = "golem.srv.comp.payload"
_HASH = re.compile(r"[0-9a-f]{56}")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*:[A-Za-z0-9._-]+")
_LONGEST_TAG = 255


class Image(BaseModel):
    """One image.

    `hash` is the SHA3-224 of its file; `root` a folder whose files are laid over the container's
    root (at most 128 MiB; relative to the fleet file); `volumes` start empty, as in a VM.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    hash: Annotated[str, Field(pattern=rf"^{_HASH.pattern}$")]
    tag: Annotated[str, Field(pattern=rf"^{_TAG.pattern}$", max_length=_LONGEST_TAG)] | None = None
    root: Path | None = None
    volumes: tuple[str, ...] = ("/golem/work",)
    working_dir: str = "/golem/work"
    environment: dict[str, str] = Field(default_factory=dict)

    @field_validator("volumes", "working_dir")
    @classmethod
    def _below_root(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for path in (value,) if isinstance(value, str) else value:
            if not path.startswith("/") or path == "/" or ".." in path.split("/"):
                raise ValueError(f"{path!r} is no absolute path below / in the container")
        return value


ANY_IMAGE = Image(hash="0" * 56)


def image_of(demand: Mapping[str, Any], images: Sequence[Image]) -> Image:
    """Return the image that a demand's flat properties ask for.

    One that is not among `images` holds nothing but this machine's programs.
    """
    wanted = _package_hash(demand.get(TASK_PACKAGE)) or _manifest_hash(demand.get(MANIFEST))
    return next((image for image in images if image.hash == wanted), ANY_IMAGE)


def _package_hash(package: Any) -> str | None:
    if not isinstance(package, str) or not package.startswith("hash:sha3:"):
        return None
    return package.removeprefix("hash:sha3:").partition(":")[0]


def _manifest_hash(manifest: Any) -> str | None:
    """Return the hash that a computation manifest (base64 of JSON) names."""
    if not isinstance(manifest, str):
        return None
    try:
        found = json.loads(base64.b64decode(manifest, validate=True))["payload"][0]["hash"]
    except (binascii.Error, ValueError, LookupError, TypeError, RecursionError):
        return None
    return found.removeprefix("sha3:") if isinstance(found, str) else None


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
        if _HASH.fullmatch(image_hash) is None or (known and image_hash not in known):
            raise TextRefusal(404, f"no image with hash {image_hash[:64]}")
        return image_hash

    def _by_tag(self, tag: str | None) -> str:
        name = (tag or "")[:_LONGEST_TAG]
        for image in self._images:
            if image.tag == name:
                return image.hash
        if self._images or _TAG.fullmatch(name) is None:
            raise TextRefusal(404, f"no image with tag {name}")
        return hashlib.sha3_224(name.encode()).hexdigest()

    def _url(self, request: web.Request, image_hash: str) -> str:
        return str(request.url.origin().with_path(f"/download/{image_hash}.gvmi"))
