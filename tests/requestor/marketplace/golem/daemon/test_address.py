"""The daemon's address comes from `YAGNA_*` alone, and nothing of it but the daemon is taken."""

from __future__ import annotations

import pytest

from requestor.errors import PreflightError, render
from requestor.marketplace.golem.daemon.api import DaemonAddress


def test_defaults() -> None:
    address = DaemonAddress.from_environment({})
    assert address.url == "http://127.0.0.1:7465"
    assert address.market_url == "http://127.0.0.1:7465/market-api/v1"
    assert address.payment_url == "http://127.0.0.1:7465/payment-api/v1"
    assert address.activity_url == "http://127.0.0.1:7465/activity-api/v1"
    assert address.app_key == ""
    assert DaemonAddress.from_environment({"YAGNA_API_URL": ""}) == address


def test_every_url_is_honoured() -> None:
    environment = {
        "YAGNA_API_URL": "https://host:1/",
        "YAGNA_APPKEY": " abcdef\n",
        "YAGNA_MARKET_URL": "http://market/market-api/v1/",
        "YAGNA_PAYMENT_URL": "http://pay/p",
    }
    address = DaemonAddress.from_environment(environment)
    assert address.url == "https://host:1"
    assert address.app_key == "abcdef"
    assert address.market_url == "http://market/market-api/v1"
    assert address.payment_url == "http://pay/p"
    assert address.activity_url == "https://host:1/activity-api/v1"
    assert "abcdef" not in repr(address)


@pytest.mark.parametrize("name", ["YAGNA_API_URL", "YAGNA_MARKET_URL", "YAGNA_ACTIVITY_URL"])
@pytest.mark.parametrize(
    "url", ["localhost:7465", "ftp://host", "http://", "http://[::1", "http://h:99999", "x"]
)
def test_what_is_no_url(name: str, url: str) -> None:
    with pytest.raises(PreflightError, match=f"{name} is not the URL of a daemon") as caught:
        DaemonAddress.from_environment({name: url})
    assert f"export {name}=" in str(caught.value.fix)


@pytest.mark.parametrize("name", ["YAGNA_API_URL", "YAGNA_PAYMENT_URL"])
def test_passwords_in_urls_are_refused_and_not_repeated(name: str) -> None:
    for url in ("http://me:hunter2@127.0.0.1:7465", "ftp://hunter2@host"):
        with pytest.raises(PreflightError) as caught:
            DaemonAddress.from_environment({name: url})
        assert "hunter2" not in render(caught.value)


@pytest.mark.parametrize("key", ["two words", "a\tb", "clé", "a\nb"])
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(PreflightError, match="YAGNA_APPKEY holds") as caught:
        DaemonAddress.from_environment({"YAGNA_APPKEY": key})
    assert key not in render(caught.value)
