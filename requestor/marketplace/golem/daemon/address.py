"""Where the daemon is, read from the environment with the suspicion due to anybody's text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from requestor.errors import PreflightError
from requestor.secrecy import holds_password, redact, remember_secret

DEFAULT_URL = "http://127.0.0.1:7465"


@dataclass(frozen=True)
class DaemonAddress:
    """Where the daemon is and the key to it; `registry_url`: the image registry that it brings."""

    url: str
    app_key: str
    market_url: str
    payment_url: str
    activity_url: str
    registry_url: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read `YAGNA_API_URL`, `YAGNA_APPKEY` and the URLs of the single APIs.

        Nothing else is taken from the environment: network, driver and subnet are the config's.

        Raises:
            PreflightError: a URL is none, or holds a password; or the key is no key.
        """
        url = _url(environment, "YAGNA_API_URL", DEFAULT_URL)
        key = environment.get("YAGNA_APPKEY", "").strip()
        if not key.isascii() or not key.isprintable() or " " in key:
            raise PreflightError(
                "YAGNA_APPKEY holds spaces or signs that no key has",
                fix="`yagna app-key list` shows the keys; export one as YAGNA_APPKEY",
            )
        remember_secret(key)
        return cls(
            url=url,
            app_key=key,
            market_url=_url(environment, "YAGNA_MARKET_URL", f"{url}/market-api/v1"),
            payment_url=_url(environment, "YAGNA_PAYMENT_URL", f"{url}/payment-api/v1"),
            activity_url=_url(environment, "YAGNA_ACTIVITY_URL", f"{url}/activity-api/v1"),
        )

    def __repr__(self) -> str:
        """Leave the key out: it must not reach a log."""
        return f"DaemonAddress(url={self.url!r})"


def _url(environment: Mapping[str, str], name: str, default: str) -> str:
    text = (environment.get(name, "").strip() or default).rstrip("/")
    if not _is_url(text):
        raise PreflightError(
            f"{name} is not the URL of a daemon: {redact(text)!r}",
            fix=f"`export {name}={default}`",
        )
    if holds_password(text):
        raise PreflightError(
            f"{name} holds a user name or password, which the daemon does not ask for",
            fix=f"leave it out of {name}; the daemon's key belongs in YAGNA_APPKEY",
        )
    return text


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
