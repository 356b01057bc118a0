"""Several providers that refuse the same work: who gets it next, and when a state is at fault."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

from requestor.errors import RunFailed
from requestor.marketplace.ports import Job, LeaseLost, OrderFailed
from requestor.training_run import events

if TYPE_CHECKING:
    from tests.requestor.conftest import RunInVirtualTime
    from tests.requestor.training_run.stage import FakeLease, Stage, Theatre

REFUSED = OrderFailed("exit code 3")


@pytest.mark.parametrize("error", [REFUSED, LeaseLost("it vanished")])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_providers_that_fail_at_once_do_not_end_a_run_that_an_honest_one_can_do(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre, count: int, error: Exception
) -> None:
    async def main() -> None:
        honest = theatre.lease("honest", 10.0)
        bad = [theatre.lease(f"bad{i}", 0.05, [error] * 50) for i in range(count)]
        stage = theatre.stage(theatre.pool(honest, *bad), max_attempts=5)
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(2)) == [0, 1]
        assert len(stage.events(events.OrderFailed)) == count
        assert stage.now == pytest.approx(20.0)

    run_in_virtual_time(main())


def test_a_new_lease_on_a_provider_does_not_begin_anew(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    """What the replacements of a lost lease fail counts for the provider behind them."""

    async def main() -> None:
        stage = theatre.stage(theatre.pool(theatre.lease("honest", 10.0)), max_attempts=3)
        for second in range(1, 9):
            again = theatre.lease("bad", 0.05, [LeaseLost("it vanished")] * 50)
            asyncio.get_running_loop().call_later(second, stage.pool.arrive, again)
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(2)) == [0, 1]
        assert len(stage.events(events.OrderFailed)) == 1

    run_in_virtual_time(main())


def test_failing_providers_among_themselves_end_a_run(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        bad = [theatre.lease(f"bad{i}", 0.05, [REFUSED] * 50) for i in range(3)]
        stage = theatre.stage(theatre.pool(*bad), max_attempts=5)
        async with stage.dispatcher:
            with pytest.raises(RunFailed, match="client 0 was given up after") as caught:
                await stage.run(theatre.plan(1))
        assert caught.value.message.count("exit code 3") == 5
        assert stage.now < 60

    run_in_virtual_time(main())


def refusing_states(lease: FakeLease) -> FakeLease:
    """Make a lease refuse every order that hands out a state, as one that is made up would be."""
    execute = lease.execute

    async def refuse(job: Job) -> Mapping[str, str]:
        claimed = await execute(job)
        if job.order.endswith(b" with state"):
            raise REFUSED
        return claimed

    lease.execute = refuse  # type: ignore[method-assign]
    return lease


def notices(stage: Stage) -> list[str]:
    """What a person is told."""
    return [vars(event)["text"] for event in stage.events(events.Notice)]


@pytest.mark.parametrize("clients", [1, 4])
@pytest.mark.parametrize("providers", [2, 3, 6])
def test_a_state_that_all_refuse_is_left_out_and_nobody_is_blamed(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre, providers: int, clients: int
) -> None:
    async def main() -> None:
        leases = [refusing_states(theatre.lease(f"L{i}", 1.0 + i / 8)) for i in range(providers)]
        stage = theatre.stage(theatre.pool(*leases), max_attempts=5, speculate=False)
        stage.desk.states = {0}
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(clients)) == list(range(clients))
        assert len(stage.events(events.OrderFailed)) == 5
        assert notices(stage) == [
            "client 0's state of earlier rounds was refused by several providers; its order goes "
            "out once more without it"
        ]
        assert all(not lease.releases for lease in leases)

    run_in_virtual_time(main())


def test_a_state_stays_while_any_attempt_is_left(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    """Providers that fail everything do not change what an honest one makes of the same order."""

    async def main() -> None:
        bad = [theatre.lease(f"bad{i}", 0.05, [REFUSED] * 50) for i in range(4)]
        honest = theatre.lease("honest", 10.0)
        stage = theatre.stage(theatre.pool(honest, *bad), max_attempts=5)
        stage.desk.states = {0, 1}
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(2)) == [0, 1]
        assert stage.desk.states == {0, 1}
        assert not notices(stage)

    run_in_virtual_time(main())


@pytest.mark.parametrize(
    "errors", [[REFUSED], [LeaseLost("it vanished")] * 2, [REFUSED, LeaseLost("it vanished")]]
)
def test_one_provider_or_lost_leases_say_nothing_of_a_state(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre, errors: list[Exception]
) -> None:
    async def main() -> None:
        leases = [theatre.lease(f"L{i}", 1.0, [error]) for i, error in enumerate(errors)]
        stage = theatre.stage(theatre.pool(*leases), max_attempts=len(errors))
        stage.desk.states = {0}
        async with stage.dispatcher:
            with pytest.raises(RunFailed):
                await stage.run(theatre.plan(1))
        assert stage.desk.states == {0}

    run_in_virtual_time(main())


def test_an_order_without_the_state_that_fails_too_is_given_up(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        bad = [theatre.lease(f"bad{i}", 0.5, [REFUSED] * 50) for i in range(2)]
        stage = theatre.stage(theatre.pool(*bad), max_attempts=2)
        stage.desk.states = {0}
        async with stage.dispatcher:
            with pytest.raises(RunFailed, match="client 0 was given up after"):
                await stage.run(theatre.plan(1))
        assert len(notices(stage)) == 1
        assert len(stage.events(events.OrderFailed)) == 4

    run_in_virtual_time(main())
