"""A quote against the bill: real yapapi, the mock daemon, eight providers.

An order takes its provider half a second by the clock, whatever else this machine does.
"""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from requestor.federation.rounds import RoundPlan, WorkItem
from requestor.marketplace.choice.choosing import Work
from requestor.marketplace.choice.selection import Preferences
from requestor.marketplace.money.spending import Prices
from requestor.quoting.knowledge import Knowledge, rank
from requestor.quoting.quote import Setting, make_quote
from requestor.quoting.simulation import Overheads, Plan
from requestor.training_run.dispatching.dispatcher import Dispatcher, DispatchOptions

if TYPE_CHECKING:
    from requestor.marketplace.golem.renting.rental import GolemPool
    from tests.requestor.marketplace.golem.conftest import CopyDesk, Market, OpenMarket

pytestmark = pytest.mark.asyncio
ROUNDS, CLIENTS, PROVIDERS, STEPS = 5, 8, 4, 1000
KIND = "sleep"
PREFERENCES = Preferences(work=Work(KIND, ROUNDS * CLIENTS * STEPS, PROVIDERS))
PATIENCE_SECONDS = 60.0

# by the hour, in GLM: so dear that a second counts
FLEET = """
{name: ash, price: {start_glm: 0, cpu_hour_glm: 0, hour_glm: 3}},
{name: beech, price: {start_glm: 0, cpu_hour_glm: 0, hour_glm: 4}},
{name: cedar, price: {start_glm: 0.001, cpu_hour_glm: 0, hour_glm: 2}},
{name: elm, price: {start_glm: 0, cpu_hour_glm: 0, hour_glm: 5}},
{name: fir, price: {start_glm: 0, cpu_hour_glm: 0, hour_glm: 50}},
{name: gum, price: {start_glm: 0.5, cpu_hour_glm: 0, hour_glm: 1}},
{name: hazel, price: {cpu_hour_glm: 0, hour_glm: 6}, faults: [{kind: invoice_too_high}]},
{name: larch, price: {cpu_hour_glm: 0, hour_glm: 7}, faults: [{kind: command_hangs}]}
"""


async def rounds(market: Market, pool: GolemPool, desk: CopyDesk, count: int) -> None:
    """Have whole rounds done by one dispatcher, as a run does."""
    dispatcher = Dispatcher(
        pool,
        DispatchOptions(3, False, PATIENCE_SECONDS, PATIENCE_SECONDS),
        emit=lambda _: None,
        clock=time.monotonic,
        stop_requested=asyncio.Event(),
    )
    async with dispatcher, asyncio.timeout(PATIENCE_SECONDS):
        while len(market.ledger.approvals) < PROVIDERS:
            await asyncio.sleep(0.02)
        for number in range(count):
            items = [WorkItem(number, n, 1, STEPS, 0, STEPS) for n in range(CLIENTS)]
            await dispatcher.run_round(RoundPlan(number, tuple(items), CLIENTS), desk)


async def test_a_quote_is_within_a_quarter_of_the_bill(open_market: OpenMarket) -> None:
    market = await open_market(FLEET)
    terms: dict[str, Any] = {
        "providers": PROVIDERS,
        "ceilings": Prices(Decimal(1), Decimal(1), Decimal(10)),
        "preferences": PREFERENCES,
        "budget_glm": Decimal(5),
    }
    desk = market.desk("half a second", deadline_seconds=20.0)
    async with market.rent(**terms) as pool:
        await rounds(market, pool, desk, 1)
        offers = pool.offers
    before_glm = market.ledger.total_glm

    knowledge = Knowledge(KIND, STEPS, market.history.records(), time.time(), is_near=True)
    ranked = rank(offers, knowledge, "steps_per_glm", PREFERENCES.work)
    providers = [assumed for one in ranked if (assumed := knowledge.assume(one)) is not None]
    assert [one.worker.name for one in providers][:PROVIDERS] == ["cedar", "ash", "beech", "elm"]
    assert {one.source for one in providers[:PROVIDERS]} == {"recorded"}
    overheads = Overheads(0.0, 0.05, 0.0, 0.3, 0.0)
    plan = Plan(ROUNDS, CLIENTS, PROVIDERS, speculate=False)
    quote = make_quote(Setting(plan, overheads), providers).glm()

    async with market.rent(**terms) as pool:
        await rounds(market, pool, desk, ROUNDS)
    bill_glm = float(market.ledger.total_glm - before_glm)
    assert quote.expected == pytest.approx(bill_glm, rel=0.25)
    assert quote.low <= bill_glm <= quote.high
    # rows of providers that were paid: nobody above the ceilings, nobody of the others
    assert market.paid() == {"ash", "beech", "cedar", "elm"}
    market.check_books()
