"""Whether an account can pay a run, by the daemon's own arithmetic: budget <= held - reserved."""

from __future__ import annotations

from decimal import Decimal

import pytest

from requestor.marketplace.diagnosis import CheckFailed
from requestor.marketplace.golem.daemon.api import DaemonAddress, DaemonApi, DaemonError
from requestor.marketplace.golem.daemon.funds import (
    Account,
    Balance,
    ask_balance,
    judge_funds,
    knows_network,
)

NODE = "0x" + "1" * 40
TEST = Account("erc20", "hoodi", NODE)


def balance(glm: str, reserved: str = "0", gas: str | None = "0.01") -> Balance:
    return Balance(
        Decimal(glm), Decimal(reserved), "tGLM", None if gas is None else Decimal(gas), "tETH"
    )


@pytest.mark.parametrize(
    ("held", "reserved", "budget", "is_enough"),
    [
        ("1", "0", "1", True),
        ("1", "0", "1.000000000000000001", False),
        ("3", "2", "1", True),
        ("3", "2.000000000000000001", "1", False),
        ("0", "0", "0.1", False),
        ("1", "5", "0.1", False),
    ],
)
def test_enough(held: str, reserved: str, budget: str, is_enough: bool) -> None:
    if is_enough:
        assert not judge_funds(balance(held, reserved), Decimal(budget), TEST).is_warning
        return
    with pytest.raises(CheckFailed, match="the budget is"):
        judge_funds(balance(held, reserved), Decimal(budget), TEST)


def test_words_and_facts() -> None:
    answer = judge_funds(balance("12.5", "0.5"), Decimal(1), TEST)
    assert answer.says == ("12.5 tGLM, 0.5 of it in allocations and 0.01 tETH; the budget is 1")
    assert answer.facts == {
        "glm": "12.5",
        "reserved_glm": "0.5",
        "gas": "0.01",
        "token": "tGLM",
        "gas_token": "tETH",
    }


def test_the_fix_is_the_command_for_the_network() -> None:
    with pytest.raises(CheckFailed) as caught:
        judge_funds(balance("0"), Decimal(1), TEST)
    assert caught.value.fix == (
        "`yagna payment fund --driver erc20 --network hoodi`, or lower golem.budget_glm"
    )
    with pytest.raises(CheckFailed) as caught:
        judge_funds(balance("5", "4.5"), Decimal(1), TEST)
    assert caught.value.fix.startswith("`yagna payment release-allocations`, or `yagna payment")
    with pytest.raises(CheckFailed) as caught:
        judge_funds(balance("0"), Decimal(1), Account("erc20", "polygon", NODE))
    assert caught.value.fix.startswith(f"send tGLM and gas on polygon to {NODE}")
    with pytest.raises(CheckFailed) as caught:
        judge_funds(balance("0"), Decimal(1), Account("erc20", "hoodi", NODE, is_private=True))
    assert "requestor.funds_glm" in caught.value.fix


def test_without_gas_nothing_can_be_paid() -> None:
    with pytest.raises(CheckFailed, match="no tETH: nothing could be paid out"):
        judge_funds(balance("10", gas="0"), Decimal(1), TEST)
    assert "tETH" not in judge_funds(balance("10", gas=None), Decimal(1), TEST).says


class Bus(DaemonApi):
    """A daemon whose bus answers what it is told to."""

    def __init__(self, answer: object) -> None:
        super().__init__(DaemonAddress.from_environment({}))
        self.answer = answer
        self.asked: list[tuple[str, object]] = []

    async def _call(self, method: str, url: str, body: object = None) -> object:
        self.asked.append((url.partition("/_gsb/")[2], body))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


REAL = {
    "amount": "1000.000000000000000000",
    "reserved": "2.5",
    "outgoing": {"accepted": {"totalAmount": "0", "agreementsCount": 0}},
    "driver": "erc20",
    "network": "hoodi",
    "token": "tGLM",
    "gas": {"currency_short_name": "tETH", "currency_long_name": "Hoodi Ether", "balance": "10"},
    "block_number": 12,
}


@pytest.mark.asyncio
async def test_a_balance_is_read() -> None:
    bus = Bus({"Ok": REAL})
    found = await ask_balance(bus, NODE, "erc20", "hoodi")
    assert found == Balance(Decimal(1000), Decimal("2.5"), "tGLM", Decimal(10), "tETH")
    assert found.free_glm == Decimal("997.5")
    ((service, body),) = bus.asked
    assert service == "local/payment/GetStatus"
    assert body == {
        "address": NODE,
        "driver": "erc20",
        "network": "hoodi",
        "token": None,
        "after_timestamp": 0,
    }
    bus.answer = {"Ok": {**REAL, "gas": None}}
    assert (await ask_balance(bus, NODE, "erc20", "hoodi")).gas is None


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "answer",
    [
        {"Err": {"inner": "Server is unreachable"}},
        {"Err": "x"},
        [],
        None,
        {"Ok": []},
        {"Ok": {**REAL, "amount": "NaN"}},
        {"Ok": {**REAL, "amount": None}},
        {"Ok": {**REAL, "gas": {"balance": "many"}}},
        {"Ok": {"reserved": "1"}},
    ],
)
async def test_malformed_answers(answer: object) -> None:
    with pytest.raises(DaemonError):
        await ask_balance(Bus(answer), NODE, "erc20", "hoodi")


@pytest.mark.asyncio
async def test_networks_of_the_driver() -> None:
    known: dict[str, object] = {"Ok": {"erc20": {"networks": {"hoodi": {}, "polygon": {}}}}}
    assert await knows_network(Bus(known), "erc20", "hoodi") is True
    assert await knows_network(Bus(known), "erc20", "goerli") is False
    assert await knows_network(Bus(known), "zksync", "hoodi") is False
    assert await knows_network(Bus({"Ok": []}), "erc20", "hoodi") is False
    assert await knows_network(Bus(DaemonError("POST", 404, "")), "erc20", "hoodi") is None
    with pytest.raises(DaemonError):
        await knows_network(Bus(DaemonError("POST", 0, "gone")), "erc20", "hoodi")
