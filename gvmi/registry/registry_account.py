"""Who pushes, and where to: tags, the registry's URL, credentials from the environment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import quote, urlsplit

from gvmi.errors import MachineUnfit, RegistryRefused
from requestor.mock_golem.images.description import LONGEST_TAG, TAG

GOLEM_REGISTRY = "https://registry.golem.network"
HIDDEN = "<redacted>"


@dataclass(frozen=True)
class Credentials:
    """An account of the registry; its token is never shown."""

    user: str
    token: str = field(repr=False)

    def redact(self, text: str) -> str:
        """Return `text` without the token, plain or as in a URL."""
        for spelling in sorted({self.token, quote(self.token, safe="")}, key=len, reverse=True):
            text = text.replace(spelling, HIDDEN)
        return text


@dataclass(frozen=True)
class Target:
    """Where an image goes: without `tag` it is pushed for everybody, by its hash alone."""

    registry_url: str
    tag: str | None = None


def target(registry_url: str, tag: str | None) -> Target:
    """Return where to push to.

    Raises:
        RegistryRefused: the tag or the URL cannot be used.
    """
    if tag is not None and not (len(tag) <= LONGEST_TAG and TAG.fullmatch(tag)):
        raise RegistryRefused(
            f"no tag: {tag[:LONGEST_TAG]!r}",
            fix="write it as USER/REPO:TAG, of letters, digits and . _ -; for example me/derl:v1",
        )
    try:
        url = urlsplit(registry_url)
        is_one = url.scheme in ("http", "https") and bool(url.hostname) and not url.query
        has_password = "@" in url.netloc
    except ValueError:
        is_one = has_password = False
    if has_password:
        raise RegistryRefused(
            "the registry's URL has a user name or password in it",
            fix="leave it out; export REGISTRY_USER and REGISTRY_TOKEN",
        )
    if not is_one:
        raise RegistryRefused(
            f"no URL of a registry: {registry_url[:200]!r}",
            fix=f"give --registry (or REGISTRY_URL) as {GOLEM_REGISTRY}",
        )
    if tag is not None and url.scheme == "http" and not _is_this_machine(url.hostname or ""):
        raise RegistryRefused(
            f"{registry_url[:200]} would carry the token in the clear",
            fix="use https, or --nologin for a push without an account",
        )
    return Target(registry_url.rstrip("/"), tag)


def credentials(environment: Mapping[str, str], folder: Path) -> Credentials:
    """Return the account that the environment names.

    Raises:
        MachineUnfit: it names none, or half of one; a `.env` in `folder` is not read.
    """
    user = environment.get("REGISTRY_USER", "").strip()
    token = environment.get("REGISTRY_TOKEN", "").strip()
    if user and token:
        return Credentials(user, token)
    missing = " and ".join(
        name for name, value in (("REGISTRY_USER", user), ("REGISTRY_TOKEN", token)) if not value
    )
    beside = " (.env files are not read)" if (folder / ".env").is_file() else ""
    raise MachineUnfit(
        f"{missing} must be set in the environment{beside}",
        fix="export REGISTRY_USER=<your account>; read -rs REGISTRY_TOKEN; export REGISTRY_TOKEN; "
        "or push without an account, and without a tag: --nologin",
    )


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
