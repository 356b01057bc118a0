"""This machine does what none of those at work may do: when, what, and what comes of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

import pytest

from requestor.errors import RunFailed
from requestor.federation.rounds import RoundPlan
from requestor.federation.voices import VoicePlan
from requestor.marketplace.ports import LeaseLost, OrderFailed
from requestor.training_run import events
from requestor.training_run.dispatching.last_resort import grace_seconds
from requestor.training_run.dispatching.reviewing import Objection, ObjectionKind
from requestor.training_run.orders.deliveries import Delivery
from requestor.training_run.orders.round_files import RoundFiles

if TYPE_CHECKING:
    from tests.requestor.conftest import RunInVirtualTime
    from tests.requestor.training_run.stage import FakeLease, Stage, Theatre

ONE_LIAR = VoicePlan(faulty_voices=1, most_items=1, faulty_items=1)
OWN = "this machine"


class Critic:
    """Objects to what some voices deliver, and to all that is done of some clients."""

    def __init__(
        self,
        voices: Sequence[str] = (),
        clients: Sequence[int] = (),
        kind: ObjectionKind = "screened",
    ) -> None:
        self.voices, self.clients = voices, clients
        self.kind: ObjectionKind = kind

    def begin(self, plan: RoundPlan, files: RoundFiles) -> None:
        raise AssertionError("the run loop's business")

    def note(self, delivery: Delivery) -> None: ...

    def compare(self, first: Delivery, second: Delivery) -> None: ...

    async def review(self, plan: RoundPlan, deliveries: Sequence[Delivery]) -> Sequence[Objection]:
        return [
            Objection(one, self.kind, "too long")
            for one in deliveries
            if one.update.voice in self.voices or one.update.item.client in self.clients
        ]


def crowd_of(theatre: Theatre, count: int) -> list[FakeLease]:
    return [theatre.lease(f"L{number}") for number in range(count)]


def done_by(stage: Stage) -> dict[int, str]:
    """Who did which client's work."""
    return {
        one.update.item.client: one.source.provider_name if one.source else "?"
        for one in stage.harvest.deliveries
    }


def rejected(stage: Stage) -> list[tuple[int, str, bool]]:
    """(client, provider, is redone) of what was rejected."""
    return [
        (event.client, event.provider_name, event.is_redone)
        for event in stage.events(events.DeliveryRejected)
        if isinstance(event, events.DeliveryRejected)
    ]


@pytest.mark.parametrize(("typical", "grace"), [(None, 2.0), (0.1, 2.0), (7.0, 14.0)])
def test_whoever_may_do_it_has_a_while_to_come(typical: float | None, grace: float) -> None:
    assert grace_seconds(typical) == grace


def test_this_machine_does_what_a_lost_provider_leaves(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        crowd = [*crowd_of(theatre, 4), theatre.lease("lost", 1.0, [LeaseLost("it vanished")])]
        own = theatre.lease("own", 3.0, is_own=True)
        stage = theatre.stage(theatre.pool(*crowd), own_machine=own, speculate=False)
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(5, voices=ONE_LIAR)) == [0, 1, 2, 3, 4]
            # an item takes 1 s, so 2 s of grace, looks each 0.5 s, and our own 3 s
            assert 6.0 <= stage.now <= 7.1
            assert done_by(stage)[4] == OWN
            before = stage.now
            what = theatre.plan(5, round_index=1, voices=ONE_LIAR)
            assert await stage.run(what) == [0, 1, 2, 3, 4]
            assert stage.now - before <= 1 + 0.5 + 3 + 0.1  # nobody came or went: no grace
        assert len(own.orders) == 2
        assert Counter(done_by(stage).values())[OWN] == 1
        notices = [vars(event)["text"] for event in stage.events(events.Notice)]
        assert "this machine does client 4's work" in notices[0]
        assert not any(vars(event)["lease"] == OWN for event in stage.events(events.LeaseOpened))

    run_in_virtual_time(main())


def test_a_provider_that_comes_in_time_does_it(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        crowd = [*crowd_of(theatre, 4), theatre.lease("lost", 1.0, [LeaseLost("it vanished")])]
        own, late = theatre.lease("own", is_own=True), theatre.lease("late")
        stage = theatre.stage(theatre.pool(*crowd), own_machine=own, speculate=False)
        asyncio.get_running_loop().call_later(2.5, stage.pool.arrive, late)
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(5, voices=ONE_LIAR)) == [0, 1, 2, 3, 4]
        assert done_by(stage)[4] == "node late"
        assert not own.orders

    run_in_virtual_time(main())


def test_without_any_provider_this_machine_does_nothing(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        own = theatre.lease("own", is_own=True)
        crowd = [theatre.lease(f"L{n}", 1.0, [LeaseLost("it vanished")]) for n in range(5)]
        stage = theatre.stage(theatre.pool(*crowd), own_machine=own)
        async with stage.dispatcher:
            with pytest.raises(RunFailed, match="no provider was at work"):
                await stage.run(theatre.plan(6, voices=ONE_LIAR))
            assert 60 <= stage.now < 63
        assert not own.orders


@pytest.mark.parametrize(("come_after", "done_here"), [(40.0, 0), (90.0, 4)])
def test_providers_that_are_still_being_made_ready_are_waited_for(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre, come_after: float, done_here: int
) -> None:
    async def main() -> None:
        first, *others = crowd_of(theatre, 5)
        own = theatre.lease("own", is_own=True)
        stage = theatre.stage(theatre.pool(first), own_machine=own)
        for lease in others:
            asyncio.get_running_loop().call_later(come_after, stage.pool.arrive, lease)
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(5, voices=ONE_LIAR)) == [0, 1, 2, 3, 4]
        assert Counter(done_by(stage).values())[OWN] == done_here

    run_in_virtual_time(main())


def test_where_the_market_has_nobody_else_nobody_is_waited_for(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        pool = theatre.pool(*crowd_of(theatre, 4))  # one less than planned for
        pool.awaits_more = False
        stage = theatre.stage(pool, own_machine=theatre.lease("own", is_own=True))
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(5, voices=ONE_LIAR)) == [0, 1, 2, 3, 4]
            # an item takes 1 s, so 2 s of grace, looks each 0.5 s, and our own 1 s
            assert stage.now <= 4.6
        assert Counter(done_by(stage).values())[OWN] == 1

    run_in_virtual_time(main())


@pytest.mark.parametrize("kind", ["screened", "fraud"])
def test_what_was_rejected_is_done_by_this_machine_if_nobody_else_may(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre, kind: ObjectionKind
) -> None:
    async def main() -> None:
        own = theatre.lease("own", is_own=True)
        stage = theatre.stage(
            theatre.pool(*crowd_of(theatre, 5)),
            reviewers=[Critic(["0xL2"], kind=kind)],
            own_machine=own,
        )
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(5, voices=ONE_LIAR)) == [0, 1, 2, 3, 4]
            assert stage.now <= 6.0
        assert done_by(stage)[2] == OWN
        assert rejected(stage) == [(2, "node L2", True)]
        assert stage.harvest.missing == 0

    run_in_virtual_time(main())


def test_an_item_whose_own_result_is_rejected_is_one_of_those_that_may_be_bad(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        own = theatre.lease("own", is_own=True)
        stage = theatre.stage(
            theatre.pool(*crowd_of(theatre, 5)), reviewers=[Critic(clients=[2])], own_machine=own
        )
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(5, voices=ONE_LIAR)) == [0, 1, 3, 4]
        assert len(own.orders) == 1
        assert stage.harvest.missing == 1
        assert rejected(stage) == [(2, "node L2", True), (2, OWN, False)]

    run_in_virtual_time(main())


def test_what_two_voices_agree_on_is_settled_by_this_machine(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        own = theatre.lease("own", is_own=True)
        crowd = crowd_of(theatre, 8)
        stage = theatre.stage(
            theatre.pool(*crowd), reviewers=[Critic(clients=[0])], own_machine=own
        )
        async with stage.dispatcher:
            # with room for others to do it again and again
            voices = VoicePlan(faulty_voices=1, most_items=4, faulty_items=4)
            assert await stage.run(theatre.plan(5, voices=voices)) == [1, 2, 3, 4]
        assert [(client, redone) for client, _, redone in rejected(stage)] == [
            (0, True),
            (0, True),
            (0, False),
        ]
        assert rejected(stage)[-1][1] == OWN

    run_in_virtual_time(main())


def test_where_none_may_be_bad_a_rejected_result_of_our_own_fails_the_round(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        own = theatre.lease("own", is_own=True)
        stage = theatre.stage(
            theatre.pool(*crowd_of(theatre, 3)), reviewers=[Critic(clients=[0])], own_machine=own
        )
        async with stage.dispatcher:
            with pytest.raises(RunFailed, match="client 0 was given up after"):
                await stage.run(theatre.plan(2))
        assert len(rejected(stage)) == 3
        assert stage.now < 20

    run_in_virtual_time(main())


def test_if_this_machine_cannot_do_it_the_round_goes_on_without(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        error = OrderFailed("the local worker does not start")
        own = theatre.lease("own", script=[error] * 9, is_own=True)
        stage = theatre.stage(
            theatre.pool(*crowd_of(theatre, 5)), reviewers=[Critic(["0xL2"])], own_machine=own
        )
        async with stage.dispatcher:
            assert await stage.run(theatre.plan(5, voices=ONE_LIAR)) == [0, 1, 3, 4]
        assert len(own.orders) == 2  # with the rejection, three attempts
        assert stage.harvest.missing == 1

    run_in_virtual_time(main())


def test_what_the_own_machine_fails_is_no_reason_to_do_without_what_was_not_rejected(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        crowd = [*crowd_of(theatre, 4), theatre.lease("lost", 1.0, [LeaseLost("it vanished")])]
        own = theatre.lease("own", script=[theatre.unusable] * 9, is_own=True)
        stage = theatre.stage(theatre.pool(*crowd), own_machine=own)
        async with stage.dispatcher:
            with pytest.raises(RunFailed, match="this machine: policy/weight has values"):
                await stage.run(theatre.plan(5, voices=ONE_LIAR))
        assert len(own.orders) == 2

    run_in_virtual_time(main())


def test_a_round_that_ends_ends_our_work_too(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre
) -> None:
    async def main() -> None:
        crowd = [*crowd_of(theatre, 4), theatre.lease("lost", 1.0, [LeaseLost("it vanished")])]
        own, late = theatre.lease("own", 500.0, is_own=True), theatre.lease("late")
        stage = theatre.stage(theatre.pool(*crowd), own_machine=own)
        asyncio.get_running_loop().call_later(20.0, stage.pool.arrive, late)
        async with stage.dispatcher:
            # who comes later, and may, outruns us
            assert await stage.run(theatre.plan(5, voices=ONE_LIAR)) == [0, 1, 2, 3, 4]
            assert stage.now < 25
            assert done_by(stage)[4] == "node late"
            assert not stage.desk.open_jobs
            ended = [vars(event)["lease"] for event in stage.events(events.LeaseEnded)]
            assert ended == ["lost", OWN]

    run_in_virtual_time(main())


@pytest.mark.parametrize("seed", range(60))
def test_no_round_waits_for_ever_as_long_as_anybody_is_at_work(
    run_in_virtual_time: RunInVirtualTime, theatre: Theatre, seed: int
) -> None:
    """Whatever is lost, fails or is rejected: a round is over long before any deadline, and all
    that is in is right."""

    async def main() -> None:
        random = Random(seed)
        clients, providers = random.randint(1, 9), random.randint(2, 9)
        most = -(-clients // (providers + 1)) + random.randint(0, 2)
        tolerated = random.randint(0, 2)
        mishaps = [LeaseLost("it vanished"), OrderFailed("exit code 3"), None, None]
        crowd = [
            theatre.lease(f"L{n}", random.uniform(0.5, 2), random.choices(mishaps, k=3))
            for n in range(providers)
        ]
        liars = [lease.info.voice for lease in random.sample(crowd, k=random.randint(0, 2))]
        crowd.append(theatre.lease("steady"))
        own = theatre.lease("own", is_own=True)
        stage = theatre.stage(
            theatre.pool(*crowd),
            reviewers=[Critic(liars)],
            own_machine=own,
            max_attempts=20,
        )
        async with stage.dispatcher:
            voices = VoicePlan(faulty_voices=1, most_items=most, faulty_items=tolerated)
            assert await stage.run(theatre.plan(clients, voices=voices)) == list(range(clients))
        assert stage.now < 60
        shares = Counter(one.update.voice for one in stage.harvest.deliveries)
        del shares[""]
        assert max(shares.values(), default=0) <= most
        assert not set(liars) & set(shares)

    run_in_virtual_time(main())
