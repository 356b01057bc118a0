"""What a fleet file says of images, and which of them a demand asks for.

A fleet file can say what one holds: a folder that is laid over the container's root, volumes,
working directory, environment.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

TASK_PACKAGE = "golem.srv.comp.task_package"
MANIFEST = "golem.srv.comp.payload"
HASH = re.compile(r"[0-9a-f]{56}")
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*:[A-Za-z0-9._-]+")
LONGEST_TAG = 255


class Image(BaseModel):
    """One image.

    `hash` is the SHA3-224 of its file; `root` a folder whose files are laid over the container's
    root (at most 128 MiB; relative to the fleet file); `volumes` start empty, as in a VM.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    hash: Annotated[str, Field(pattern=rf"^{HASH.pattern}$")]
    tag: Annotated[str, Field(pattern=rf"^{TAG.pattern}$", max_length=LONGEST_TAG)] | None = None
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
    found = first_payload(manifest).get("hash")
    return found.removeprefix("sha3:") if isinstance(found, str) else None


def first_payload(manifest: Any) -> Mapping[str, Any]:
    """Return the first payload of a computation manifest (base64 of JSON), or nothing."""
    if not isinstance(manifest, str):
        return {}
    try:
        found = json.loads(base64.b64decode(manifest, validate=True))["payload"][0]
    except (binascii.Error, ValueError, LookupError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
