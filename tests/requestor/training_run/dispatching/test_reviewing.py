"""Reviewers that object: what is taken out, who does it again, and when a round can go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from requestor.errors import BudgetReached, Interrupted, RunFailed
from requestor.federation.rounds import RoundPlan
from requestor.federation.voices import VoicePlan
from requestor.training_run import events
from requestor.training_run.dispatching.reviewing import Objection, ObjectionKind
from requestor.training_run.orders.deliveries import Delivery, Rejection
from requestor.training_run.orders.round_files import RoundFiles

if TYPE_CHECKING:
    from tests.requestor.conftest import RunInVirtualTime
    from tests.requestor.training_run.stage import Stage, Theatre


ONE_LIAR = VoicePlan(faulty_voices=1, most_items=1, faulty_items=1)


@dataclass
class Critic:
    """Objects to whatever comes from some voices, or, if told, is asked something else."""

    voices: Sequence[str] = ()
    kind: ObjectionKind = "screened"
    seconds: float = 0.0
    is_against: Callable[[Delivery], bool] | None = None
    noted: list[int] = field(default_factory=list)
    compared: list[tuple[int, bool]] = field(default_factory=list)
    reviews: list[list[int]] = field(default_factory=list)

    def begin(self, plan: RoundPlan, files: RoundFiles) -> None:
        raise AssertionError("the run loop's business")

    def note(self, delivery: Delivery) -> None:
        self.noted.append(delivery.update.item.client)

    def compare(self, first: Delivery, second: Delivery) -> None:
        assert first.update.item == second.update.item
        equal = first.result_sha256 == second.result_sha256
        self.compared.append((first.update.item.client, equal))

    async def review(self, plan: RoundPlan, deliveries: Sequence[Delivery]) -> Sequence[Objection]:
        self.reviews.append([delivery.update.item.client for delivery in deliveries])
        if self.seconds:
            await asyncio.sleep(self.seconds)
        against = self.is_against or (lambda delivery: delivery.update.voice in self.voices)
        return [Objection(d, self.kind, "too long") for d in deliveries if against(d)]


def rejected(stage: Stage) -> list[tuple[Any, ...]]:
    """(client, provider, objection, is redone) of what was rejected."""
    return [
        (event.client, event.provider_name, event.objection, event.is_redone)
        for event in stage.events(events.DeliveryRejected)
        if isinstance(event, events.DeliveryRejected)
    ]


def test_reviewers_hear_of_all_and_are_asked_once_if_nobody_objects(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        critics = [Critic(), Critic()]
        stage = theatre.stage(theatre.pool(theatre.lease("L")), reviewers=critics)
        what = theatre.plan(3)
        stage.desk.kept = {what.items[1]: theatre.delivery(what.items[1])}
        async with stage.dispatcher:
            assert await stage.run(what) == [0, 1, 2]
        for critic in critics:
            assert critic.noted == [1, 0, 2]  # what a crash left comes first
            assert critic.reviews == [[0, 1, 2]]
        assert stage.harvest.missing == 0

    run_in_virtual_time(main())


@pytest.mark.parametrize(("kind", "failure"), [("screened", "bad_result"), ("fraud", "faked_work")])
def test_what_is_objected_to_is_done_by_another_voice(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre, kind: ObjectionKind, failure: str
) -> None:
    async def main() -> None:
        liar, honest = theatre.lease("liar", 1.0), theatre.lease("honest", 1.5)
        critic = Critic(["0xliar"], kind)
        stage = theatre.stage(theatre.pool(liar, honest), reviewers=[critic], speculate=False)
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(4)) == [0, 1, 2, 3]
        assert {d.update.voice for d in stage.harvest.deliveries} == {"0xhonest"}
        assert liar.releases == [("too long", True)]
        assert liar.failures == [failure]
        assert not honest.releases
        # liar did 0 and 2, honest 1 and 3
        assert rejected(stage) == [(0, "node liar", kind, True), (2, "node liar", kind, True)]
        assert critic.reviews == [[0, 1, 2, 3], [0, 1, 2, 3]]
        assert sorted(item.client for item in stage.desk.rejected) == [0, 2]
        assert stage.harvest.missing == 0
        assert len(stage.harvest.rejections) == 2

    run_in_virtual_time(main())


def test_what_nobody_may_do_again_is_left_out_in_the_end_if_that_is_tolerated(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        crowd = [theatre.lease(f"L{i}") for i in range(5)]
        critic = Critic(["0xL2"])
        stage = theatre.stage(theatre.pool(*crowd), reviewers=[critic], round_deadline_seconds=90.0)
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(5, voices=ONE_LIAR)) == [0, 1, 3, 4]
            assert 90 <= stage.now < 92
        assert stage.harvest.missing == 1
        assert rejected(stage) == [(2, "node L2", "screened", True)]
        assert crowd[2].failures == ["bad_result"]

    run_in_virtual_time(main())


def test_more_than_is_tolerated_is_all_done_again(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        crowd = [theatre.lease(f"L{i}") for i in range(5)]
        critic = Critic(["0xL2", "0xL4"])
        stage = theatre.stage(theatre.pool(*crowd), reviewers=[critic])
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(5, voices=VoicePlan(1, 2, 1))) == [0, 1, 2, 3, 4]
        assert stage.harvest.missing == 0
        assert rejected(stage) == [
            (2, "node L2", "screened", True),
            (4, "node L4", "screened", True),
        ]

    run_in_virtual_time(main())


@pytest.mark.parametrize("quorum", [3, 4])
def test_what_was_rejected_is_done_again_though_the_quorum_would_bear_it(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre, quorum: int
) -> None:
    async def main() -> None:
        crowd = [theatre.lease(f"L{i}") for i in range(4)]
        stage = theatre.stage(theatre.pool(*crowd), reviewers=[Critic(["0xL2"])], holds_quorum=True)
        async with stage.dispatcher:
            what = theatre.plan(4, quorum=quorum, voices=VoicePlan(1, 2, 1))
            assert await stage.run(what) == [0, 1, 2, 3]

    run_in_virtual_time(main())


def test_an_item_is_tried_so_often_and_the_message_says_why(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        crowd = [theatre.lease(f"L{i}") for i in range(5)]
        critic = Critic(is_against=lambda delivery: delivery.update.item.client == 0)
        stage = theatre.stage(theatre.pool(*crowd), reviewers=[critic], max_attempts=3)
        async with stage.dispatcher:
            with pytest.raises(RunFailed, match="client 0 was given up after") as caught:
                await stage.run(theatre.plan(2))
        assert caught.value.message.count("too long") == 3
        assert len(rejected(stage)) == 3
        assert len({provider for _, provider, _, _ in rejected(stage)}) == 3

    run_in_virtual_time(main())


def test_who_was_rejected_waits_for_somebody_else_until_the_deadline(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        # of one wallet, so the second may not do what the first is not trusted with
        pair = [theatre.lease(name, wallet="0xpurse") for name in ("left", "right")]
        critic = Critic(["0xpurse"])
        stage = theatre.stage(theatre.pool(*pair), reviewers=[critic], round_deadline_seconds=90.0)
        async with stage.dispatcher:
            with pytest.raises(RunFailed, match="may be done by none") as caught:
                await stage.run(theatre.plan(1))
        assert 90 <= stage.now < 92
        assert "golem.providers" in str(caught.value.fix)
        assert "too long" in caught.value.message
        assert sum(len(lease.orders) for lease in pair) == 1

    run_in_virtual_time(main())


def test_a_replacement_does_what_others_may_not(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        pair = [theatre.lease(name, wallet="0xpurse") for name in ("left", "right")]
        stage = theatre.stage(
            theatre.pool(*pair), reviewers=[Critic(["0xpurse"])], round_deadline_seconds=90.0
        )
        honest = theatre.lease("honest")
        asyncio.get_running_loop().call_later(50.0, stage.pool.arrive, honest)
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(2)) == [0, 1]
        assert len(honest.orders) == 2

    run_in_virtual_time(main())


def test_fraud_ends_the_leases_of_the_node_and_of_no_other_that_names_its_wallet(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main(kind: ObjectionKind) -> list[bool]:
        crowd = [theatre.lease(name, wallet="0xpurse") for name in ("left", "right")]
        crowd += [theatre.lease(f"L{i}") for i in range(2)]
        critic = Critic(kind=kind, is_against=lambda d: bool(d.source and d.source.lease == "left"))
        stage = theatre.stage(theatre.pool(*crowd), reviewers=[critic])
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(4)) == [0, 1, 2, 3]
            await asyncio.sleep(2)  # drivers that were told to leave have left
            ended = stage.events(events.LeaseEnded)
            assert len(ended) == sum(bool(lease.releases) for lease in crowd)
        return [bool(lease.releases) for lease in crowd]

    assert run_in_virtual_time(main("fraud")) == [True, False, False, False]
    assert run_in_virtual_time(main("screened")) == [True, False, False, False]


def test_a_dismissed_lease_s_order_goes_to_somebody_else(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        liar, honest = theatre.lease("liar", 1.0), theatre.lease("honest", 1.0)
        stage = theatre.stage(theatre.pool(liar, honest))
        asyncio.get_running_loop().call_later(
            0.5, stage.dispatcher.dismiss, "0xliar", "it faked earlier work", "bad_result"
        )
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(6)) == list(range(6))
        assert liar.releases == [("it faked earlier work", True)]
        assert len(liar.orders) <= 2

    run_in_virtual_time(main())


def test_the_second_of_two_deliveries_is_shown_to_reviewers(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        slow, fast = theatre.lease("slow", 10.0), theatre.lease("fast", 1.0)
        critic = Critic()
        stage = theatre.stage(theatre.pool(slow, fast), reviewers=[critic])
        async with stage.dispatcher:
            await stage.run(theatre.plan(3))
            await stage.run(theatre.plan(20, round_index=1))
        assert critic.compared[0] == (0, True)

    run_in_virtual_time(main())


@pytest.mark.parametrize("ending", ["stop", "money", "failure"])
def test_a_long_review_is_broken_off(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre, ending: str
) -> None:
    async def main() -> None:
        class Failing(Critic):
            async def review(
                self, plan: RoundPlan, deliveries: Sequence[Delivery]
            ) -> Sequence[Objection]:
                await super().review(plan, deliveries)
                raise ValueError("the reviewer is at fault")

        critic = Failing(seconds=50.0)
        stage = theatre.stage(theatre.pool(theatre.lease("L")), reviewers=[critic])
        loop = asyncio.get_running_loop()
        expected: type[Exception] = ValueError
        if ending == "stop":
            loop.call_later(5.0, stage.stop.set)
            expected = Interrupted
        elif ending == "money":
            guard = stage.pool.spending
            loop.call_later(5.0, setattr, guard, "may_spend_seconds", lambda now: 0.0)
            expected = BudgetReached
        async with stage.dispatcher:
            with pytest.raises(expected):
                await stage.run(theatre.plan(1))
        assert stage.now <= (52 if ending == "failure" else 6)

    run_in_virtual_time(main())


def test_what_was_rejected_before_a_crash_is_done_again(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        what = theatre.plan(3, voices=VoicePlan(1, 2, 1))
        critic = Critic()
        stage = theatre.stage(
            theatre.pool(theatre.lease("L"), theatre.lease("M")), reviewers=[critic]
        )
        stage.desk.kept = {what.items[0]: theatre.delivery(what.items[0])}
        stage.desk.rejected = {what.items[2]: [Rejection("screened", "too long", "digest")]}
        async with stage.dispatcher:
            assert await stage.run(what) == [0, 1, 2]
        assert stage.harvest.missing == 0
        assert list(stage.harvest.rejections) == [what.items[2]]

    run_in_virtual_time(main())
