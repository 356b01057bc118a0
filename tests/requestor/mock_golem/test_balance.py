"""The account's balance over the bridge to the bus, in real yagna's shapes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytestmark = pytest.mark.asyncio
STATUS = "/_gsb/local/payment/GetStatus"
FLEET = "requestor: {funds_glm: 7.5}\nruntime: {isolation: process}\nproviders: [{name: oak}]"
ASKED = {
    "address": "0x" + "1" * 40,
    "driver": "erc20",
    "network": "hoodi",
    "token": None,
    "after_timestamp": 0,
}


async def test_what_is_held_and_what_is_reserved(
    serve: Callable[..., Awaitable[Any]],
) -> None:
    requestor = await serve(FLEET)
    answer = await requestor.ok("POST", STATUS, ASKED)
    assert answer["Ok"]["amount"] == "7.5"
    assert answer["Ok"]["reserved"] == "0"
    assert (answer["Ok"]["token"], answer["Ok"]["network"]) == ("tGLM", "hoodi")
    assert answer["Ok"]["gas"]["currency_short_name"] == "tETH"
    assert answer["Ok"]["gas"]["currency_long_name"] == "Hoodi Ether"
    body = {"totalAmount": "2.25", "paymentPlatform": "erc20-hoodi-tglm", "makeDeposit": False}
    await requestor.ok("POST", "/payment-api/v1/allocations", body)
    answer = await requestor.ok("POST", STATUS, ASKED)
    assert (answer["Ok"]["amount"], answer["Ok"]["reserved"]) == ("7.5", "2.25")


async def test_refusals(serve: Callable[..., Awaitable[Any]]) -> None:
    requestor = await serve(FLEET)
    status, answer = await requestor.call("POST", STATUS, {**ASKED, "network": "mainnet"})
    assert status == 200
    assert "Network not supported by driver: network=mainnet" in answer["Err"]["inner"]
    status, answer = await requestor.call("POST", STATUS, {"driver": "erc20"})
    assert (status, answer) == (500, "Bad content: Serde Error: missing field `address`")
    status, answer = await requestor.call("POST", "/_gsb/local/payment/Nope", {})
    assert (status, answer) == (500, "Bad request: endpoint address not found")
    status, _ = await requestor.call("POST", STATUS, ASKED, headers={"Authorization": "Bearer x"})
    assert status == 401
