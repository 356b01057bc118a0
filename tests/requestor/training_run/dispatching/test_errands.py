"""Errands: orders that go out once more to whoever suits, between the leases' own items."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

from requestor.federation.rounds import WorkItem
from requestor.marketplace.ports import Job, LeaseInfo, LeaseLost, OrderFailed
from requestor.training_run import events
from requestor.training_run.auditing.witnesses import Answer, ProviderWitnesses
from requestor.training_run.dispatching.errands import Errands
from requestor.training_run.orders.deliveries import Delivery, Source

if TYPE_CHECKING:
    from tests.requestor.conftest import RunInVirtualTime
    from tests.requestor.training_run.stage import FakeDesk, Stage, Theatre


class WitnessDesk:
    """A desk that keeps nothing."""

    def __init__(self, desk: FakeDesk) -> None:
        self.desk = desk

    def job(self, item: WorkItem, lease: str, attempt: int) -> Job:
        return self.desk.job(item, lease, attempt)

    def inspect(
        self, item: WorkItem, job: Job, claimed: Mapping[str, str], source: Source | None = None
    ) -> Delivery:
        return self.desk.receive(item, job, claimed, source)

    def discard(self, job: Job) -> None:
        self.desk.discard(job)


class Inquiry:
    """Asks the leases of a stage for the first item of a round."""

    def __init__(self, theatre: Theatre, stage: Stage, errands: Errands) -> None:
        self.desk = WitnessDesk(stage.desk)
        self.item = theatre.plan(1).items[0]
        self.sent = theatre.delivery(self.item)
        self.odd: set[str] = set()
        self.witnesses = ProviderWitnesses(errands, self.has_bits)

    def has_bits(self, info: LeaseInfo, _: Delivery) -> bool:
        return info.id not in self.odd

    async def ask(self, *barred: str, seconds: float = 100.0) -> Answer:
        return await self.witnesses.ask(
            self.item, self.desk, self.sent, barred=barred, seconds=seconds
        )


def test_an_idle_lease_does_it_and_it_counts_in_no_round(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        willow, hazel, birch = (theatre.lease(name) for name in ("willow", "hazel", "birch"))
        errands = Errands()
        stage = theatre.stage(theatre.pool(willow, hazel, birch), errands=errands)
        inquiry = Inquiry(theatre, stage, errands)
        inquiry.odd = {"birch"}
        async with stage.dispatcher:
            answer = await inquiry.ask("0xwillow")
            assert answer.voice == "0xhazel" and answer.delivery is not None
            assert [len(one.orders) for one in (willow, hazel, birch)] == [0, 1, 0]
            assert await stage.run(theatre.plan(4)) == [0, 1, 2, 3]
        (done,) = [e for e in stage.events(events.OrderDone) if e.is_audit]  # type: ignore[attr-defined]
        assert done.lease == "hazel" and not done.counts  # type: ignore[attr-defined]
        assert not stage.desk.open_jobs
        assert hazel.assessed[0][0] > 0  # it has worked, and is paid

    run_in_virtual_time(main())


def test_who_vanishes_or_fails_with_it_costs_that_answer_only(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        for act in (LeaseLost("it vanished"), OrderFailed("no memory"), theatre.unusable):
            lease = theatre.lease("willow", script=[act])
            errands = Errands()
            stage = theatre.stage(theatre.pool(lease, theatre.lease("hazel")), errands=errands)
            inquiry = Inquiry(theatre, stage, errands)
            async with stage.dispatcher:
                assert await inquiry.ask("0xhazel") == Answer(None, "0xwillow")
                assert await stage.run(theatre.plan(2)) == [0, 1]
            assert not stage.desk.open_jobs

    run_in_virtual_time(main())


def test_nobody_is_waited_for_when_all_is_in_and_nobody_suits(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        errands = Errands()
        stage = theatre.stage(theatre.pool(theatre.lease("willow")), errands=errands)
        inquiry = Inquiry(theatre, stage, errands)
        async with stage.dispatcher:
            inquiry.witnesses.wait_less(is_all_in=True)
            assert await inquiry.ask("0xwillow") == Answer()
            assert stage.now < 10
            inquiry.witnesses.wait_less(is_all_in=False)
            asked = asyncio.create_task(inquiry.ask("0xwillow"))
            await asyncio.sleep(20)  # while the round goes on, somebody may still come
            stage.pool.arrive(theatre.lease("hazel"))
            assert (await asked).voice == "0xhazel"

    run_in_virtual_time(main())


def test_a_hanging_witness_is_waited_for_so_long(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        errands = Errands()
        lease = theatre.lease("willow", script=[1000.0])
        stage = theatre.stage(theatre.pool(lease), errands=errands)
        inquiry = Inquiry(theatre, stage, errands)
        async with stage.dispatcher:
            assert await inquiry.ask(seconds=30.0) == Answer(None, "0xwillow")
            assert stage.now == pytest.approx(30.0, abs=1.0)
        assert not stage.desk.open_jobs

    run_in_virtual_time(main())


def test_nothing_goes_out_without_money(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        errands = Errands()
        lease = theatre.lease("willow")
        stage = theatre.stage(theatre.pool(lease), errands=errands)
        stage.pool.spending.may_spend_seconds = lambda now_seconds: 0.0  # type: ignore[method-assign]
        inquiry = Inquiry(theatre, stage, errands)
        async with stage.dispatcher:
            inquiry.witnesses.wait_less(is_all_in=True)
            assert await inquiry.ask() == Answer()
        assert lease.orders == []

    run_in_virtual_time(main())
