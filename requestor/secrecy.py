"""Keys stay out of everything that is written or shown.

Secrets come from the environment only. `redact` blots them out of text, with what looks like one
although nobody told us of it: bearer tokens, tokens in queries, passwords in URLs.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

HIDDEN = "<redacted>"
SECRET_VARIABLES = ("YAGNA_APPKEY", "YAGNA_AUTOCONF_APPKEY", "YAGNA_AUTOCONF_ID_SECRET")
MIN_SECRET_LENGTH = 4
"""Shorter ones are no secrets, and to blot them out would make text unreadable."""

UNCOMMON_LENGTH = 8

_PATTERNS = (
    (re.compile(r"(?i)\b(bearer)\s+[^'\"\s,}<]+"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?i)\b(authtoken|app-?_?key|api_?key)(=|%3D)[^&\s'\"<]+"), rf"\1\2{HIDDEN}"),
    (re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*://)[^/\s@'\"<]+@"), rf"\1{HIDDEN}@"),
)
_USER_INFO = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s@]+@")
_SECRET_NAME = re.compile(
    r"(?i)(?:^|_)(?:tokens?|secrets?|passwords?|passwd|passphrase|pat|credentials?|cookie|auth"
    r"|keys?|mnemonic|seed_phrase|[a-z]*appkey|apikey|auth_sock)(?:_|$)"
)
_remembered: set[str] = set()


def remember_secret(value: str) -> None:
    """Blot out `value` from now on in this process; for keys that are in no variable."""
    if len(value) >= MIN_SECRET_LENGTH:
        _remembered.add(value)


def redact(text: str) -> str:
    """Return `text` without secrets: plain, in JSON, in a URL."""
    spellings = {
        spelling
        for secret in _secrets()
        for spelling in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])
    }
    # the longest first: a shorter one may be a part of it, and would leave the rest behind
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, HIDDEN)
    for pattern, hidden in _PATTERNS:
        text = pattern.sub(hidden, text)
    return text


def redacted_data(value: Any) -> Any:
    """Return plain data with every text in it redacted, keys included."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redacted_data(key): redacted_data(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [redacted_data(entry) for entry in value]
    return value


def holds_secret(text: str) -> bool:
    """Say whether a known secret stands in `text`; one that may be a common word does not count."""
    return any(len(secret) >= UNCOMMON_LENGTH and secret in text for secret in _secrets())


def holds_password(url: str) -> bool:
    """Say whether a URL names a user or a password before its host."""
    return _USER_INFO.match(url.strip()) is not None


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for programs that have no business with our keys."""
    return {name: value for name, value in environment.items() if name not in SECRET_VARIABLES}


def for_strangers(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for code that may be a stranger's: nothing that is, or looks secret."""
    return {
        name: value
        for name, value in without_secrets(environment).items()
        if not (_SECRET_NAME.search(name) or holds_secret(value) or _USER_INFO.search(value))
    }


def _secrets() -> Iterator[str]:
    yield from _remembered
    for name in SECRET_VARIABLES:
        value = os.environ.get(name, "")
        if len(value) >= MIN_SECRET_LENGTH:
            yield value
