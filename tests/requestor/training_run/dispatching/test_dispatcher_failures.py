"""Rounds over leases that fail, money that runs out, markets that stay empty."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from provider_image.wire import WireError
from requestor.errors import BudgetReached, Interrupted, RunFailed
from requestor.marketplace.money.spending import Account, Prices, SpendingGuard
from requestor.marketplace.ports import LeaseLost, MarketplaceLost, OrderFailed
from requestor.training_run import events

if TYPE_CHECKING:
    from tests.requestor.conftest import RunInVirtualTime
    from tests.requestor.training_run.stage import FakePool, Stage, Theatre


def reasons(stage: Stage, kind: type[events.Event]) -> list[tuple[str, str]]:
    """(lease, reason) of events that have both."""
    return [(vars(event)["lease"], vars(event)["reason"]) for event in stage.events(kind)]


# --- leases ----------------------------------------------------------------------------------


def test_a_lost_lease_gives_its_item_to_another(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        lost = theatre.lease("lost", 1.0, [None, LeaseLost("it vanished")])
        other = theatre.lease("other", 3.0)
        stage = theatre.stage(theatre.pool(lost, other))
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(4)) == [0, 1, 2, 3]
        assert len(lost.orders) == 2
        assert not lost.releases
        assert reasons(stage, events.OrderFailed) == [("lost", "it vanished")]
        assert reasons(stage, events.LeaseEnded)[0] == ("lost", "it vanished")

    run_in_virtual_time(main())


def test_two_failures_in_a_row_end_a_lease(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        error = OrderFailed("exit code 3: out of memory")
        broken = theatre.lease("broken", 1.0, [error, error, error])
        shaky = theatre.lease("shaky", 1.0, [error, None, error, None])
        stage = theatre.stage(theatre.pool(broken, shaky), speculate=False, max_attempts=9)
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(8)) == list(range(8))
        assert broken.releases == [("it fails one order after the other", True)]
        assert len(broken.orders) == 2
        assert not shaky.releases
        assert ("broken", "it fails one order after the other") in reasons(stage, events.LeaseEnded)

    run_in_virtual_time(main())


def test_an_unusable_result_ends_the_lease_at_once(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        liar = theatre.lease("liar", 1.0, [theatre.unusable])
        stage = theatre.stage(theatre.pool(liar, theatre.lease("honest", 1.0)))
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(2)) == [0, 1]
        why = "policy/weight has values that are not finite"
        assert liar.releases == [(f"unusable result: {why}", True)]
        assert reasons(stage, events.UpdateRejected) == [("liar", why)]
        assert not stage.events(events.OrderFailed)

    run_in_virtual_time(main())


def test_a_result_that_breaks_the_format_ends_the_lease_at_once(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        lease = theatre.lease("first", 1.0)
        stage = theatre.stage(theatre.pool(lease))
        stage.desk.receive_errors = [WireError("result: too short")]
        asyncio.get_running_loop().call_later(5.0, stage.pool.arrive, theatre.lease("second"))
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(1)) == [0]
        assert lease.releases == [("unusable result: result: too short", True)]

    run_in_virtual_time(main())


def test_an_error_of_our_own_costs_the_lease_but_not_the_round(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        lease = theatre.lease("first", 1.0)
        stage = theatre.stage(theatre.pool(lease, theatre.lease("second", 2.0)), speculate=False)
        stage.desk.receive_errors = [OSError(28, "No space left on device")]
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(3)) == [0, 1, 2]
        assert [avoid for _, avoid in lease.releases] == [False]
        assert "No space left on device" in lease.releases[0][0]
        assert len(stage.events(events.OrderSent)) == len(stage.events(events.OrderDone)) + len(
            stage.events(events.OrderFailed)
        )

    run_in_virtual_time(main())


def test_a_log_that_cannot_be_written_ends_the_round(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        stage = theatre.stage(theatre.pool(theatre.lease("L", 5.0), theatre.lease("M", 50.0)))
        stage.full_at = events.OrderDone
        async with stage.dispatcher:
            with pytest.raises(OSError, match="No space left"):
                await stage.run(theatre.plan(4))
        assert stage.now == pytest.approx(5)
        assert not stage.desk.open_jobs

    run_in_virtual_time(main())


def test_a_lease_that_was_over_before_costs_no_attempt(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        leases = [theatre.lease(f"L{i}") for i in range(3)]
        stage = theatre.stage(theatre.pool(*leases), max_attempts=1)
        async with stage.dispatcher:
            await stage.run(theatre.plan(3))
            # while the model is judged, their providers vanish
            for lease in leases:
                lease.is_over = True
            asyncio.get_running_loop().call_later(5.0, stage.pool.arrive, theatre.lease("new"))
            assert await stage.run(theatre.plan(1, round_index=1)) == [0]
        ended = {lease for lease, reason in reasons(stage, events.LeaseEnded) if "over" in reason}
        assert ended >= {"L0", "L1", "L2"}

    run_in_virtual_time(main())


def test_an_item_that_fails_everywhere_ends_the_run_with_all_reasons(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        leases = [
            theatre.lease("A", 1.0, [OrderFailed("no such env")]),
            theatre.lease("B", 1.5, [LeaseLost("it vanished")]),
            theatre.lease("C", 2.0, [theatre.unusable]),
        ]
        stage = theatre.stage(theatre.pool(), speculate=False)
        for index, lease in enumerate(leases):
            asyncio.get_running_loop().call_later(10.0 * index, stage.pool.arrive, lease)
        leases[0].script.append(60.0)  # A fails client 0, then is busy with client 1
        async with stage.dispatcher:
            with pytest.raises(RunFailed) as caught:
                await stage.run(theatre.plan(2, round_index=4))
        assert caught.value.message == (
            "round 5: only 1 of 2 clients' results came in, the quorum is 2\n"
            "  client 0 was given up after: node A: no such env; node B: it vanished; "
            "node C: policy/weight has values that are not finite"
        )
        assert caught.value.fix is not None
        assert "resume" in caught.value.fix

    run_in_virtual_time(main())


def test_an_item_that_fails_everywhere_is_done_without_where_the_quorum_allows(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        lease = theatre.lease("A", 1.0, [OrderFailed("no such env")])
        stage = theatre.stage(theatre.pool(lease), max_attempts=1)
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(3, quorum=2)) == [1, 2]

    run_in_virtual_time(main())


# --- the market ------------------------------------------------------------------------------


def test_an_empty_market_ends_the_run_with_a_view_of_it(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        stage = theatre.stage(theatre.pool(), startup_timeout_seconds=45.0)
        async with stage.dispatcher:
            with pytest.raises(RunFailed) as caught:
                await stage.run(theatre.plan(2))
        assert 45 <= stage.now <= 45.5
        assert caught.value.message == (
            "no provider was at work for 45 s (7 offers seen; refused: above the price ceilings "
            "(7))"
        )
        assert caught.value.fix is not None
        assert "golem.max_price" in caught.value.fix

    run_in_virtual_time(main())


def test_time_without_a_provider_is_counted_from_the_last_one_lost(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        lost = theatre.lease("lost", 40.0, [LeaseLost("it vanished")])
        stage = theatre.stage(theatre.pool(lost), startup_timeout_seconds=45.0)
        asyncio.get_running_loop().call_later(80.0, stage.pool.arrive, theatre.lease("new"))
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(1)) == [0]

    run_in_virtual_time(main())


def test_time_between_rounds_is_not_held_against_the_market(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        lease = theatre.lease("L", 1.0, [None, LeaseLost("it vanished")])
        stage = theatre.stage(theatre.pool(lease), startup_timeout_seconds=45.0)
        async with stage.dispatcher:
            await stage.run(theatre.plan(1))
            await asyncio.sleep(300)  # the model is judged
            asyncio.get_running_loop().call_later(20.0, stage.pool.arrive, theatre.lease("new"))
            assert await stage.run(theatre.plan(1, round_index=1)) == [0]

    run_in_virtual_time(main())


def test_a_lost_marketplace_is_told_to_the_run(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        stage = theatre.stage(theatre.pool(theatre.lease("L", 100.0)))
        error = MarketplaceLost("the daemon is gone")
        asyncio.get_running_loop().call_later(3.0, stage.pool.arrive, error)
        async with stage.dispatcher:
            with pytest.raises(MarketplaceLost, match="the daemon is gone"):
                await stage.run(theatre.plan(2))
        assert stage.now < 4
        assert not stage.desk.open_jobs

    run_in_virtual_time(main())


# --- money -----------------------------------------------------------------------------------


def spend(pool: FakePool, glm_per_second: int) -> None:
    """Let the pool owe money from now on."""
    prices = Prices(hour_glm=Decimal(3600 * glm_per_second))
    pool.spending.open_account(Account("g", "0xL", prices, 1, 0.0))


def test_the_run_stops_before_an_order_that_the_budget_might_not_carry(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        pool = theatre.pool(theatre.lease("L", 4.0), budget=Decimal(20))
        spend(pool, 1)
        stage = theatre.stage(pool)
        async with stage.dispatcher:
            with pytest.raises(BudgetReached) as caught:
                await stage.run(theatre.plan(10))
        # 20 GLM at 1 GLM/s: a fifth order of 4 s would end at 20 s, without any reserve
        assert stage.counted() == [(0, client) for client in range(len(stage.counted()))]
        assert 3 <= len(stage.counted()) <= 4
        assert stage.now == pytest.approx(4 * len(stage.counted()), abs=0.5)
        # nothing that was paid for was thrown away
        assert len(stage.events(events.OrderSent)) == len(stage.counted())
        assert "the budget of 20 GLM" in caught.value.message
        assert caught.value.fix is not None
        assert "golem.budget_glm" in caught.value.fix

    run_in_virtual_time(main())


def test_an_order_in_flight_is_awaited_while_the_budget_carries_it(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        pool = theatre.pool(theatre.lease("L", 8.0), budget=Decimal(10))
        spend(pool, 1)
        stage = theatre.stage(pool)
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(1)) == [0]

    run_in_virtual_time(main())


def test_an_order_in_flight_is_given_up_before_it_exceeds_the_budget(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        pool = theatre.pool(theatre.lease("L", 500.0), budget=Decimal(20))
        spend(pool, 1)
        stage = theatre.stage(pool)
        async with stage.dispatcher:
            with pytest.raises(BudgetReached):
                await stage.run(theatre.plan(1))
        assert 18 < stage.now < 20
        assert not stage.desk.open_jobs

    run_in_virtual_time(main())


def test_idle_leases_are_quiet_while_money_is_short(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        looks = 0

        class CountingGuard(SpendingGuard):
            def may_spend_seconds(self, now_seconds: float) -> float:
                nonlocal looks
                looks += 1
                # not enough for another order, enough to wait for those that are out
                return 1e6 if now_seconds < 0.6 else 1.0

        crowd = [theatre.lease("slow", 60.0), *(theatre.lease(f"L{i}", 0.5) for i in range(9))]
        stage = theatre.stage(theatre.pool(*crowd))
        stage.pool.spending = CountingGuard(Decimal(1))
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(10)) == list(range(10))
        assert stage.now == pytest.approx(60)
        # ten leases and the round itself, for a minute
        assert looks < 60 * 20

    run_in_virtual_time(main())


# --- the user --------------------------------------------------------------------------------


def test_a_request_to_stop_is_followed_at_once(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        lease = theatre.lease("L", 10.0)
        stage = theatre.stage(theatre.pool(lease))
        asyncio.get_running_loop().call_later(3.0, stage.stop.set)
        async with stage.dispatcher:
            with pytest.raises(Interrupted) as caught:
                await stage.run(theatre.plan(4))
        assert stage.now == pytest.approx(3)
        assert len(lease.orders) == 1
        assert caught.value.exit_code == 130
        assert caught.value.fix is not None
        assert "resume" in caught.value.fix

    run_in_virtual_time(main())


def test_a_request_between_rounds_leaves_idle_leases_quiet(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        lease = theatre.lease("L", 1.0)
        stage = theatre.stage(theatre.pool(lease))
        async with stage.dispatcher:
            await stage.run(theatre.plan(1))
            stage.stop.set()
            await asyncio.sleep(60)  # the model is judged; the loop's clock stands if tasks spin
            with pytest.raises(Interrupted):
                await stage.run(theatre.plan(1, round_index=1))
        assert len(lease.orders) == 1

    run_in_virtual_time(main())
