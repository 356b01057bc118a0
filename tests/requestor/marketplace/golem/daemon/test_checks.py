"""Each check of a daemon: what it says when all is well, and what mends it when it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

import pytest

from requestor.marketplace.diagnosis import Finding, State, examine_all
from requestor.marketplace.golem.daemon.api import DaemonAddress, DaemonApi, DaemonError
from requestor.marketplace.golem.daemon.checks import (
    DaemonChecks,
    DaemonNeeds,
)
from requestor.networks import RETIRED_NETWORKS

pytestmark = pytest.mark.asyncio
NEEDS = DaemonNeeds("erc20", "hoodi", budget_glm=Decimal(1))


class OpenMarket(Protocol):
    """Starts a daemon with a fleet (see conftest.py)."""

    async def __call__(self, providers: str, daemon_faults: str = "") -> Any:
        """Start it."""
        ...


async def findings(
    address: DaemonAddress,
    needs: DaemonNeeds = NEEDS,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> dict[str, Finding]:
    """Make all checks; return what they found by name."""
    async with DaemonApi(address) as api:
        checks = DaemonChecks(address, api, needs, environment or {}, **options).checks()
        return {finding.name: finding for finding in await examine_all(checks)}


def failed(found: Mapping[str, Finding]) -> list[str]:
    return [name for name, finding in found.items() if finding.state is State.FAILED]


async def test_all_is_well(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    found = await findings(market.address)
    assert {finding.state for finding in found.values()} == {State.OK}
    assert list(found) == [
        "gftp",
        "network",
        "key",
        "daemon",
        "version",
        "clock",
        "identity",
        "account",
        "funds",
        "allocations",
    ]
    assert found["network"].says == "hoodi, erc20-hoodi-tglm, subnet public: test GLM"
    assert found["version"].says == "yagna 0.17.6"
    assert found["funds"].says == "1000 tGLM and 1 tETH; the budget is 1"
    assert not market.books.allocations


async def test_no_daemon(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    await market.daemon.stop()
    found = await findings(market.address)
    assert failed(found) == ["daemon"]
    assert found["daemon"].says == f"no yagna daemon answers at {market.address.url} " + (
        "(connection refused)"
    )
    assert "`yagna service run`" in str(found["daemon"].fix)
    skipped = [name for name, one in found.items() if one.state is State.SKIPPED]
    assert skipped == ["version", "clock", "identity", "account", "funds", "allocations"]


@pytest.mark.parametrize(
    ("key", "name", "says", "fix"),
    [
        ("", "key", "YAGNA_APPKEY is not set", "yagna app-key create"),
        ("wrong-key", "identity", "refuses the key in YAGNA_APPKEY", "yagna app-key list"),
    ],
)
async def test_keys(open_market: OpenMarket, key: str, name: str, says: str, fix: str) -> None:
    market = await open_market("{name: oak}")
    found = await findings(replace(market.address, app_key=key))
    assert failed(found) == [name]
    assert says in found[name].says
    assert fix in str(found[name].fix)
    assert "wrong-key" not in str(found)
    assert found["account"].state is State.SKIPPED


@pytest.mark.parametrize("network", sorted(RETIRED_NETWORKS))
async def test_retired_networks(open_market: OpenMarket, network: str) -> None:
    market = await open_market("{name: oak}")
    found = await findings(market.address, replace(NEEDS, network=network))
    assert failed(found) == ["network"]
    assert found["network"].says.startswith(f"the test network {network} is retired")
    assert "golem.payment_network=hoodi" in str(found["network"].fix)
    assert found["account"].says == "needs network"
    private = await findings(market.address, replace(NEEDS, network=network, is_private=True))
    assert "network" not in failed(private)


async def test_real_money_is_named(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    found = await findings(market.address, replace(NEEDS, network="polygon"))
    assert found["network"].says == "polygon, erc20-polygon-glm, subnet public: REAL MONEY"
    assert failed(found) == ["account", "funds"]
    assert "yagna payment init --sender --driver erc20 --network polygon" in str(
        found["account"].fix
    )


async def test_the_environment_decides_nothing(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    environment = {
        "YAGNA_PAYMENT_NETWORK": "mainnet",
        "YAGNA_PAYMENT_DRIVER": "ERC20",
        "YAGNA_SUBNET": "other",
    }
    found = await findings(market.address, environment=environment)
    network = found["network"]
    assert network.state is State.WARNING
    assert "YAGNA_PAYMENT_NETWORK and YAGNA_SUBNET in the environment: not heeded" in network.says
    assert network.facts["platform"] == "erc20-hoodi-tglm"
    assert str(network.fix).startswith("`unset YAGNA_PAYMENT_NETWORK YAGNA_SUBNET`")
    private = await findings(market.address, replace(NEEDS, is_private=True), environment)
    assert private["network"].state is State.OK


async def test_too_little_money(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    found = await findings(market.address, replace(NEEDS, budget_glm=Decimal(1001)))
    assert failed(found) == ["funds"]
    assert found["funds"].says == "the account holds 1000 tGLM; the budget is 1001"
    assert "yagna payment fund" in str(found["funds"].fix)


async def test_allocations_hold_money_back(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    async with DaemonApi(market.address) as api:
        url = f"{market.address.payment_url}/allocations"
        platform = "erc20-hoodi-tglm"
        for amount in ("999.5", "0.25"):
            body = {"totalAmount": amount, "paymentPlatform": platform, "makeDeposit": False}
            await api._call("POST", url, body)
    found = await findings(market.address)
    allocations = found["allocations"]
    assert allocations.state is State.WARNING
    assert allocations.says == "2 allocations hold 999.75 GLM back"
    assert "`derl-request sweep`" in str(allocations.fix)
    amounts = [one["remainingAmount"] for one in allocations.facts["allocations"]]
    assert amounts == ["999.5", "0.25"]
    assert failed(found) == ["funds"]
    assert found["funds"].says == (
        "the account holds 1000 tGLM, 999.75 of it in allocations; the budget is 1"
    )
    assert "yagna payment release-allocations" in str(found["funds"].fix)


class Odd(DaemonApi):
    """A daemon some of whose answers are other than usual."""

    def __init__(self, address: DaemonAddress, **odd: Any) -> None:
        super().__init__(address)
        self._odd = odd

    async def _call(self, method: str, url: str, body: Any = None) -> Any:
        for part, answer in self._odd.items():
            if url.endswith(part):
                if isinstance(answer, Exception):
                    raise answer
                return answer
        return await super()._call(method, url, body)


async def odd_findings(address: DaemonAddress, **odd: Any) -> dict[str, Finding]:
    async with Odd(address, **odd) as api:
        checks = DaemonChecks(address, api, NEEDS, {}).checks()
        return {finding.name: finding for finding in await examine_all(checks)}


async def test_a_fresh_daemon_lists_no_account_yet(open_market: OpenMarket) -> None:
    """yagna opens the account with the first allocation, if its driver knows the network."""
    market = await open_market("{name: oak}")
    drivers: dict[str, Any] = {"Ok": {"erc20": {"networks": {"hoodi": {}}}}}
    found = await odd_findings(market.address, requestorAccounts=[], GetDrivers=drivers)
    assert found["account"].state is State.OK
    assert found["account"].says.endswith("opened when first used")
    found = await odd_findings(market.address, requestorAccounts=[])
    assert "it has: none" in found["account"].says


async def test_versions_that_were_never_tried(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    answer = {"current": {"version": "0.18.0"}}
    found = await odd_findings(market.address, **{"version/get": answer})
    assert found["version"].state is State.WARNING
    assert found["version"].says == "yagna 0.18.0; DeRL was tried with 0.17.6"


async def test_balances_that_are_not_told(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    found = await odd_findings(market.address, GetStatus=DaemonError("POST", 404, ""))
    assert found["funds"].state is State.SKIPPED
    assert "`yagna payment status --network hoodi`" in found["funds"].says
    text = "Server is unreachable, /builds/lib-fc/src/eth.rs:547:21"
    found = await odd_findings(market.address, GetStatus={"Err": {"inner": text}})
    assert failed(found) == ["funds"]
    assert found["funds"].says.endswith("from the chain: Server is unreachable")


@pytest.mark.parametrize(
    ("url", "is_clear"),
    [
        ("http://127.0.0.1:7465", False),
        ("http://localhost:7465", False),
        ("http://[::1]:7465", False),
        ("https://far.example", False),
        ("http://far.example:7465", True),
        ("http://192.168.0.7:7465", True),
    ],
)
async def test_a_key_that_travels_unencrypted(url: str, is_clear: bool) -> None:
    address = DaemonAddress.from_environment({"YAGNA_API_URL": url, "YAGNA_APPKEY": "k" * 32})
    async with Odd(address, **{"version/get": {"current": {"version": "0.17.6"}}}) as api:
        checks = DaemonChecks(address, api, NEEDS, {}).checks()
        (daemon,) = await examine_all([one for one in checks if one.name == "daemon"])
    assert (daemon.state is State.WARNING) == is_clear
    assert ("unencrypted" in daemon.says) == is_clear


@pytest.mark.parametrize(
    ("off_seconds", "state"),
    [(0, State.OK), (30, State.WARNING), (-30, State.WARNING), (600, State.FAILED)],
)
async def test_clocks(open_market: OpenMarket, off_seconds: float, state: State) -> None:
    market = await open_market("{name: oak}")

    def clock() -> float:
        return (datetime.now(UTC) + timedelta(seconds=off_seconds)).timestamp()

    found = await findings(market.address, clock=clock)
    assert found["clock"].state is state
    if state is State.FAILED:
        assert "timedatectl" in str(found["clock"].fix)
