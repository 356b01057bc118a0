"""Can providers get the image? Asked of the registry, or of the URL that stands in for it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp

from requestor.marketplace.diagnosis import Answer, CheckFailed
from requestor.marketplace.untrusted import bounded_number, printable

MAX_ANSWER_BYTES = 64 << 10
TIMEOUT_SECONDS = 15.0
MAX_IMAGE_BYTES = 1 << 45
_HASH = re.compile(r"[0-9a-f]{56}")
_PACKAGE = re.compile(r"hash:sha3:([0-9a-f]{56}):(.+)")


@dataclass(frozen=True)
class ImageReference:
    """An image as a config names it: a package text, a hash (perhaps with a URL), or a tag."""

    image: str
    image_url: str | None
    registry_url: str
    size_bytes: int | None = None  # what the image should have, where that is known

    @property
    def direct_url(self) -> str | None:
        """Return where the image lies, if no registry needs to be asked."""
        package = _PACKAGE.fullmatch(self.image)
        return package[2] if package else self.image_url

    @property
    def is_tag(self) -> bool:
        """Say whether the registry is asked for a tag."""
        return self.direct_url is None and not _HASH.fullmatch(self.image)


class RegistryError(Exception):
    """The registry (or the host of the image) did not answer as it should."""


async def check_image(reference: ImageReference) -> Answer:
    """Say whether the image can be had.

    Raises:
        CheckFailed: it cannot.
    """
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        try:
            if reference.direct_url is not None:
                return _checked(await _look_at(session, reference.direct_url), reference)
            return _checked(await _ask(session, reference), reference)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError, RegistryError) as error:
            reason = str(error) or type(error).__name__
            host = urlsplit(reference.direct_url or reference.registry_url).hostname
            raise CheckFailed(
                f"{host} does not tell of the image: {printable(reason, 200)}",
                "look at the network and at golem.registry_url; with golem.image_url beside "
                "golem.image=<hash> no registry is needed",
            ) from error


async def _look_at(session: aiohttp.ClientSession, url: str) -> Answer:
    async with session.head(url, allow_redirects=True) as response:
        if response.status != 200:
            raise CheckFailed(
                f"no image at {url}: HTTP {response.status}",
                "put the image there, or correct golem.image_url",
            )
        size = response.headers.get("Content-Length", "")
        known = int(size) if size.isdigit() else None
        return Answer(_words(url, known), facts={"url": url, "size_bytes": known})


async def _ask(session: aiohttp.ClientSession, reference: ImageReference) -> Answer:
    key = "tag" if reference.is_tag else "hash"
    query = urlencode({key: reference.image})
    async with session.get(f"{reference.registry_url}/v1/image/info?{query}") as response:
        raw = await response.content.read(MAX_ANSWER_BYTES + 1)
        if response.status == 404:
            said = printable(raw.decode(errors="replace"), 300)
            raise CheckFailed(
                f"the registry knows no image of {key} {reference.image}"
                + (f": {said}" if said else ""),
                "push it (`derl-image push FILE USER/REPO:TAG`), or correct golem.image",
            )
        if response.status != 200:
            raise RegistryError(f"HTTP {response.status}")
    sha3, url, size_bytes = _read(raw)
    if not reference.is_tag and sha3 != reference.image:
        raise RegistryError(f"asked for {reference.image[:12]}, it answers with {sha3[:12]}")
    facts = {"url": url, "sha3": sha3, "size_bytes": size_bytes}
    words = _words(reference.image if reference.is_tag else f"hash {sha3[:12]}", size_bytes)
    if reference.is_tag:
        return Answer(
            f"{words}; what a tag stands for can change",
            is_warning=True,
            fix=f"golem.image={sha3}",
            facts=facts,
        )
    return Answer(words, facts=facts)


def _read(raw: bytes) -> tuple[str, str, int | None]:
    """Return hash, URL and size in bytes of a registry's answer; ValueError if it is none."""
    if len(raw) > MAX_ANSWER_BYTES:
        raise RegistryError("the answer is too large")
    try:
        answer: Any = json.loads(raw)
    except RecursionError as error:
        raise RegistryError("the answer is nested too deeply") from error
    if not isinstance(answer, dict):
        raise RegistryError("the answer is not an object")
    sha3 = answer.get("sha3")
    url = answer.get("https") or answer.get("http")
    if not isinstance(sha3, str) or not _HASH.fullmatch(sha3) or not isinstance(url, str):
        raise RegistryError("the answer has no hash or no URL")
    size = int(bounded_number(answer.get("size"), MAX_IMAGE_BYTES)) or None
    return sha3, printable(url, 500), size


def _checked(answer: Answer, reference: ImageReference) -> Answer:
    """Hold the size that is told against the one that is expected."""
    told, expected = answer.facts.get("size_bytes"), reference.size_bytes
    if None not in (told, expected) and told != expected:
        raise CheckFailed(
            f"the image should have {expected} bytes, and {told} bytes lie there",
            "push it again (`derl-image push FILE USER/REPO:TAG`), or correct golem.image_url",
            answer.facts,
        )
    return answer


def _words(name: str, size_bytes: int | None) -> str:
    return name if size_bytes is None else f"{name}, {size_bytes / 2**20:,.0f} MiB"
