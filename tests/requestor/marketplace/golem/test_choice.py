"""Who is rented on the mock daemon by real yapapi: the best for the money, not the first."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from requestor.errors import BudgetReached, RunFailed
from requestor.marketplace.choice.choosing import Work
from requestor.marketplace.choice.history import Evidence, Who
from requestor.marketplace.choice.selection import Preferences, lower
from requestor.marketplace.money.spending import Prices
from requestor.mock_golem.identifiers import node_id

if TYPE_CHECKING:
    from requestor.marketplace.golem.renting.rental import GolemPool
    from tests.requestor.marketplace.golem.conftest import Market, OpenMarket

pytestmark = pytest.mark.asyncio
KIND = "ppo CartPole-v1 0a1b2c3d"
WORK = Work(KIND, 40_000_000, 4)
WALLETS = ["0x" + digit * 40 for digit in "12"]


def provider(name: str, hour: str, start: str = "0", **more: object) -> str:
    """A provider of a fleet that charges by the hour alone."""
    extra = "".join(f", {key}: {value}" for key, value in more.items())
    price = f"{{start_glm: {start}, cpu_hour_glm: 0, hour_glm: {hour}}}"
    return f"{{name: {name}, price: {price}{extra}}}"


def remember(market: Market, name: str, steps_per_second: float) -> None:
    """Put 1000 s of work at that pace into the history."""
    evidence = Evidence(1000 * steps_per_second, 1000, at_seconds=time.time())
    market.history.worked(Who(node_id(0, name), name), speeds={KIND: evidence})


async def names_of(pool: GolemPool, count: int) -> set[str]:
    """Who the next leases are with."""
    async with asyncio.timeout(20):
        return {(await pool.next_lease()).info.provider_name for _ in range(count)}


EIGHT = ", ".join(
    [
        provider("ash", "0.20"),
        provider("beech", "0.10"),
        provider("cedar", "0.05"),
        provider("dogwood", "0.40"),
        provider("elm", "0.10", start="0.5"),
        provider("fir", "0.90"),
        provider("gum", "0.02"),
        provider("hazel", "0.30"),
    ]
)
SPEEDS = {
    "ash": 1000,
    "beech": 800,
    "cedar": 100,
    "dogwood": 4000,
    "elm": 4000,
    "fir": 9000,
    "gum": 10,
    "hazel": 900,
}


@pytest.mark.parametrize(
    ("rule", "chosen"),
    [
        # The median pace is 950, so that 40 M steps on 4 providers are taken to last
        # 40e6 / (4 * 950) / 0.8 = 13,158 s = 3.65 h. Steps per second and GLM an hour, the start
        # spread over that time, fir above the ceiling of 0.5 (20 s of prior change little):
        #   dogwood 4000 / 0.40 = 10,000     elm    4000 / (0.10 + 0.5 / 3.65) = 16,870
        #   beech    800 / 0.10 =  8,000     ash    1000 / 0.20 = 5,000
        #   hazel    900 / 0.30 =  3,000     cedar   100 / 0.05 = 2,000 (116 with the prior: 2330)
        #   gum       10 / 0.02 =    500 (28 with the prior: 1420)
        ("steps_per_glm", {"elm", "dogwood", "beech", "ash"}),
        # GLM an hour: gum 0.02, cedar 0.05, beech 0.10, ash 0.20, elm 0.10 + 0.5 / 3.65 = 0.24
        ("cheapest", {"gum", "cedar", "beech", "ash"}),
    ],
)
async def test_of_eight_offers_the_best_within_the_ceilings_are_rented(
    open_market: OpenMarket, rule: Any, chosen: set[str]
) -> None:
    market = await open_market(EIGHT)
    for name, speed in SPEEDS.items():
        remember(market, name, speed)
    ceilings = market.terms().ceilings
    terms = {
        "providers": 4,
        "budget_glm": Decimal(10),
        "ceilings": type(ceilings)(Decimal(1), Decimal(1), Decimal("0.5")),
        "preferences": Preferences(rule=rule, work=WORK),
    }
    async with market.rent(**terms) as pool:
        assert await names_of(pool, 4) == chosen
        assert pool.market_view == "8 offers seen; refused: above the price ceilings (1)"
        assert {one.who.name for one in pool.offers} == set(SPEEDS) - {"fir"}
    market.check_books()


async def test_choosing_makes_nobody_wait(open_market: OpenMarket) -> None:
    market = await open_market(EIGHT)
    began = time.monotonic()
    async with market.rent(preferences=Preferences(gather_seconds=5.0)) as pool:
        await market.until(lambda: bool(market.ledger.approvals))
        # yapapi itself asks for its first agreement a second after the demand
        assert time.monotonic() - began < 3.0
        await names_of(pool, 1)
    market.check_books()


async def test_a_market_with_fewer_providers_than_wanted_is_told_of_once(
    open_market: OpenMarket,
) -> None:
    market = await open_market(", ".join([provider("ash", "0.20"), provider("beech", "0.10")]))
    async with market.rent(providers=3) as pool:
        assert pool.awaits_more  # nothing is known yet
        await names_of(pool, 1)
        assert pool.awaits_more  # one was chosen, the other is still to come
        await names_of(pool, 1)
        await market.until(lambda: not pool.awaits_more)
        await market.until(lambda: any("2 of the 3 providers" in text for text in market.notices))
    assert sum("golem.providers" in text for text in market.notices) == 1
    market.check_books()


async def test_nobody_is_awaited_once_as_many_as_wanted_are_at_work(
    open_market: OpenMarket,
) -> None:
    market = await open_market(EIGHT)
    async with market.rent(providers=2) as pool:
        leases = [await pool.next_lease() for _ in range(2)]
        assert len(pool.offers) > 2  # others could be rented
        assert not pool.awaits_more
        # whatever watches how many come has nothing left to watch; the other watches go on
        await market.until(lambda: any(one.done() for one in pool._monitors))
        leases[0].release("it is enough", avoid=True)
        await market.until(lambda: pool.awaits_more)
        async with asyncio.timeout(20):
            another = await pool.next_lease()
        assert another.info.provider_name not in {one.info.provider_name for one in leases}
        await market.until(lambda: not pool.awaits_more)
    assert not any("golem.providers" in text for text in market.notices)
    market.check_books()


async def test_whoever_is_still_being_made_ready_is_awaited(open_market: OpenMarket) -> None:
    market = await open_market("{name: ash, faults: [{kind: deploy_hangs}]}")
    async with market.rent(providers=1) as pool:
        await market.until(lambda: bool(market.ledger.approvals))
        assert pool.awaits_more
    market.check_books()


async def test_lists_and_wallets(open_market: OpenMarket) -> None:
    fleet = [provider(f"one-{n}", f"0.0{n}", wallet=f"'{WALLETS[0]}'") for n in range(1, 4)]
    fleet += [provider(f"two-{n}", f"0.1{n}", wallet=f"'{WALLETS[1]}'") for n in range(1, 4)]
    market = await open_market(", ".join(fleet))
    block = Preferences(block=lower(["one-1", WALLETS[1]]))
    async with market.rent(providers=2, preferences=block) as pool:
        assert await names_of(pool, 2) == {"one-2", "one-3"}
        assert "on the list golem.block (4)" in pool.market_view
    each = Preferences(max_per_wallet=1)
    async with market.rent(providers=3, preferences=each) as pool:
        assert await names_of(pool, 2) == {"one-1", "two-1"}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await pool.next_lease()
    allow = Preferences(allow=lower([node_id(0, "two-3")]))
    async with market.rent(preferences=allow) as pool:
        lease = await pool.next_lease()
        assert (lease.info.provider_name, lease.info.wallet) == ("two-3", WALLETS[1])
    market.check_books()


async def test_a_budget_below_every_start_price_rents_nobody(open_market: OpenMarket) -> None:
    fleet = [provider("oak", "0.36", start="0.10"), provider("elm", "0.72", start="0.09")]
    market = await open_market(", ".join(fleet))
    # the start and 3 s: oak 0.1003, elm 0.0906
    async with market.rent(budget_glm=Decimal("0.0905")) as pool:
        with pytest.raises(BudgetReached, match=r"\(0\.0906 GLM\); nothing was rented"):
            async with asyncio.timeout(20):
                await pool.next_lease()
    assert market.states() == {}
    assert market.ledger.total_glm == 0
    market.check_books()


async def test_no_more_starts_are_bought_than_the_budget_pays_for(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak, count: 4, price: {start_glm: 0.4, hour_glm: 0}}")
    async with market.rent(providers=4, budget_glm=Decimal(1)) as pool:
        assert len(await names_of(pool, 2)) == 2
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await pool.next_lease()
    assert sum(map(len, market.states().values())) == 2
    assert len(market.paid()) == 2
    market.check_books()


async def test_an_agreement_ends_before_its_ceiling_and_another_follows(
    open_market: OpenMarket,
) -> None:
    # 3.6 GLM an hour are 0.001 a second; a ceiling must last a minute
    market = await open_market(provider("oak", "3.6", start="0.1"))
    preferences = Preferences(agreement_ceiling_glm=Decimal("0.163"))
    prices = type(market.terms().ceilings)
    terms = {"ceilings": prices(Decimal(1), Decimal(9), Decimal(9)), "preferences": preferences}
    async with market.rent(**terms) as pool:
        first = await pool.next_lease()
        agreement_id = first.info.agreement_id
        account = pool.spending.accounts[agreement_id]
        # as if it had been at work for a minute
        pool.spending.accounts[agreement_id] = replace(
            account, approved_seconds=account.approved_seconds - 60
        )
        pool.spending.report_usage(agreement_id, Decimal("0.161"), time.monotonic())
        async with asyncio.timeout(20):
            second = await pool.next_lease()
        assert second.info.agreement_id != first.info.agreement_id
        assert second.info.provider_name == "oak"
    assert market.history.avoided() == frozenset()
    market.check_books()


async def test_who_has_more_threads_than_the_ceiling_pays_for_is_not_rented(
    open_market: OpenMarket,
) -> None:
    # a minute of one thread costs 0.01 + 0.1 / 60 = 0.0117, of 64 threads 0.1167
    price = "{start_glm: 0.01, cpu_hour_glm: 0.1, hour_glm: 0}"
    market = await open_market(f"{{name: oak, threads: 64, price: {price}}}")
    preferences = Preferences(agreement_ceiling_glm=Decimal("0.017"))
    async with market.rent(preferences=preferences) as pool:
        why = r"golem\.max_price\.agreement_glm does not pay for a minute \(1\)"
        with pytest.raises(RunFailed, match=why):
            await market.work(pool, startup_timeout_seconds=3.0)
    assert market.states() == {}
    market.check_books()


async def test_who_comes_to_the_ceiling_at_once_is_rented_once(open_market: OpenMarket) -> None:
    fleet = [provider("oak", "0.1", start="0.1"), provider("elm", "0.9", start="0.1")]
    market = await open_market(", ".join(fleet))
    preferences = Preferences(agreement_ceiling_glm=Decimal("0.25"))
    async with market.rent(preferences=preferences) as pool:
        first = await pool.next_lease()
        assert first.info.provider_name == "oak"
        # as if its activity had been begun anew, and again: each costs the start
        pool.spending.begin_activity(first.info.agreement_id, 3)
        async with asyncio.timeout(20):
            second = await pool.next_lease()
        assert second.info.provider_name == "elm"
        assert "came to golem.max_price.agreement_glm at once (1)" in pool.market_view
    (told,) = [one for one in market.notices if "agreement_glm" in one]
    assert told.startswith("oak: its agreement came to golem.max_price.agreement_glm after ")
    assert told.endswith(" s; it is not rented again in this session")
    assert market.history.avoided() == frozenset()
    assert market.states() == {"oak": ["Terminated"], "elm": ["Terminated"]}
    market.check_books()


CAPPED: dict[str, Any] = {
    "ceilings": Prices(Decimal(1), Decimal(9), Decimal(9)),
    "preferences": Preferences(agreement_ceiling_glm=Decimal("0.163")),
}


def bring_to_ceiling(pool: GolemPool, agreement_id: str) -> None:
    """Let it be as if a provider at 0.1 GLM and 3.6 an hour had gone on for 70 s."""
    account = pool.spending.accounts[agreement_id]
    pool.spending.accounts[agreement_id] = replace(
        account, approved_seconds=account.approved_seconds - 70
    )
    pool.spending.report_usage(agreement_id, Decimal("0.163"), time.monotonic())


async def test_the_ceiling_holds_for_whoever_is_not_ready_yet(open_market: OpenMarket) -> None:
    hanging = provider("oak", "3.6", start="0.1", faults="[{kind: deploy_hangs}]")
    market = await open_market(f"{hanging}, {provider('elm', '4.5')}")
    async with market.rent(deploy_timeout_seconds=600.0, **CAPPED) as pool:
        await market.until(lambda: bool(market.books.activities))
        (account,) = pool.spending.accounts.values()
        bring_to_ceiling(pool, account.agreement_id)
        async with asyncio.timeout(20):
            lease = await pool.next_lease()
        assert lease.info.provider_name == "elm"
        assert market.states()["oak"] == ["Terminated"]
    (told,) = [one for one in market.notices if one.startswith("oak: ")]
    assert "agreement_glm after 7" in told
    assert "and was not ready for work; it is not rented again" in told
    assert market.history.avoided() == frozenset()
    market.check_books()


async def test_the_ceiling_holds_while_an_activity_is_being_created(
    open_market: OpenMarket,
) -> None:
    fault = "[{kind: activity_create_fails, status: 408}]"
    market = await open_market(provider("oak", "3.6", start="0.1", faults=fault))
    async with market.rent(**CAPPED) as pool:
        await market.until(lambda: bool(pool.spending.accounts))
        bring_to_ceiling(pool, next(iter(pool.spending.accounts)))
        await market.until(lambda: market.states() == {"oak": ["Terminated"]})
        # it is ended before the attempt is over, which lasts 5 s
        assert "oak: the activity could not be created" not in market.notices
    assert market.history.avoided() == frozenset()
    market.check_books()


async def test_a_dear_provider_gives_way_between_rounds(open_market: OpenMarket) -> None:
    market = await open_market(f"{provider('oak', '0.2')}, {provider('elm', '0.1')}")
    # elm was slow: 0.1 GLM for 100 steps a second against 0.2 GLM for the unknown oak's 1000
    remember(market, "elm", 100)
    remember(market, "other", 10_000)
    preferences = Preferences(work=WORK)
    async with market.rent(preferences=preferences) as pool:
        lease = await pool.next_lease()
        assert lease.info.provider_name == "oak"
        pool.review()
        lease.assess(1000, 500.0)  # 2 steps a second: elm is better after all
        pool.review()
        assert "oak makes way for elm: more steps for a GLM" in market.notices
        async with asyncio.timeout(20):
            assert (await pool.next_lease()).info.provider_name == "elm"
        pool.review()
    assert market.history.avoided() == frozenset()
    assert {name: len(states) for name, states in market.states().items()} == {"oak": 1, "elm": 1}
    market.check_books()


async def test_who_asks_for_too_much_is_remembered_by_its_wallet(open_market: OpenMarket) -> None:
    faults = "[{kind: invoice_too_high, factor: 1000}]"
    market = await open_market(provider("bad", "1", wallet=f"'{WALLETS[0]}'", faults=faults))
    async with market.rent(preferences=Preferences(work=WORK)) as pool:
        await market.work(pool, 1)
    (record,) = market.history.records().values()
    assert record.wallet == WALLETS[0]
    assert {kind: round(fault.weight, 3) for kind, fault in record.faults.items()} == {
        "overbilled": 2.0
    }
    assert "invoice over" in record.last_reason
    # one step, in the time that the order took
    assert round(record.speeds[KIND].useful_steps, 3) == 1
    assert record.start is not None
    assert record.start.seconds > 0
