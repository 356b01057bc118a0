"""The daemon refuses, forgets, stalls or goes away: a named error, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from requestor.errors import PreflightError
from requestor.marketplace.golem.daemon.api import DaemonApi, DaemonError
from requestor.marketplace.golem.daemon.preflight import check_daemon, wait_for_daemon
from requestor.marketplace.golem.daemon.private_daemon import private_daemon
from requestor.marketplace.ports import MarketplaceGone, MarketplaceLost

if TYPE_CHECKING:
    from pathlib import Path

    from tests.requestor.marketplace.golem.conftest import OpenMarket, ServeMarket

pytestmark = pytest.mark.asyncio


# --- refusals --------------------------------------------------------------------------------


async def test_allocation_refused(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}", "{kind: allocation_refused}")
    with pytest.raises(PreflightError, match=r"the daemon refuses .*Insufficient funds"):
        async with market.rent():
            pass
    market.check_books()


async def test_too_little_funds(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    with pytest.raises(PreflightError, match="Insufficient funds") as caught:
        async with market.rent(budget_glm=market.terms().budget_glm * 2000):
            pass
    assert "golem.budget_glm" in str(caught.value.fix)
    market.check_books()


async def test_wrong_key_from_some_moment_on(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}", "{kind: wrong_key, after: 18}")
    with pytest.raises(MarketplaceLost, match="401: Invalid application key"):
        async with market.rent() as pool:
            while True:
                await pool.next_lease()
    assert any("Invalid application key" in notice for notice in market.notices)
    assert market.ledger.is_open


async def test_opening_half_way_leaves_no_allocation(
    open_market: OpenMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The allocation is there already when gftp turns out not to be."""
    market = await open_market("{name: oak}")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(MarketplaceLost, match="the engine does not start"):
        async with market.rent():
            pass
    assert len(market.books.allocations) == 1
    market.check_books()


async def test_an_image_that_cannot_be_resolved(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    with pytest.raises(PreflightError, match="the image 'what' can't be resolved"):
        async with market.rent(image="what", image_url=None):
            pass
    assert not market.books.allocations


# --- absence ---------------------------------------------------------------------------------


async def test_subscription_lost(open_market: OpenMarket) -> None:
    market = await open_market(
        "{name: bad, faults: [{kind: dies_in_command, after: 2}]}, "
        "{name: good, price: {hour_glm: 0.5}}",
        "{kind: subscription_lost, after: 1, times: 1}",
    )
    async with market.rent(invoice_timeout_seconds=0.2) as pool:
        work = await market.work(pool)
    assert len(work.deliveries) == 3
    market.check_books()


async def test_the_daemon_is_killed(serve_market: ServeMarket) -> None:
    """Closing does not wait for it; the ledger keeps what is open; a new daemon's sweep ends it."""
    async with serve_market("{name: oak}") as (market, process):
        with pytest.raises(MarketplaceGone, match="the daemon has been away for"):
            async with market.rent(daemon_patience_seconds=0.5) as pool:
                await pool.next_lease()
                process.kill()
                await process.wait()
                async with asyncio.timeout(10.0):
                    await pool.next_lease()
        assert any("`derl-request resume` will clean up" in notice for notice in market.notices)
        assert market.ledger.is_open
    async with serve_market("{name: oak}") as (market, _):
        await market.sweep()
        assert market.paid() == {"oak"}
        market.check_books()


async def test_the_daemon_is_killed_as_the_session_ends(serve_market: ServeMarket) -> None:
    async with serve_market("{name: oak}") as (market, process):
        async with market.rent() as pool:
            await pool.next_lease()
            process.kill()
            await process.wait()
            started = time.monotonic()
        assert time.monotonic() - started < 20.0
        assert market.ledger.is_open


@pytest.mark.slow
async def test_the_daemon_stands_still(serve_market: ServeMarket) -> None:
    async with serve_market("{name: oak}") as (market, process):
        with pytest.raises(MarketplaceLost, match="no answer for 10 s"):
            async with market.rent() as pool:
                await pool.next_lease()
                os.kill(process.pid, signal.SIGSTOP)
                try:
                    async with asyncio.timeout(15.0):
                        await pool.next_lease()
                finally:
                    started = time.monotonic()
        assert time.monotonic() - started < 20.0
        os.kill(process.pid, signal.SIGCONT)
        await market.sweep()
        await market.until(lambda: all(one.ended_at for one in market.books.activities.values()))
        market.check_books()


# --- preflight and the private daemon --------------------------------------------------------


async def test_preflight_learns_who_we_are(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    facts = await check_daemon(market.address, "erc20", "hoodi")
    assert facts.platform == "erc20-hoodi-tglm"
    async with DaemonApi(market.address) as api:
        assert facts.identity == await api.identity()


async def test_preflight_without_a_daemon(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    assert market.daemon is not None
    await market.daemon.stop()
    with pytest.raises(PreflightError, match="no yagna daemon answers") as caught:
        await check_daemon(market.address, "erc20", "hoodi")
    assert "yagna service run" in str(caught.value.fix)
    with pytest.raises(PreflightError, match="did not come back within 0 s"):
        await wait_for_daemon(market.address, 0.0)


async def test_preflight_without_the_payment_platform(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak}")
    with pytest.raises(PreflightError, match=r"no account for erc20-polygon-glm \(it has: erc20"):
        await check_daemon(market.address, "erc20", "polygon")


async def test_preflight_without_gftp(
    open_market: OpenMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = await open_market("{name: oak}")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(PreflightError, match="no `gftp` on PATH"):
        await check_daemon(market.address, "erc20", "hoodi")


async def test_a_private_daemon_lives_as_long_as_its_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"])  # restored at the end
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("providers: [{name: oak}]\n")
    log = tmp_path / "log"
    async with private_daemon(fleet, tmp_path / "state", log, tmp_path / "wire") as address:
        await check_daemon(address, "erc20", "hoodi")
    async with DaemonApi(address) as api:
        with pytest.raises(DaemonError):
            await api.version()
    assert "/version/get" in (tmp_path / "wire").read_text()


async def test_a_private_daemon_that_does_not_start(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("providers: [{name: oak, cores: 4}]\n")
    with pytest.raises(PreflightError, match=r"(?s)does not start:.*cores") as caught:
        async with private_daemon(fleet, tmp_path / "state", tmp_path / "log"):
            pass
    assert "mock-golem fleet check" in str(caught.value.fix)
