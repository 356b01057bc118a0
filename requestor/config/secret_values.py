"""Keys and passwords have no place in a config: it is copied, shown and sent to others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from requestor.config.documents import Document, Location
from requestor.secrecy import holds_password, holds_secret

_NAMES = frozenset(
    {
        "appkey",
        "yagnaappkey",
        "applicationkey",
        "apikey",
        "authtoken",
        "accesstoken",
        "registrytoken",
        "token",
        "secret",
        "password",
        "privatekey",
        "mnemonic",
        "key",
    }
)
_ANYWHERE = frozenset({"appkey", "yagnaappkey", "applicationkey", "privatekey", "mnemonic"})
"""Names that mean a secret in every section; the others are a key in `golem` only."""

_FIX = "leave it out and `export YAGNA_APPKEY=<the key>` instead"


def secrets_in(document: Document, overrides: Sequence[str]) -> list[str]:
    """Return a line for each secret in a config or its overrides; none of them quotes it."""
    found = list(_in_mapping(document, (), document.data))
    for override in overrides:
        name, _, text = override.partition("=")
        location = tuple(name.strip().split("."))
        what = _offence(location, text)
        if what is not None:
            found.append(f"{what} @ {name.strip()} (override); {_fix(what)}")
    return found


def _in_mapping(document: Document, location: Location, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _in_mapping(document, (*location, str(name)), entry)
        return
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _in_mapping(document, (*location, index), entry)
        return
    what = _offence(location, value)
    if what is not None:
        origin = document.origin(location)
        place = ".".join(map(str, location)) + (f" ({origin})" if origin else "")
        yield f"{what} @ {place}; {_fix(what)}"


def _offence(location: Location, value: Any) -> str | None:
    """Return what is wrong with a value at a place: a secret by its name or by what it is."""
    name = re.sub(r"[^a-z]", "", str(location[-1]).lower()) if location else ""
    is_golem = len(location) == 1 or location[0] == "golem"
    if name in _ANYWHERE or (name in _NAMES and is_golem):
        return "a key is no setting"
    if not isinstance(value, str):
        return None
    if holds_secret(value):
        return "the key of the environment stands here"
    if is_golem and holds_password(value):
        return "a URL with a user name or password in it"
    return None


def _fix(what: str) -> str:
    if "URL" in what:
        return "leave them out; image and registry must be public, providers fetch them too"
    return _FIX
