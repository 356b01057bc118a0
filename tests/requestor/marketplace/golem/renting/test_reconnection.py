"""The daemon goes away at any instant of a session and comes back: the session goes on."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING

import pytest

from requestor.marketplace.golem.renting.reconnection import call_roll
from requestor.marketplace.ports import MarketplaceLost

if TYPE_CHECKING:
    from tests.requestor.marketplace.golem.conftest import Market, OpenMarket, Work

pytestmark = pytest.mark.asyncio

TWO = "{name: oak}, {name: elm}"
BACK = re.compile(r"the daemon is back after \d+\.\d s: (\d) of (\d) providers taken over")


def restart(after_requests: int, down_seconds: float = 0.5) -> str:
    """A restart that cuts off the answer to one request."""
    after = f"after_requests: {after_requests}, down_seconds: {down_seconds}"
    return f"{{kind: daemon_restart, times: 1, {after}}}"


def taken_over(market: Market) -> list[tuple[int, int]]:
    """How many of how many providers were taken over at each return."""
    found = [BACK.match(notice) for notice in market.notices]
    return [(int(one.group(1)), int(one.group(2))) for one in found if one]


async def test_leases_and_orders_outlive_the_daemon(open_market: OpenMarket) -> None:
    market = await open_market(
        TWO, "{kind: daemon_restart, after_seconds: 3.5, times: 2, down_seconds: 0.8}"
    )
    async with market.rent(providers=2) as pool:
        leases = [await pool.next_lease() for _ in range(2)]
        orders = 0
        async with asyncio.timeout(25.0):
            while len(taken_over(market)) < 2:
                for lease in leases:
                    await lease.execute(market.job())
                    orders += 1
    assert taken_over(market) == [(2, 2), (2, 2)]
    assert market.states() == {"oak": ["Terminated"], "elm": ["Terminated"]}
    assert len(market.books.activities) == 2
    assert len(market.books.allocations) == 1
    assert {record.failures for record in market.history.records().values()} == {0.0}
    assert sum(record.successes for record in market.history.records().values()) == orders
    assert market.paid() == {"oak", "elm"}
    market.check_books()


async def test_a_provider_that_does_not_outlive_the_absence_is_replaced(
    open_market: OpenMarket,
) -> None:
    ends = "{kind: terminates_agreement, after_seconds: 4, times: 1}"
    market = await open_market(
        f"{{name: oak, faults: [{ends}]}}",
        "{kind: daemon_restart, after_seconds: 3.5, down_seconds: 3}",
    )
    async with market.rent(daemon_patience_seconds=20) as pool:
        first = await pool.next_lease()
        second = await pool.next_lease()
        assert await second.execute(market.job())
    assert first.info.agreement_id != second.info.agreement_id
    assert taken_over(market) == [(0, 1)]
    assert any("lost: oak (terminated)" in notice for notice in market.notices)
    assert [record.failures for record in market.history.records().values()] == [0.0]
    market.check_books()


async def test_the_daemon_is_away_when_the_session_ends(open_market: OpenMarket) -> None:
    market = await open_market(
        "{name: oak}", "{kind: daemon_restart, after_seconds: 4, down_seconds: 2}"
    )
    async with market.rent(daemon_patience_seconds=20) as pool:
        await pool.next_lease()
        await market.until(lambda: any("is gone" in notice for notice in market.notices))
    assert market.paid() == {"oak"}
    market.check_books()


@pytest.mark.parametrize(
    "requests",
    [4, 12, 30, *(pytest.param(n, marks=pytest.mark.slow) for n in [*range(1, 61, 2)])],
)
async def test_a_restart_in_any_call(open_market: OpenMarket, requests: int) -> None:
    """Whichever call's answer is lost: the round is done, nothing is left, all is paid once."""
    market = await open_market(TWO, restart(requests))
    try:
        work = await do_a_round(market)
    except MarketplaceLost:  # in the middle of opening: nobody knows whether there is an allocation
        assert not market.books.agreements
        await market.sweep()
        work = await do_a_round(market)
    assert len(work.deliveries) == 4
    assert len(market.books.allocations) <= 2
    market.check_books()


async def do_a_round(market: Market) -> Work:
    """Rent two providers and have four orders done."""
    async with market.rent(providers=2, daemon_patience_seconds=20) as pool:
        return await market.work(pool, items=4)


async def test_an_order_waits_for_a_script_of_which_we_know_nothing(
    open_market: OpenMarket,
) -> None:
    """The daemon took an order and died before it said so: the exe-unit is at it already."""
    market = await open_market("{name: oak}")
    async with market.rent() as pool:
        lease = await pool.next_lease()
        (activity,) = market.books.activities.values()
        script = [{"run": {"entry_point": "/bin/sleep", "args": ["1.5"]}}]
        url = f"{market.address.activity_url}/activity/{activity.activity_id}/exec"
        await pool.api._call("POST", url, {"text": json.dumps(script)})
        started = asyncio.get_running_loop().time()
        assert await lease.execute(market.job())
        assert asyncio.get_running_loop().time() - started >= 1.5
    assert market.states() == {"oak": ["Terminated"]}
    market.check_books()


async def test_the_roll_is_called_until_providers_are_in_reach(open_market: OpenMarket) -> None:
    stall = "{kind: network_stall, after: 1, seconds: 1.5}"
    market = await open_market(f"{{name: oak, faults: [{stall}]}}")
    async with market.rent() as pool:
        lease = await pool.next_lease()
        order = asyncio.create_task(lease.execute(market.job()))
        (activity,) = market.books.activities.values()
        activities = {lease.info.agreement_id: activity.activity_id, "none": "f" * 32}
        lost = await call_roll(pool.api, activities, 2.0)
        assert set(lost) == {"none"}
        await order
