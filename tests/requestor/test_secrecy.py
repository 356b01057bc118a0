"""Secrets are blotted out in every spelling, and ordinary text stays as it is."""

from __future__ import annotations

import json
import shlex
import string
import traceback
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from requestor import secrecy
from requestor.secrecy import (
    HIDDEN,
    holds_password,
    holds_secret,
    redact,
    redacted_data,
    remember_secret,
    without_secrets,
)


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process have had keys of their own."""
    monkeypatch.setattr(secrecy, "_remembered", set())
    for name in secrecy.SECRET_VARIABLES:
        monkeypatch.delenv(name, raising=False)

KEY = "3c5f9d0be2a14f6e9d7a1b2c3d4e5f60"
ODD_KEY = 'kéy "with" &signs/100%'


@pytest.fixture(params=[KEY, ODD_KEY])
def key(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    value = str(request.param)
    monkeypatch.setenv("YAGNA_APPKEY", value)
    return value


def test_every_spelling_goes(key: str) -> None:
    spellings = [
        key,
        f"Authorization: {key}!",
        json.dumps({"app_key": key}),
        f"http://host/ws?x=1&t={quote(key, safe='')}",
    ]
    for text in spellings:
        safe = redact(text)
        assert HIDDEN in safe
        assert key not in safe
        assert quote(key, safe="") not in safe
        assert json.dumps(key)[1:-1] not in safe


def test_tracebacks(key: str) -> None:
    try:
        raise RuntimeError(f"the call with {key} failed")
    except RuntimeError as error:
        text = "".join(traceback.format_exception(error))
    assert key in text
    assert key not in redact(text)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("{'Authorization': 'Bearer abc123'}", "{'Authorization': 'Bearer <redacted>'}"),
        ("bearer abc, next", "bearer <redacted>, next"),
        ("/net/1/tcp?authToken=xyz&a=1", "/net/1/tcp?authToken=<redacted>&a=1"),
        ("https://me:secret@host/p", "https://<redacted>@host/p"),
        ("gftp://token@0x12/abc", "gftp://<redacted>@0x12/abc"),
        ("golem.app_key=abc", "golem.app_key=<redacted>"),
    ],
)
def test_what_looks_like_a_secret(text: str, safe: str) -> None:
    assert redact(text) == safe
    assert redact(safe) == safe


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:7465/payment-api/v1/allocations",
        "gftp://0x67284892afc87e0abec1c8fed597cc66dfc97dbc/0123456789abcdef",
        "mail me@host",
        "a / b @ c",
        "the key is in YAGNA_APPKEY",
        "`export YAGNA_APPKEY=<the key>`",
        "basic training",
        "https://host/path?who=a@b",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text


def test_a_key_too_short_to_be_one_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YAGNA_APPKEY", "a")
    assert redact("a banana") == "a banana"
    monkeypatch.setenv("YAGNA_APPKEY", "test")
    assert redact("key test") == f"key {HIDDEN}"
    assert not holds_secret("a test config")


def test_remembered_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("requestor.secrecy._remembered", set())
    remember_secret("feedfacefeedface")
    assert redact("x feedfacefeedface y") == f"x {HIDDEN} y"
    assert holds_secret("feedfacefeedface")
    remember_secret("")
    assert redact("nothing") == "nothing"


def test_data_keeps_its_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YAGNA_APPKEY", KEY)
    data = {"a": [1, None, f"x{KEY}", {KEY: 2.5}], "b": True}
    assert redacted_data(data) == {"a": [1, None, f"x{HIDDEN}", {HIDDEN: 2.5}], "b": True}


def test_environments_of_children(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"PATH": "/bin", "YAGNA_APPKEY": KEY, "YAGNA_AUTOCONF_ID_SECRET": "s"}
    assert without_secrets(environment) == {"PATH": "/bin"}


def test_passwords_in_urls() -> None:
    assert holds_password("https://a:b@host/x")
    assert holds_password("http://token@host")
    assert not holds_password("https://host/x@y")
    assert not holds_password("user/name:tag@1")
    assert not holds_password("https://host?a=b@c")


SECRETS = st.text(
    alphabet=string.ascii_letters + string.digits + "/+=&%\"' \\é", min_size=8, max_size=40
)


@given(SECRETS, st.text(max_size=60), st.text(max_size=60))
def test_no_text_lets_a_key_through(secret: str, before: str, after: str) -> None:
    assume(secret.strip() == secret and secret not in HIDDEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YAGNA_APPKEY", secret)
        assert secret not in redact(f"{before}{secret}{after}")
        assert secret not in json.loads(redact(json.dumps({"text": secret})))["text"]
        assert secret not in redact(f"derl-request {shlex.quote(secret)} {secret}")
