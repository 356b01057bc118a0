"""Rounds over leases that work: who does what, and that nobody's pace shows in the results."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requestor.marketplace.ports import LeaseLost, LeaseOver, OrderFailed
from requestor.training_run import events

if TYPE_CHECKING:
    from tests.requestor.conftest import RunInVirtualTime
    from tests.requestor.training_run.stage import Act, Theatre


@pytest.mark.parametrize("leases", [1, 2, 3, 5, 20])
def test_every_item_is_done_once_by_any_number_of_leases(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre, leases: int
) -> None:
    async def main() -> None:
        crowd = [theatre.lease(f"L{i}", 1.0 + i) for i in range(leases)]
        stage = theatre.stage(theatre.pool(*crowd), speculate=False)
        async with stage.dispatcher:
            for round_index in range(3):
                clients = await stage.run(theatre.plan(7, round_index=round_index))
                assert clients == list(range(7))
        assert sorted(stage.counted()) == [(r, c) for r in range(3) for c in range(7)]
        assert sum(len(lease.orders) for lease in crowd) == 21
        assert not stage.desk.open_jobs

    run_in_virtual_time(main())


def test_a_round_ends_in_the_instant_of_its_last_result(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        stage = theatre.stage(theatre.pool(*(theatre.lease(f"L{i}") for i in range(4))))
        async with stage.dispatcher:
            await stage.run(theatre.plan(8))
            assert stage.now == pytest.approx(2)
            await stage.run(theatre.plan(8, round_index=1))
            assert stage.now == pytest.approx(4)

    run_in_virtual_time(main())


def test_a_lease_that_comes_later_joins_in(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        stage = theatre.stage(theatre.pool(theatre.lease("first", 2.0)), speculate=False)
        late = theatre.lease("late", 2.0)
        asyncio.get_running_loop().call_later(1.0, stage.pool.arrive, late)
        async with stage.dispatcher:
            await stage.run(theatre.plan(4))
        # first: 0-2, 2-4; late: 1-3, 3-5
        assert stage.log[-1][0] == pytest.approx(5)
        assert len(late.orders) == 2

    run_in_virtual_time(main())


def test_the_log_tells_the_round(run_in_virtual_time: RunInVirtualTime, theatre: Theatre) -> None:
    async def main() -> None:
        stage = theatre.stage(theatre.pool(theatre.lease("L", 2.0)))
        async with stage.dispatcher:
            await stage.run(theatre.plan(1, round_index=4))
        assert [event for _, event in stage.log] == [
            events.RoundStarted(4, 1, 0),
            events.LeaseOpened("L", "node L", "0xL", "g"),
            events.OrderSent(4, 0, "L", is_copy=False),
            events.OrderDone(4, 0, "L", 2.0, steps=10, counts=True, metrics={"x": 1.0}),
            events.LeaseEnded("L", "node L", "the run is over"),
        ]

    run_in_virtual_time(main())


def test_a_straggler_is_doubled_and_its_late_result_wasted(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        slow, fast = theatre.lease("slow", 10.0), theatre.lease("fast", 1.0)
        stage = theatre.stage(theatre.pool(slow, fast))
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(3)) == [0, 1, 2]
            # fast is idle from 2 s on; slow's item is a straggler at 1.5 s: copied 2 to 3 s
            assert stage.now == pytest.approx(3)
            assert await stage.run(theatre.plan(20, round_index=1)) == list(range(20))
        sent = [e for e in stage.events(events.OrderSent) if isinstance(e, events.OrderSent)]
        assert [(e.client, e.lease) for e in sent if e.is_copy and e.round == 0] == [(0, "fast")]
        done = [e for e in stage.events(events.OrderDone) if isinstance(e, events.OrderDone)]
        late = [e for e in done if not e.counts]
        assert (late[0].round, late[0].client, late[0].lease) == (0, 0, "slow")
        assert len(stage.counted()) == len(set(stage.counted())) == 23

    run_in_virtual_time(main())


def test_who_always_comes_late_is_let_go(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        slow = theatre.lease("slow", 4.0)
        fast = [theatre.lease(f"fast {i}", 1.0) for i in range(2)]
        stage = theatre.stage(theatre.pool(slow, *fast))
        async with stage.dispatcher:
            for round_index in range(20):
                await stage.run(theatre.plan(3, round_index=round_index))
        assert slow.releases == [("too slow", True)]
        assert len(slow.orders) == 3
        assert not any(lease.releases for lease in fast)

    run_in_virtual_time(main())


def test_who_only_gets_copies_is_not_blamed_for_being_second(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        # one item a round; each takes 1.7 times as long as the last, so it is a straggler from 1.5
        # times on. The spare lease's copy takes longer than the rest, into the next round.
        worker = theatre.lease("worker", script=[1.7**k for k in range(7)])
        spare = theatre.lease("spare", script=[0.5 * 1.7**k for k in range(6)])
        stage = theatre.stage(theatre.pool(worker))
        async with stage.dispatcher:
            await stage.run(theatre.plan(1))
            asyncio.get_running_loop().call_later(0.1, stage.pool.arrive, spare)
            for round_index in range(1, 7):
                await stage.run(theatre.plan(1, round_index=round_index))
        wasted = [
            event.lease
            for event in stage.events(events.OrderDone)
            if isinstance(event, events.OrderDone) and not event.counts
        ]
        assert wasted == ["spare"] * 5
        assert not spare.releases
        assert not worker.releases

    run_in_virtual_time(main())


def test_what_a_dead_process_kept_is_not_ordered_again(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        lease = theatre.lease("L")
        stage = theatre.stage(theatre.pool(lease))
        what = theatre.plan(4)
        stage.desk.kept = {item: theatre.delivery(item) for item in what.items[1:3]}
        async with stage.dispatcher:
            assert await stage.run(what) == [0, 1, 2, 3]
        assert [order[:3] for order in lease.orders] == [b"0/0", b"0/3"]
        assert events.RoundStarted(0, 4, 2) in stage.events(events.RoundStarted)

    run_in_virtual_time(main())


def test_a_round_that_was_all_but_closed_needs_no_provider(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        stage = theatre.stage(theatre.pool())
        what = theatre.plan(2)
        stage.desk.kept = {item: theatre.delivery(item) for item in what.items}
        async with stage.dispatcher:
            assert await stage.run(what) == [0, 1]
        assert stage.now == 0

    run_in_virtual_time(main())


def test_the_deadline_closes_a_round_that_has_its_quorum(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        hanging = theatre.lease("hanging", script=[50.0])
        stage = theatre.stage(
            theatre.pool(hanging, theatre.lease("L", 2.0)),
            speculate=False,
            round_deadline_seconds=30.0,
        )
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(3, quorum=2)) == [1, 2]
            assert 30 <= stage.now <= 30.5
            assert await stage.run(theatre.plan(20, quorum=20, round_index=1)) == list(range(20))
            assert stage.now > 50
        # the late result of round 0 came in during round 1 and counts no more
        assert (0, 0) not in stage.counted()
        assert events.OrderDone(0, 0, "hanging", 50.0, 10, False, {"x": 1.0}) in stage.events(
            events.OrderDone
        )

    run_in_virtual_time(main())


def test_the_deadline_alone_does_not_close_a_round(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        stage = theatre.stage(
            theatre.pool(theatre.lease("L", 20.0)), speculate=False, round_deadline_seconds=30.0
        )
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(4, quorum=3)) == [0, 1, 2]
            assert 60 <= stage.now <= 60.5

    run_in_virtual_time(main())


def test_leaving_gives_up_what_is_in_flight(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        stage = theatre.stage(theatre.pool(theatre.lease("L", 100.0)))
        async with stage.dispatcher:
            running = asyncio.create_task(stage.run(theatre.plan(1)))
            await asyncio.sleep(1)
            assert stage.desk.open_jobs
            running.cancel()
        assert not stage.desk.open_jobs
        assert stage.log[-1][1] == events.LeaseEnded("L", "node L", "the run is over")
        assert stage.now == pytest.approx(1)

    run_in_virtual_time(main())


def act(kind: str, seconds: float) -> Act:
    """One of the things that a lease may do with an order."""
    acts: dict[str, Act] = {
        "sound": seconds,
        "fails": OrderFailed("exit code 3"),
        "is lost": LeaseLost("it vanished"),
        "was over": LeaseOver("it was over"),
        "is unusable": "unusable",
    }
    return acts[kind]


ACTS = st.builds(
    act,
    st.sampled_from(["sound", "sound", "sound", "fails", "is lost", "was over", "is unusable"]),
    st.floats(0.01, 20),
)
CROWDS = st.lists(
    st.tuples(st.floats(0, 30), st.floats(0.01, 20), st.lists(ACTS, max_size=6)), max_size=6
)


@given(crowd=CROWDS, clients=st.integers(1, 8), speculate=st.booleans())
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_results_are_the_same_whoever_does_the_work_and_whatever_goes_wrong(
    run_in_virtual_time: RunInVirtualTime,
    theatre: Theatre,
    crowd: list[tuple[float, float, list[Act]]],
    clients: int,
    speculate: bool,
) -> None:
    async def main() -> None:
        stage = theatre.stage(
            theatre.pool(theatre.lease("reliable", 3.0)), speculate=speculate, max_attempts=1000
        )
        for index, (arrival, seconds, script) in enumerate(crowd):
            lease = theatre.lease(f"L{index}", seconds, script)
            asyncio.get_running_loop().call_later(arrival, stage.pool.arrive, lease)
        async with stage.dispatcher:
            for round_index in range(2):
                what = theatre.plan(clients, round_index=round_index)
                assert await stage.run(what) == list(range(clients))
        expected = [(r, c) for r in range(2) for c in range(clients)]
        assert sorted(stage.counted()) == expected
        assert not stage.desk.open_jobs

    run_in_virtual_time(main())
