"""Whatever a provider does, the work is done, by it or by another, and the books agree."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from requestor.errors import RunFailed
from requestor.marketplace.choice.history import Who
from requestor.marketplace.ports import LeaseError, LeaseLost
from requestor.mock_golem.identifiers import node_id

if TYPE_CHECKING:
    from tests.requestor.marketplace.golem.conftest import OpenMarket

pytestmark = pytest.mark.asyncio

# the faulty one is the cheapest, so that it is tried first
GOOD = "{name: good, price: {hour_glm: 0.5}}"


def faulty(*faults: str) -> str:
    """A fleet of a cheap provider with these faults and a dearer one without."""
    return f"{{name: bad, faults: [{', '.join(faults)}]}}, {GOOD}"


# --- before a lease --------------------------------------------------------------------------


async def test_rejected_agreement(open_market: OpenMarket) -> None:
    market = await open_market(faulty("{kind: reject_agreement}"))
    async with market.rent() as pool:
        await market.work(pool)
    assert market.states()["good"] == ["Terminated"]
    assert set(market.states()["bad"]) == {"Rejected"}
    assert market.history.avoided() == frozenset()
    market.check_books()


async def test_a_provider_that_rejects_once_is_rented_when_there_is_no_other(
    open_market: OpenMarket,
) -> None:
    market = await open_market("{name: only, faults: [{kind: reject_agreement, times: 1}]}")
    async with market.rent() as pool:
        await market.work(pool)
    assert market.states()["only"] == ["Rejected", "Terminated"]
    market.check_books()


async def test_never_answers(open_market: OpenMarket) -> None:
    market = await open_market(faulty("{kind: never_answers}"))
    async with market.rent() as pool:
        await market.work(pool)
    assert "bad" not in market.states()
    market.check_books()


@pytest.mark.slow
async def test_approval_after_yapapi_has_given_up(open_market: OpenMarket) -> None:
    """It waits 15 s. The provider, who agreed in the end, would wait for an activity."""
    market = await open_market(faulty("{kind: slow_approval, seconds: 16}"))
    async with market.rent() as pool:
        await market.until(lambda: market.states().get("bad") == ["Approved"])
        await market.work(pool)
    assert market.states() == {"bad": ["Terminated"], "good": ["Terminated"]}
    market.check_books()


async def test_activity_create_fails(open_market: OpenMarket) -> None:
    market = await open_market(faulty("{kind: activity_create_fails}"))
    async with market.rent() as pool:
        await market.work(pool)
        await market.until(lambda: market.states()["bad"][0] == "Terminated")
    assert "bad: the activity could not be created" in market.notices
    assert "no invoice" not in " ".join(market.notices)
    market.check_books()


async def test_deploy_hangs(open_market: OpenMarket) -> None:
    market = await open_market(faulty("{kind: deploy_hangs}"))
    async with market.rent(deploy_timeout_seconds=0.5) as pool:
        await market.work(pool)
    assert "bad: not ready within 0.5 s" in market.notices
    assert market.paid() == {"bad", "good"}
    market.check_books()


async def test_the_worker_does_not_start(open_market: OpenMarket) -> None:
    market = await open_market(faulty("{kind: command_fails, exit_code: 127, times: 1}"))
    async with market.rent() as pool:
        await market.work(pool)
    assert any("exited with code 127" in notice for notice in market.notices)
    market.check_books()


# --- at work ---------------------------------------------------------------------------------


async def test_command_fails(open_market: OpenMarket) -> None:
    market = await open_market(faulty("{kind: command_fails, exit_code: 9, after: 1}"))
    async with market.rent() as pool:
        work = await market.work(pool)
    assert "exited with code 9" in work.reasons
    assert market.paid() == {"bad", "good"}
    market.check_books()


async def test_command_hangs(open_market: OpenMarket) -> None:
    market = await open_market(faulty("{kind: command_hangs, after: 1}"))
    async with market.rent() as pool:
        work = await market.work(pool, desk=market.desk(deadline_seconds=0.5))
    assert "no result within 0.5 s" in work.reasons
    assert market.paid() == {"bad", "good"}
    market.check_books()


async def test_dies_in_mid_command(open_market: OpenMarket) -> None:
    market = await open_market(faulty("{kind: dies_in_command, after: 2}"))
    async with market.rent(invoice_timeout_seconds=0.2) as pool:
        work = await market.work(pool)
    assert "Service receiver was cancelled" in work.reasons
    assert market.states() == {"bad": ["Terminated"], "good": ["Terminated"]}
    assert market.paid() == {"good"}
    market.check_books()


async def test_dies_with_its_node(open_market: OpenMarket) -> None:
    """Its agreement cannot be ended, as its end has to be told to it; all else is closed."""
    market = await open_market(faulty("{kind: dies_in_command, after: 1, unreachable: true}"))
    async with market.rent(invoice_timeout_seconds=0.2) as pool:
        await market.work(pool)
    assert any("bad: the agreement can't be ended" in notice for notice in market.notices)
    market.check_books(approved=frozenset({"bad"}))
    # nor does it keep a resumed run from its work
    assert await market.sweep(0.0) == (
        "0 agreements ended, 0 invoices accepted, 0 allocations released"
    )


async def test_terminates_agreement_at_work(open_market: OpenMarket) -> None:
    market = await open_market(
        faulty(
            "{kind: terminates_agreement, after_seconds: 1.3}", "{kind: command_hangs, after: 1}"
        )
    )
    async with market.rent() as pool:
        work = await market.work(pool, desk=market.desk(deadline_seconds=20.0))
    assert "Activity terminated by provider" in work.reasons
    assert market.paid() == {"bad", "good"}
    market.check_books()


async def test_network_stall(open_market: OpenMarket) -> None:
    market = await open_market(faulty("{kind: network_stall, seconds: 1.2, after: 1}"))
    async with market.rent() as pool:
        work = await market.work(pool, desk=market.desk(deadline_seconds=0.5))
    assert "no result within 0.5 s" in work.reasons
    assert market.paid() == {"bad", "good"}
    market.check_books()


async def test_tampered_results(open_market: OpenMarket) -> None:
    """Everybody delivers rubbish once; whoever does is rented again only after all others."""
    reason_by_fault = {
        "tamper: truncate": "SHA-256",
        "tamper: corrupt": "SHA-256",
        "tamper: empty": "SHA-256",
        "tamper: nan, consistent: true, after: 1": "finite",
        "tamper: wrong_shape, consistent: true, after: 1": "float32[1, 64, 64], expected",
        "tamper: pickle, consistent: true, after: 1": "header",
        "tamper: huge, huge_bytes: 10000000000": "larger than the",
    }
    fleet = [
        f"{{name: bad-{number}, faults: [{{kind: result_tampered, {fault}, times: 1}}]}}"
        for number, fault in enumerate(reason_by_fault)
    ]
    market = await open_market(", ".join(fleet))
    async with market.rent(providers=7) as pool:
        work = await market.work(pool, 7, max_attempts=20)
    reasons = work.reasons_by_provider()
    for number, (fault, reason) in enumerate(reason_by_fault.items()):
        assert reason.lower() in reasons[f"bad-{number}"].lower(), fault
    assert work.desk.largest_output_bytes <= 1 << 20
    faults = {
        one.name: {kind: round(fault.weight) for kind, fault in one.faults.items()}
        for one in market.history.records().values()
    }
    assert faults == {f"bad-{number}": {"bad_result": 2} for number in range(7)}
    market.check_books()


# --- at billing ------------------------------------------------------------------------------


async def test_no_invoice(open_market: OpenMarket) -> None:
    market = await open_market("{name: bad, faults: [{kind: no_invoice}]}, {name: good}")
    async with market.rent(providers=2, invoice_timeout_seconds=0.3) as pool:
        await market.work(pool)
        await market.until(lambda: len(market.states()) == 2)
    assert "no invoice from bad; what they are owed stays unpaid" in market.notices
    assert market.paid() == {"good"}
    market.check_books()


async def test_invoice_too_high(open_market: OpenMarket) -> None:
    fault = "{kind: invoice_too_high, factor: 100000}"
    market = await open_market(f"{{name: bad, faults: [{fault}]}}, {{name: good}}")
    async with market.rent(providers=2) as pool:
        await market.work(pool)
        await market.until(lambda: len(market.states()) == 2)
    assert any(notice.startswith("bad: invoice over") for notice in market.notices)
    assert market.paid() == {"good"}
    market.check_books()


async def test_invoice_on_the_wrong_platform(open_market: OpenMarket) -> None:
    fault = "{kind: invoice_wrong_platform}"
    market = await open_market(f"{{name: bad, faults: [{fault}]}}, {{name: good}}")
    async with market.rent(providers=2) as pool:
        await market.work(pool)
        await market.until(lambda: len(market.states()) == 2)
    assert any("refused: it is for erc20-holesky-tglm" in notice for notice in market.notices)
    assert market.paid() == {"good"}
    market.check_books()


async def test_duplicate_invoice_is_paid_once(open_market: OpenMarket) -> None:
    market = await open_market("{name: bad, faults: [{kind: duplicate_invoice}]}")
    async with market.rent() as pool:
        await market.work(pool)
    books = market.books
    accepted = [one for one in books.invoices.values() if one.status == "ACCEPTED"]
    assert (len(books.invoices), len(accepted)) == (2, 1)
    market.check_books()


async def test_debit_note_flood(open_market: OpenMarket) -> None:
    market = await open_market("{name: bad, faults: [{kind: debit_note_flood, per_second: 100}]}")
    async with market.rent() as pool:
        await market.work(pool, 30)
        await market.until(
            lambda: market.ledger.total_glm > 0 and len(market.books.debit_notes) > 40
        )
    notes = list(market.books.debit_notes.values())
    # each is cumulative: accepting one now and then is enough
    assert 1 <= sum(note.status == "ACCEPTED" for note in notes) < len(notes) / 4
    assert market.paid() == {"bad"}
    market.check_books()


# --- whom to rent ----------------------------------------------------------------------------


async def test_a_provider_that_fails_twice_is_barred(open_market: OpenMarket) -> None:
    market = await open_market("{name: bad, faults: [{kind: command_fails, after: 1}]}")
    async with market.rent() as pool:
        with pytest.raises(RunFailed, match=r"no provider was at work for .*failed before"):
            await market.work(pool, startup_timeout_seconds=2.0)
    assert market.states() == {"bad": ["Terminated", "Terminated"]}
    market.check_books()


async def test_whoever_failed_in_an_earlier_run_comes_last(open_market: OpenMarket) -> None:
    market = await open_market(faulty())
    market.history.failed(Who(node_id(0, "bad"), "bad"), "slow", "it was too slow")
    async with market.rent() as pool:
        lease = await pool.next_lease()
        assert lease.info.provider_name == "good"
    market.check_books()


async def test_a_released_lease_is_replaced_and_avoided(open_market: OpenMarket) -> None:
    market = await open_market(faulty())
    async with market.rent() as pool:
        first = await pool.next_lease()
        assert first.info.provider_name == "bad"
        first.release("too slow", avoid=True)
        second = await pool.next_lease()
        assert second.info.provider_name == "good"
        with pytest.raises(LeaseLost, match="too slow"):
            await first.execute(market.job())
    market.check_books()


async def test_every_lease_is_another_provider(open_market: OpenMarket) -> None:
    market = await open_market("{name: oak, count: 3}")
    async with market.rent(providers=3) as pool:
        async with asyncio.timeout(20):
            leases = [await pool.next_lease() for _ in range(3)]
        assert len({lease.info.provider_id for lease in leases}) == 3
        assert len({lease.info.agreement_id for lease in leases}) == 3
        assert pool.spending.due_glm >= Decimal(0)
    market.check_books()


async def test_many_leases_share_one_publication(open_market: OpenMarket) -> None:
    """All are sent the same file at the same time, and all orders are the same."""
    market = await open_market("{name: oak, count: 6}")
    async with market.rent(providers=6) as pool:
        work = await market.work(pool, 60)
    assert work.reasons.replace("the run is over", "").strip() == ""
    market.check_books()


async def test_releasing_a_busy_lease_answers_its_order(open_market: OpenMarket) -> None:
    market = await open_market(faulty("{kind: command_hangs, after: 1}"))
    async with market.rent() as pool:
        lease = await pool.next_lease()
        order = asyncio.ensure_future(lease.execute(market.job()))
        await asyncio.sleep(0)
        lease.release("not wanted any more", avoid=False)
        with pytest.raises(LeaseError, match="not wanted any more"):
            await asyncio.wait_for(order, 2.0)
    market.check_books()
