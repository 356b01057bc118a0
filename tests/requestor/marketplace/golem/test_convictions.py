"""Who was convicted of fakes: its leases end, it is banned, and paid no more; nobody else is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from requestor.marketplace.choice.history import Who
from requestor.marketplace.golem.renting.rental import GolemMarketplace, GolemPool
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.money.ledger_entries import read_entries
from requestor.marketplace.money.statement import make_statement

if TYPE_CHECKING:
    from tests.requestor.marketplace.golem.conftest import Market, OpenMarket, Work

pytestmark = pytest.mark.asyncio

PRICE = "price: {start_glm: 0.01, cpu_hour_glm: 0.1, hour_glm: 0.1}"
FLEET = f"{{name: willow, {PRICE}}}, {{name: hazel, {PRICE}}}"
REASON = "two independent executions agree on another result, from link 3 on"


@asynccontextmanager
async def session(market: Market) -> AsyncIterator[tuple[GolemMarketplace, GolemPool]]:
    ledger = Ledger(market.folder / "ledger.jsonl")
    rented = GolemMarketplace(market.address, ledger, market.history)
    terms = market.terms(providers=2, invoice_timeout_seconds=3.0)
    try:
        async with rented.rent(terms, market.notices.append) as pool:
            yield rented, pool
    finally:
        ledger.close()


def willow_of(work: Work) -> Who:
    lease = next(one for one in work.leases if one.provider_name == "willow")
    return Who(lease.provider_id, lease.provider_name)


async def test_a_convicted_provider_is_banned_and_not_paid_and_nothing_waits_for_it(
    open_market: OpenMarket,
) -> None:
    market = await open_market(FLEET)
    async with session(market) as (rented, pool):
        work = await market.work(pool, 6)
        willow = willow_of(work)
        rented.convict(willow, REASON, refuse_bills=True)
        await market.until(lambda: market.states()["willow"] == ["Terminated"])
        closing = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - closing < 2.5  # less than the wait for an invoice
    assert market.paid() == {"hazel"}
    assert market.states()["willow"] == ["Terminated"]  # and never rented again
    assert willow.node_id in market.history.avoided()
    ledger = market.ledger
    (agreement,) = [key for key, name in ledger.providers.items() if name == "willow"]
    assert ledger.refused_work == {agreement: REASON}
    assert agreement not in ledger.unsettled and agreement not in ledger.owed_glm(time.time())
    statement = make_statement(read_entries(market.folder / "ledger.jsonl"))
    assert statement.agreements[agreement].state == "refused"
    assert ledger.accepted_glm.get(agreement, Decimal(0)) == 0
    market.check_books()


async def test_another_that_is_paid_to_the_same_wallet_works_on_and_is_paid(
    open_market: OpenMarket,
) -> None:
    """An offer may name anybody's wallet: a liar names an honest provider's."""
    purse = "0x" + "7" * 40
    market = await open_market(FLEET.replace("{name", f"{{wallet: '{purse}', name"))
    async with session(market) as (rented, pool):
        work = await market.work(pool, 6)
        assert {lease.info.wallet for _, lease in pool._roster} == {purse}
        rented.convict(replace(willow_of(work), wallet=purse), REASON, refuse_bills=True)
        await market.until(lambda: market.states()["willow"] == ["Terminated"])
        assert market.states()["hazel"] == ["Approved"]
        assert market.history.records()[willow_of(work).node_id].faults.keys() == {"faked_work"}
    assert market.paid() == {"hazel"}
    assert list(market.ledger.refused_work.values()) == [REASON]
    market.check_books()


async def test_a_resumed_run_still_refuses_its_invoice(open_market: OpenMarket) -> None:
    market = await open_market(FLEET)
    async with session(market) as (rented, pool):
        willow = willow_of(await market.work(pool, 6))
        rented.convict(willow, REASON, refuse_bills=True)
    await market.sweep(1.0)
    assert market.paid() == {"hazel"}
    async with session(market) as (_, pool):
        again = await market.work(pool, 2)
    assert {lease.provider_name for lease in again.leases} == {"hazel"}
    assert market.paid() == {"hazel"}
    market.check_books()


async def test_where_bills_are_not_refused_it_is_banned_and_paid(open_market: OpenMarket) -> None:
    market = await open_market(FLEET)
    async with session(market) as (rented, pool):
        willow = willow_of(await market.work(pool, 6))
        rented.convict(willow, REASON, refuse_bills=False)
    assert market.paid() == {"willow", "hazel"}
    assert market.history.records()[willow.node_id].faults.keys() == {"faked_work"}
    market.check_books()
