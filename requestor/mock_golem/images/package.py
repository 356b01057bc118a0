"""The image that a demand asks for: its hash, and where its file is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from requestor.mock_golem.images.description import (
    HASH,
    MANIFEST,
    TASK_PACKAGE,
    first_payload,
)

_MOST_ADDRESSES = 16
_LONGEST_ADDRESS = 4096


@dataclass(frozen=True)
class Package:
    """An image by its SHA3-224 (56 hex digits), and addresses from which it may be had."""

    hash: str
    addresses: tuple[str, ...]


def package_of(demand: Mapping[str, Any]) -> Package | None:
    """Return the package that a demand's flat properties name; None if they name none rightly.

    Either as `hash:sha3:<hash>:<address>`, or in a computation manifest.
    """
    return _named(demand.get(TASK_PACKAGE)) or _in_manifest(demand.get(MANIFEST))


def _named(text: Any) -> Package | None:
    if not isinstance(text, str) or not text.startswith("hash:sha3:"):
        return None
    found, _, address = text.removeprefix("hash:sha3:").partition(":")
    return _checked(found, [address])


def _in_manifest(manifest: Any) -> Package | None:
    payload = first_payload(manifest)
    found, addresses = payload.get("hash"), payload.get("urls")
    if not isinstance(found, str) or not isinstance(addresses, list):
        return None
    return _checked(found.removeprefix("sha3:"), addresses)


def _checked(found: str, addresses: list[Any]) -> Package | None:
    wellformed = all(
        isinstance(address, str) and 0 < len(address) <= _LONGEST_ADDRESS for address in addresses
    )
    if HASH.fullmatch(found) is None or not wellformed or not 0 < len(addresses) < _MOST_ADDRESSES:
        return None
    return Package(found, tuple(addresses))
