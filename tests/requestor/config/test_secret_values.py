"""Keys and passwords in a config or an override are refused, and no message quotes them."""

from __future__ import annotations

import pytest

from requestor.config import parse_config
from requestor.errors import ConfigError, render

CONFIG = "{env: {id: CartPole-v1, kwargs: {key: 3, token: x}}, algo: {name: ppo}}"
KEY = "3c5f9d0be2a14f6e9d7a1b2c3d4e5f60"


@pytest.mark.parametrize(
    "override",
    [
        "golem.app_key=hunter2",
        "golem.YAGNA_APPKEY=hunter2",
        "golem.key={hunter2",
        "golem.token=hunter2",
        "golem.password=hunter2",
        "app-key=hunter2",
        "env.kwargs.app_key=hunter2",
        "golem.image_url=https://me:hunter2@host/image.gvmi",
        "golem.registry_url=https://hunter2@host",
    ],
)
def test_overrides(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(CONFIG, [override])
    text = render(caught.value)
    assert "hunter2" not in text
    assert override.partition("=")[0] in text
    assert "YAGNA_APPKEY" in text or "leave them out" in text


@pytest.mark.parametrize(
    "text",
    [
        "{env: {id: CartPole-v1}, algo: {name: ppo}, golem: {app_key: hunter2}}",
        "{env: {id: CartPole-v1}, algo: {name: ppo}, golem: {max_price: {secret: hunter2}}}",
        "{env: {id: CartPole-v1}, algo: {name: ppo}, golem: {allow: ['http://x:hunter2@y']}}",
        "{env: {id: CartPole-v1}, algo: {name: ppo}, private_key: hunter2}",
    ],
)
def test_files(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert "hunter2" not in render(caught.value)
    assert "secrets in the config" in str(caught.value)


def test_the_line_is_named() -> None:
    with pytest.raises(ConfigError, match=r"@ golem\.app_key \(line 3\); leave it out and"):
        parse_config("env: {id: CartPole-v1}\nalgo: {name: ppo}\ngolem: {app_key: hunter2}\n")


def test_the_key_of_the_environment_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YAGNA_APPKEY", KEY)
    for override in (f"golem.subnet={KEY}", f"env.kwargs.note='a {KEY} b'", f"name={KEY}"):
        with pytest.raises(ConfigError) as caught:
            parse_config(CONFIG, [override])
        assert KEY not in render(caught.value)


def test_arguments_of_environments_may_have_such_names() -> None:
    assert parse_config(CONFIG).env.kwargs == {"key": 3, "token": "x"}
