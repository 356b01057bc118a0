"""What leases are told of their orders' worth, and whose voice counts once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from requestor.marketplace.money.spending import Prices
from requestor.marketplace.ports import LeaseInfo, LeaseLost, OrderFailed
from requestor.training_run import events

if TYPE_CHECKING:
    from tests.requestor.conftest import RunInVirtualTime
    from tests.requestor.training_run.stage import FakeLease, Theatre

UNUSABLE = "unusable"
STEPS = 10


def told(lease: FakeLease) -> list[tuple[int, float]]:
    """What a lease was told: useful steps, and after how many seconds."""
    return [(steps, round(seconds, 6)) for steps, seconds in lease.assessed]


def test_useful_steps_count_and_the_time_of_all_orders(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        failing = theatre.lease("failing", 1.0, [OrderFailed("no"), 2.0])
        stage = theatre.stage(theatre.pool(failing), speculate=False)
        async with stage.dispatcher:
            await stage.run(theatre.plan(2))
        # a second for nothing, then 2 s and 1 s for ten steps each
        assert told(failing) == [(0, 1.0), (STEPS, 2.0), (STEPS, 1.0)]
        assert stage.pool.reviews == 1

    run_in_virtual_time(main())


def test_what_is_lost_or_unusable_is_worth_nothing_and_named(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        lost = theatre.lease("lost", 1.0, [LeaseLost("gone")])
        bad = theatre.lease("bad", 1.0, [UNUSABLE])
        twice = theatre.lease("twice", 1.0, [OrderFailed("no"), OrderFailed("no")])
        good = theatre.lease("good", 3.0)
        stage = theatre.stage(theatre.pool(lost, bad, twice, good), speculate=False)
        async with stage.dispatcher:
            await stage.run(theatre.plan(6))
        assert told(lost) == told(bad) == [(0, 1.0)]
        assert told(twice) == [(0, 1.0)] * 2
        assert sum(steps for steps, _ in good.assessed) == 6 * STEPS
        assert (bad.failures, twice.failures) == (["bad_result"], ["failed_orders"])

    run_in_virtual_time(main())


def test_late_work_costs_its_time_and_a_losing_copy_nothing(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        slow, fast = theatre.lease("slow", 4.0), theatre.lease("fast", 1.0)
        stage = theatre.stage(theatre.pool(slow, fast))
        async with stage.dispatcher:
            for round_index in range(3):
                await stage.run(theatre.plan(3, round_index=round_index))
            await stage.run(theatre.plan(9, round_index=3))
        useful = {lease: sum(steps for steps, _ in lease.assessed) for lease in (slow, fast)}
        counted = [e for _, e in stage.log if isinstance(e, events.OrderDone) and e.counts]
        late = [e for _, e in stage.log if isinstance(e, events.OrderDone) and not e.counts]
        copies = {
            (e.round, e.client, e.lease)
            for _, e in stage.log
            if isinstance(e, events.OrderSent) and e.is_copy
        }
        assert sum(useful.values()) == STEPS * len(counted)
        originals = [e for e in late if (e.round, e.client, e.lease) not in copies]
        assert originals
        useless = [seconds for lease in (slow, fast) for steps, seconds in told(lease) if not steps]
        assert sorted(useless) == pytest.approx(sorted(e.seconds for e in originals))

    run_in_virtual_time(main())


def test_two_nodes_of_one_wallet_are_one_voice() -> None:
    def info(node: str, wallet: str | None) -> LeaseInfo:
        return LeaseInfo("L", "n", node, "a", Prices(), wallet)

    assert info("0x1", "0xw").voice == info("0x2", "0xw").voice == "0xw"
    assert info("0x1", None).voice == "0x1"
