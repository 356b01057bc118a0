"""Ways in which yapapi 0.13.1 surprises its users, each one held here to do no harm."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from requestor.errors import PreflightError, RunFailed
from requestor.marketplace.golem.daemon.api import DaemonApi
from requestor.marketplace.golem.daemon.preflight import check_daemon
from requestor.marketplace.ports import LeaseLost, MarketplaceLost

if TYPE_CHECKING:
    from tests.requestor.marketplace.golem.conftest import Market, OpenMarket

pytestmark = pytest.mark.asyncio

GOOD = "{name: good, price: {hour_glm: 0.5}}"
SIX_HOURS = 6 * 3600.0
"""From 5 h on yapapi negotiates how often debit notes may come, and ends whoever sends more."""


async def test_trap_a_too_many_debit_notes_cancel_the_instance(open_market: OpenMarket) -> None:
    """yapapi cancels the task that serves an idle lease, and nobody is told."""
    flood = "{kind: debit_note_flood, per_second: 4}"
    market = await open_market(f"{{name: bad, faults: [{flood}]}}, {GOOD}")
    async with market.rent(expiration_seconds=SIX_HOURS) as pool:
        lease = await pool.next_lease()
        await market.until(lambda: market.states()["bad"] == ["Terminated"])
        with pytest.raises(LeaseLost, match="Too many debit notes"):
            async with asyncio.timeout(2.0):
                await lease.execute(market.job())
        work = await market.work(pool)
    assert {event.provider_name for event in work.leases} == {"good"}
    assert market.paid() == {"bad", "good"}
    market.check_books()


async def test_trap_a_while_an_order_is_being_done(open_market: OpenMarket) -> None:
    flood = "{kind: debit_note_flood, per_second: 4}"
    hang = "{kind: command_hangs, after: 1}"
    market = await open_market(f"{{name: bad, faults: [{flood}, {hang}]}}, {GOOD}")
    async with market.rent(expiration_seconds=SIX_HOURS) as pool:
        work = await market.work(pool, desk=market.desk(deadline_seconds=20.0))
    assert market.states() == {"bad": ["Terminated"], "good": ["Terminated"]}
    assert len(work.deliveries) == 3
    market.check_books()


async def test_trap_a_leaves_the_others_their_files(open_market: OpenMarket) -> None:
    """Whoever is cancelled while it asks gftp for a link leaves the answer to the next one."""
    market = await open_market("{name: oak}")
    async with market.rent() as pool:
        lease = await pool.next_lease()
        storage: Any = pool._golem._engine._storage_manager  # type: ignore[union-attr]
        cancelled = asyncio.create_task(storage.upload_bytes(b"one"))
        async with asyncio.timeout(5.0):
            while not storage._process._lock.locked():
                await asyncio.sleep(0)
        cancelled.cancel()
        links = [(await storage.upload_bytes(b"two")).download_url for _ in range(2)]
        assert links[0] == links[1]  # a link is the digest of what it leads to
        await lease.execute(market.job())
    market.check_books()


async def test_trap_b_the_end_of_the_agreed_time_is_an_error(open_market: OpenMarket) -> None:
    """yapapi lets a job run out in silence; then no offer fits any more."""
    market = await open_market("{name: oak, terms: {min_expiration_seconds: 1}}")
    async with market.rent(expiration_seconds=2.5) as pool:
        await pool.next_lease()
        with pytest.raises(MarketplaceLost, match="the time agreed upon is over"):
            async with asyncio.timeout(10.0):
                await pool.next_lease()
        with pytest.raises(MarketplaceLost):
            await pool.next_lease()
    assert market.paid() == {"oak"}
    market.check_books()


async def test_trap_c_no_provider_comes(open_market: OpenMarket) -> None:
    """yapapi waits for offers until the job expires."""
    market = await open_market("{name: dear, price: {hour_glm: 50}}")
    async with market.rent() as pool:
        with pytest.raises(RunFailed, match=r"no provider .*above the price ceilings"):
            await market.work(pool, startup_timeout_seconds=1.5)
    market.check_books()


async def test_trap_d_a_poisoned_order_is_given_up(open_market: OpenMarket) -> None:
    """yapapi would try it for ever, paying each time."""
    market = await open_market("{name: oak, count: 2}")
    async with market.rent(providers=2) as pool:
        with pytest.raises(RunFailed, match=r"given up after: .*no such environment"):
            await market.work(pool, 1, desk=market.desk("poison"), max_attempts=3)
    market.check_books()


async def test_trap_l_a_dead_provider_costs_no_half_minute(open_market: OpenMarket) -> None:
    dies = "{kind: dies_in_command, after: 1}"
    market = await open_market(f"{{name: bad, faults: [{dies}]}}, {GOOD}")
    async with market.rent(invoice_timeout_seconds=0.5) as pool:
        await market.work(pool)
        started = time.monotonic()
    assert time.monotonic() - started < 5.0
    assert "no invoice from bad; what they are owed stays unpaid" in market.notices
    market.check_books()


async def test_trap_m_an_instance_that_fails_after_it_started_is_replaced(
    open_market: OpenMarket,
) -> None:
    market = await open_market(
        f"{{name: bad, faults: [{{kind: dies_in_command, after: 2}}]}}, {GOOD}"
    )
    async with market.rent(invoice_timeout_seconds=0.2) as pool:
        work = await market.work(pool)
    assert [event.provider_name for event in work.leases] == ["bad", "good"]
    market.check_books()


async def test_trap_m2_an_engine_error_closes_the_generator(open_market: OpenMarket) -> None:
    """Sending a script to an activity that is gone is an error that the service never sees."""
    ends = "{kind: terminates_agreement, after_seconds: 1.2}"
    market = await open_market(f"{{name: bad, faults: [{ends}]}}, {GOOD}")
    async with market.rent() as pool:
        lease = await pool.next_lease()
        assert lease.info.provider_name == "bad"
        await market.until(lambda: market.states()["bad"] == ["Terminated"])
        with pytest.raises(LeaseLost):
            async with asyncio.timeout(5.0):
                await lease.execute(market.job())
        assert (await pool.next_lease()).info.provider_name == "good"
    assert market.paid() == {"bad", "good"}
    market.check_books()


CRASH = """
import asyncio, os, sys, time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from requestor.marketplace.golem.daemon.api import DaemonAddress
from requestor.marketplace.golem.renting.rental import GolemMarketplace
from requestor.marketplace.choice.history import ProviderHistory
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.ports import Terms
from requestor.marketplace.money.spending import Prices

async def main(folder: Path) -> None:
    address = DaemonAddress.from_environment(os.environ)
    history = ProviderHistory(folder / "providers.json", time.time)
    ledger = Ledger(folder / "ledger.jsonl")
    one = Decimal(1)
    terms = Terms(
        run_id="run-1", providers=1, budget_glm=one, ceilings=Prices(one, one, one),
        memory_gib=1.0, storage_gib=1.0, threads=1, image=IMAGE, image_url=None,
        subnet="public", payment_driver="erc20", payment_network="hoodi",
        expiration_seconds=3600.0, deploy_timeout_seconds=5.0, invoice_timeout_seconds=1.0,
    )
    async with GolemMarketplace(address, ledger, history).rent(terms, print) as pool:
        await pool.next_lease()
        os._exit(9)

asyncio.run(main(Path(sys.argv[1])))
"""


async def crash(market: Market) -> None:
    """Rent a provider in another process, which then dies without a word."""
    script = f"IMAGE = {market.terms().image!r}\n" + CRASH
    environment = market.environment()
    command = [sys.executable, "-c", script, str(market.folder)]
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 9, said.decode()


async def test_trap_r_a_crash_leaves_funds_reserved_for_ten_years(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    await crash(market)
    async with DaemonApi(market.address) as api:
        (allocation,) = await api.allocations()
        assert allocation["timeout"] > "2030"
    assert market.ledger.is_open
    assert await market.sweep() == (
        "1 agreements ended, 1 invoices accepted, 1 allocations released"
    )
    assert market.paid() == {"oak"}
    market.check_books()


async def test_trap_s_a_bad_key_is_told_before_yapapi_meets_it(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    with pytest.raises(PreflightError, match="refuses the key in YAGNA_APPKEY") as caught:
        await check_daemon(replace(market.address, app_key="wrong"), "erc20", "hoodi")
    assert "yagna app-key list" in str(caught.value.fix)


async def test_small_budgets_are_told_in_plain_digits(open_market: OpenMarket) -> None:
    """yapapi turns amounts to text with `str`, which is `1E-8` for small decimals."""
    market = await open_market("{name: oak}")
    budget = Decimal("0.0000001")
    async with market.rent(budget_glm=budget):
        (allocation,) = market.books.allocations.values()
        assert Decimal(0) < allocation.total_amount <= budget
    market.check_books()
