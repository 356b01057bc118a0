"""A scan sees what is offered, ends when nothing more comes, and never leaves its demand behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping
from typing import Any, Protocol, TypeVar

import pytest

from requestor.marketplace.golem.daemon.api import DaemonAddress, DaemonApi, DaemonError
from requestor.marketplace.golem.daemon.market_scan import ScanTerms, scan_market
from requestor.marketplace.offers.offer_book import MarketScan

T = TypeVar("T")
TERMS = ScanTerms("public")


class OpenMarket(Protocol):
    """Starts a daemon with a fleet (see conftest.py)."""

    async def __call__(self, providers: str, daemon_faults: str = "") -> Any:
        """Start it."""
        ...


class RunInVirtualTime(Protocol):
    """Runs a coroutine in a loop whose clock jumps."""

    def __call__(self, main: Coroutine[Any, Any, T]) -> T:
        """Run it."""
        ...


async def demands(address: DaemonAddress) -> list[Any]:
    """The demands that the daemon still has."""
    async with DaemonApi(address) as api:
        return await api._list(f"{address.market_url}/demands")


async def nothing_is_left(market: Any) -> None:
    assert await demands(market.address) == []
    assert not market.books.allocations
    assert not market.books.agreements


@pytest.mark.asyncio
async def test_what_is_offered_is_seen(open_market: OpenMarket) -> None:
    market = await open_market(
        "{name: oak, count: 30, threads: 2},"
        "{name: gpu, runtime: vm-nvidia, gpu: {model: NVIDIA A30, memory_gib: 24, quantity: 2},"
        ' wallet: "0x1111111111111111111111111111111111111111"},'
        "{name: old, gpu: {model: RTX 3060, names: gap-35}, price: {start_glm: 0.5}},"
        "{name: odd, properties: {golem.com.scheme: subscription}}"
    )
    async with DaemonApi(market.address) as api:
        scan = await scan_market(api, TERMS, 10.0, quiet_seconds=0.5)
    by_name = {offer.name: offer for offer in scan.offers}
    assert len(by_name) == 32
    assert by_name["oak-17"].threads == 2
    assert [str(gpu) for gpu in by_name["gpu"].gpus] == ["2x NVIDIA A30 (24 GiB)"]
    assert by_name["gpu"].wallet == "0x" + "1" * 40
    assert [gpu.model for gpu in by_name["old"].gpus] == ["RTX 3060"]
    (odd,) = scan.unusable
    assert (odd.name, odd.reason) == ("odd", "the billing scheme is not pay-as-you-use")
    assert scan.subnet == "public"
    assert 0.5 <= scan.seconds < 10.0
    await nothing_is_left(market)


@pytest.mark.asyncio
async def test_other_subnets_are_not_seen(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    async with DaemonApi(market.address) as api:
        scan = await scan_market(api, ScanTerms("elsewhere"), 0.5)
    assert scan.seen == 0
    await nothing_is_left(market)


@pytest.mark.asyncio
async def test_a_lost_subscription_is_made_again(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}", "{kind: subscription_lost, times: 2}")
    async with DaemonApi(market.address) as api:
        scan = await scan_market(api, TERMS, 5.0, quiet_seconds=0.2)
    assert [offer.name for offer in scan.offers] == ["oak"]
    await nothing_is_left(market)


@pytest.mark.asyncio
async def test_a_daemon_that_forgets_every_demand(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}", "{kind: subscription_lost}")
    async with DaemonApi(market.address) as api:
        with pytest.raises(DaemonError, match="404"):
            await scan_market(api, TERMS, 5.0)
    await nothing_is_left(market)


@pytest.mark.asyncio
async def test_who_cancels_a_scan_leaves_no_demand(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    async with DaemonApi(market.address) as api:
        scanning = asyncio.ensure_future(scan_market(api, ScanTerms("elsewhere"), 60.0))
        await wait_until_subscribed(market.address)
        scanning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await scanning
        await nothing_is_left(market)


async def wait_until_subscribed(address: DaemonAddress) -> None:
    async with asyncio.timeout(10.0):
        while not await demands(address):
            await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_a_daemon_that_is_away(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    await market.daemon.stop()
    async with DaemonApi(market.address) as api:
        with pytest.raises(DaemonError, match="connection refused"):
            await scan_market(api, TERMS, 5.0)


# --- in virtual time ----------------------------------------------------------------------------


class ScriptedMarket(DaemonApi):
    """A daemon whose events come at given seconds; it notes what it is asked."""

    def __init__(self, events: Mapping[float, list[Any]], *, answers_early: bool = False) -> None:
        super().__init__(DaemonAddress.from_environment({}))
        self._events = dict(events)
        self._answers_early = answers_early
        self.subscribe_seconds = 0.0
        self.open = 0
        self.polls = 0

    async def subscribe_demand(self, properties: Mapping[str, Any], constraints: str) -> str:
        await asyncio.sleep(self.subscribe_seconds)
        self.open += 1
        return "demand"

    async def demand_events(
        self, demand_id: str, wait_seconds: float, max_events: int
    ) -> list[dict[str, Any]]:
        self.polls += 1
        now = asyncio.get_running_loop().time()
        coming = [at for at in self._events if at <= now + wait_seconds]
        if not coming:
            await asyncio.sleep(0.0 if self._answers_early else wait_seconds)
            return []
        at = min(coming)
        await asyncio.sleep(max(0.0, at - now))
        return self._events.pop(at)

    async def unsubscribe_demand(self, demand_id: str) -> None:
        self.open -= 1


def proposal(number: int, **changes: Any) -> dict[str, Any]:
    properties = {
        "golem.com.scheme": "payu",
        "golem.com.pricing.model": "linear",
        "golem.com.usage.vector": ["golem.usage.cpu_sec"],
        "golem.com.pricing.model.linear.coeffs": [0.0001, 0.0],
    }
    issuer = f"0x{number:040x}"
    shown = {"issuerId": issuer, "proposalId": f"R-{number}", "properties": properties}
    return {"eventType": "ProposalEvent", "proposal": {**shown, **changes}}


async def scan(market: ScriptedMarket, seconds: float) -> MarketScan:
    loop = asyncio.get_running_loop()
    return await scan_market(market, TERMS, seconds, quiet_seconds=2.0, clock=loop.time)


def test_it_ends_when_no_more_come(run_in_virtual_time: RunInVirtualTime) -> None:
    """Offers at 0.5 s and 1.5 s; 2 s later it is quiet enough."""
    market = ScriptedMarket({0.5: [proposal(1)], 1.5: [proposal(2), proposal(3)]})
    found = run_in_virtual_time(scan(market, 60.0))
    assert len(found.offers) == 3
    assert found.seconds == pytest.approx(3.5)
    assert market.open == 0


def test_it_waits_its_whole_time_for_the_first(run_in_virtual_time: RunInVirtualTime) -> None:
    found = run_in_virtual_time(scan(ScriptedMarket({}), 30.0))
    assert found.seen == 0
    assert found.seconds == pytest.approx(30.0)


def test_it_ends_in_time_though_offers_still_come(run_in_virtual_time: RunInVirtualTime) -> None:
    market = ScriptedMarket({float(second): [proposal(second)] for second in range(100)})
    found = run_in_virtual_time(scan(market, 10.5))
    assert len(found.offers) == 11
    assert found.seconds == pytest.approx(10.5)


def test_a_daemon_that_answers_at_once_is_not_asked_in_a_loop(
    run_in_virtual_time: RunInVirtualTime,
) -> None:
    market = ScriptedMarket({}, answers_early=True)
    found = run_in_virtual_time(scan(market, 10.0))
    assert found.seconds == pytest.approx(10.0, abs=0.5)
    assert market.polls <= 51


def test_events_of_other_kinds_are_passed_over(run_in_virtual_time: RunInVirtualTime) -> None:
    strange: list[Any] = [
        {},
        {"eventType": "ProposalRejectedEvent", "proposalId": "R-1"},
        {"eventType": "ProposalEvent"},
        {"eventType": "ProposalEvent", "proposal": []},
        proposal(1, properties=None),
        proposal(2, issuerId=None),
        proposal(3),
    ]
    found = run_in_virtual_time(scan(ScriptedMarket({0.0: strange}), 10.0))
    assert [offer.node_id[-1] for offer in found.offers] == ["3"]
    assert [one.reason for one in found.unusable] == [
        "the price model is not linear",
        "the node id is malformed",
    ]


def test_cancelled_while_it_subscribes(run_in_virtual_time: RunInVirtualTime) -> None:
    market = ScriptedMarket({})
    market.subscribe_seconds = 1.0

    async def cancelled() -> None:
        task = asyncio.ensure_future(scan(market, 10.0))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_in_virtual_time(cancelled())
    assert (market.open, market.polls) == (0, 0)


def test_the_demand_tells_nothing_about_us(run_in_virtual_time: RunInVirtualTime) -> None:
    told: list[Mapping[str, Any]] = []

    class Noting(ScriptedMarket):
        async def subscribe_demand(self, properties: Mapping[str, Any], constraints: str) -> str:
            told.append(properties)
            return await super().subscribe_demand(properties, constraints)

    run_in_virtual_time(scan(Noting({}), 1.0))
    assert set(told[0]) == {
        "golem.srv.comp.expiration",
        "golem.node.debug.subnet",
        "golem.srv.caps.multi-activity",
    }
    assert json.dumps(told[0])
