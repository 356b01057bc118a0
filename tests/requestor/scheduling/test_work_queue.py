"""The queue of work items: pulling, failing, doubling stragglers, giving up."""

from __future__ import annotations

from collections import Counter
from random import Random
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from requestor.scheduling.work_queue import MAX_COPIES, SPECULATION_FACTOR, Ticket, WorkQueue


def taken(ticket: Ticket[str] | None) -> Ticket[str]:
    """The ticket, which must be there."""
    assert ticket is not None
    return ticket


def test_items_are_handed_out_in_order_and_once() -> None:
    queue = WorkQueue(["a", "b"], max_attempts=3)
    first, second = taken(queue.take("L", 0.0)), taken(queue.take("M", 1.0))
    assert (first.item, first.lease, first.is_copy) == ("a", "L", False)
    assert (second.item, second.started_seconds) == ("b", 1.0)
    assert queue.take("N", 99.0) is None
    assert queue.running == 2
    assert queue.finish(first, 2.0)
    assert queue.finish(second, 2.0)
    assert queue.is_settled
    assert queue.done == ("a", "b")
    assert queue.running == 0


def test_a_queue_of_nothing_is_settled() -> None:
    assert WorkQueue[str]([], max_attempts=1).is_settled


def test_an_item_is_queued_once() -> None:
    with pytest.raises(ValueError, match="an item is queued twice"):
        WorkQueue(["a", "a"], max_attempts=1)


def test_a_failed_item_goes_to_the_end_and_is_given_up_with_its_reasons() -> None:
    queue = WorkQueue(["a", "b"], max_attempts=2)
    queue.fail(taken(queue.take("L", 0.0)), "it broke")
    assert taken(queue.take("L", 1.0)).item == "b"
    again = taken(queue.take("M", 1.0))
    assert again.item == "a"
    assert queue.abandoned == {}
    queue.fail(again, "it broke again")
    assert queue.abandoned == {"a": ("it broke", "it broke again")}
    assert queue.take("N", 2.0) is None
    assert not queue.is_settled


def test_an_item_given_back_comes_first_and_costs_no_attempt() -> None:
    queue = WorkQueue(["a", "b"], max_attempts=1)
    queue.give_back(taken(queue.take("L", 0.0)))
    assert queue.abandoned == {}
    assert taken(queue.take("M", 0.0)).item == "a"


def test_a_straggler_gets_one_copy_on_another_lease() -> None:
    queue = WorkQueue(["a", "b"], max_attempts=3, typical_seconds=10.0)
    original = taken(queue.take("L", 0.0))
    queue.finish(taken(queue.take("M", 0.0)), 10.0)
    assert queue.next_look_seconds("M") == 15.0
    assert queue.next_look_seconds("L") is None
    assert queue.take("M", 14.9) is None
    assert queue.take("L", 99.0) is None
    copy = taken(queue.take("M", 15.0))
    assert (copy.item, copy.is_copy) == ("a", True)
    assert queue.take("N", 99.0) is None
    assert queue.finish(copy, 20.0)
    assert not queue.finish(original, 21.0)
    assert queue.done == ("a", "b")


def test_the_oldest_straggler_is_doubled_first() -> None:
    queue = WorkQueue(["a", "b"], max_attempts=3, typical_seconds=1.0)
    queue.take("L", 5.0)
    queue.take("M", 3.0)
    assert taken(queue.take("N", 100.0)).item == "b"
    assert taken(queue.take("N", 100.0)).item == "a"


def test_without_speculation_or_experience_nothing_is_doubled() -> None:
    careful = WorkQueue(["a"], max_attempts=3, speculate=False, typical_seconds=1.0)
    unknowing = WorkQueue(["a"], max_attempts=3)
    for queue in (careful, unknowing):
        queue.take("L", 0.0)
        assert queue.take("M", 1e6) is None
        assert queue.next_look_seconds("M") is None


def test_what_is_typical_is_the_median_of_this_round() -> None:
    queue = WorkQueue(["a", "b", "c"], max_attempts=1, typical_seconds=50.0)
    assert queue.typical_seconds == 50.0
    tickets = [taken(queue.take(lease, 0.0)) for lease in "LMN"]
    for ticket, now in zip(tickets, (3.0, 4.0, 8.0), strict=True):
        queue.finish(ticket, now)
    assert queue.typical_seconds == 4.0


def test_a_failed_original_leaves_the_copy_alone() -> None:
    queue = WorkQueue(["a"], max_attempts=1, typical_seconds=1.0)
    original = taken(queue.take("L", 0.0))
    copy = taken(queue.take("M", 2.0))
    queue.fail(original, "lost")
    assert queue.running == 1
    assert queue.abandoned == {}
    assert queue.finish(copy, 3.0)
    assert queue.is_settled
    assert queue.done == ("a",)


def test_an_item_that_failed_too_often_gets_no_more_copies() -> None:
    queue = WorkQueue(["a"], max_attempts=2, typical_seconds=1.0)
    queue.take("slow", 0.0)
    for lease in "LM":
        queue.fail(taken(queue.take(lease, 10.0)), f"{lease} broke it")
    assert queue.take("N", 10.0) is None
    assert queue.next_look_seconds("N") is None


def test_an_item_given_back_after_its_last_attempt_stays_given_up() -> None:
    queue = WorkQueue(["a"], max_attempts=1, typical_seconds=1.0)
    original = taken(queue.take("L", 0.0))
    queue.fail(taken(queue.take("M", 2.0)), "broke it")
    queue.give_back(original)
    assert queue.abandoned == {"a": ("broke it",)}
    assert queue.is_settled
    assert queue.take("N", 3.0) is None


def test_who_failed_an_item_gets_it_again_when_all_others_have_failed_it_as_often() -> None:
    queue = WorkQueue(["a"], max_attempts=9)
    live = {"bad", "worse", "good"}

    def take(provider: str, live_providers: set[str]) -> Ticket[str] | None:
        return queue.take(
            f"{provider} again", 0.0, provider=provider, live_providers=live_providers
        )

    queue.fail(taken(take("bad", live)), "no")
    assert take("bad", live) is None
    assert take("bad", live - {"worse"}) is None
    queue.fail(taken(take("worse", live)), "no")
    assert take("bad", live) is None
    assert take("worse", live) is None
    queue.fail(taken(take("bad", live - {"good"})), "no")
    assert take("bad", live - {"good"}) is None
    queue.fail(taken(take("worse", live - {"good"})), "no")
    queue.fail(taken(take("bad", {"bad"})), "no")
    assert taken(take("good", live)).provider == "good"


def test_an_item_that_a_lease_may_not_try_does_not_block_those_behind_it() -> None:
    queue = WorkQueue(["a", "b"], max_attempts=3)
    live = {"bad", "good"}
    first = taken(queue.take("L", 0.0, provider="bad", live_providers=live))
    second = taken(queue.take("M", 0.0, provider="good", live_providers=live))
    queue.fail(first, "no")
    queue.give_back(second)
    queue.fail(taken(queue.take("M", 0.0, provider="good", live_providers=live)), "no")
    assert taken(queue.take("L", 0.0, provider="bad", live_providers=live)).item == "b"


def test_who_failed_or_has_an_item_gets_no_copy_of_it() -> None:
    queue = WorkQueue(["a"], max_attempts=9, typical_seconds=1.0)
    queue.fail(taken(queue.take("L", 0.0, provider="bad")), "no")
    queue.take("M", 0.0, provider="slow")
    for provider in ("bad", "slow"):
        assert queue.take("N", 99.0, provider=provider) is None
        assert queue.next_look_seconds("N", provider=provider) is None
    assert queue.next_look_seconds("N", provider="good") == 1.5
    assert taken(queue.take("N", 99.0, provider="good")).is_copy


def test_an_item_that_was_given_up_can_be_renewed() -> None:
    queue = WorkQueue(["a"], max_attempts=2)
    with pytest.raises(ValueError, match="only an item that was given up"):
        queue.renew("a")
    for _ in range(2):
        queue.fail(taken(queue.take("L", 0.0)), "no")
    assert queue.is_settled
    queue.renew("a")
    assert not queue.is_settled
    assert queue.abandoned == {}
    queue.fail(taken(queue.take("L", 0.0)), "no")
    assert queue.finish(taken(queue.take("L", 0.0)), 1.0)
    assert queue.done == ("a",)


def test_a_ticket_counts_once() -> None:
    queue = WorkQueue(["a"], max_attempts=3)
    ticket = taken(queue.take("L", 0.0))
    assert queue.finish(ticket, 1.0)
    assert not queue.finish(ticket, 1.0)
    queue.fail(ticket, "too late")
    queue.give_back(ticket)
    assert queue.is_settled
    assert queue.done == ("a",)
    assert queue.abandoned == {}


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "finish", "fail", "give_back"]),
        st.integers(0, 3),
        st.sampled_from([0.0, 0.5, 4.0]),
    ),
    min_size=20,
    max_size=80,
)


class Witness:
    """Drives a queue and notes, independently of it, what must hold."""

    def __init__(self, items: int, max_attempts: int, speculate: bool) -> None:
        self.items = items
        self.max_attempts = max_attempts
        self.queue = WorkQueue(
            list(range(items)), max_attempts=max_attempts, speculate=speculate, typical_seconds=1.0
        )
        self.now = 0.0
        self.out: dict[str, Ticket[int]] = {}
        self.done: set[int] = set()
        self.failures = dict.fromkeys(range(items), 0)
        self.failed_by: Counter[tuple[int, str]] = Counter()
        self.durations: list[float] = []

    def take(self, lease: str) -> bool:
        """Take for an idle lease; check all that holds of a ticket."""
        if lease in self.out:
            return False
        holders = {
            item: [t for t in self.out.values() if t.item == item] for item in range(self.items)
        }
        provider, live = self.providers(lease)
        ticket = self.queue.take(lease, self.now, provider=provider, live_providers=live)
        if ticket is None:
            return False
        own = self.failed_by[ticket.item, provider]
        assert all(self.failed_by[ticket.item, other] >= own for other in live) or own == 0
        others = holders[ticket.item]
        assert ticket.lease == lease
        assert ticket.item not in self.done
        assert self.failures[ticket.item] < self.max_attempts
        assert len(others) < MAX_COPIES
        assert ticket.is_copy is bool(others)
        if others:
            typical = median(self.durations) if self.durations else 1.0
            assert self.now - others[0].started_seconds >= SPECULATION_FACTOR * typical
        self.out[lease] = ticket
        return True

    def providers(self, lease: str) -> tuple[str, list[str]]:
        """The provider of a lease (two have the same) and all that are at work."""
        alive = ["last"] if lease == "last" else [f"lease {i}" for i in range(4)]
        names = {"lease 3": "lease 2"}
        return names.get(lease, lease), [names.get(one, one) for one in alive]

    def finish(self, lease: str) -> None:
        """Deliver what a lease has in hand."""
        if (ticket := self.out.pop(lease, None)) is None:
            return
        self.durations.append(self.now - ticket.started_seconds)
        assert self.queue.finish(ticket, self.now) is (ticket.item not in self.done)
        self.done.add(ticket.item)

    def fail(self, lease: str) -> None:
        """Fail what a lease has in hand."""
        if (ticket := self.out.pop(lease, None)) is None:
            return
        self.queue.fail(ticket, f"failure {self.failures[ticket.item]}")
        if ticket.item not in self.done:
            self.failures[ticket.item] += 1
            self.failed_by[ticket.item, ticket.provider] += 1

    def give_back(self, lease: str) -> None:
        """Give back what a lease has in hand."""
        if (ticket := self.out.pop(lease, None)) is not None:
            self.queue.give_back(ticket)

    def check(self) -> None:
        """Compare the queue's view with the notes."""
        assert set(self.queue.done) == self.done
        running = [t for t in self.out.values() if t.item not in self.done]
        assert self.queue.running == len(running)
        given_up = {
            item
            for item, failures in self.failures.items()
            if item not in self.done
            and failures >= self.max_attempts
            and all(ticket.item != item for ticket in running)
        }
        assert {item: len(why) for item, why in self.queue.abandoned.items()} == {
            item: self.failures[item] for item in given_up
        }
        assert self.queue.is_settled is (len(self.done) + len(given_up) == self.items)
        assert max(self.failures.values(), default=0) < self.max_attempts + MAX_COPIES


@given(st.integers(0, 3), st.integers(1, 4), st.booleans(), ACTIONS)
@settings(max_examples=300)
def test_any_course_of_events_ends_with_every_item_done_or_given_up(
    items: int, max_attempts: int, speculate: bool, actions: list[tuple[str, int, float]]
) -> None:
    witness = Witness(items, max_attempts, speculate)
    for action, lease, seconds in actions:
        witness.now += seconds
        getattr(witness, action)(f"lease {lease}")
        witness.check()
    for holder in list(witness.out):
        witness.fail(holder)
    # a last lease does whatever is left: no item may have been lost on the way
    while witness.take("last"):
        witness.finish("last")
    witness.check()
    assert witness.queue.is_settled


@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.lists(st.sampled_from(["fail", "finish", "give_back"]), max_size=60),
    st.randoms(use_true_random=False),
)
def test_while_all_ask_and_nobody_has_anything_somebody_always_gets_something(
    providers: int, max_attempts: int, outcomes: list[str], random: Random
) -> None:
    """Nothing waits for ever, whoever failed what; at the end everything is done or given up."""
    queue = WorkQueue(list(range(3)), max_attempts=max_attempts, speculate=False)
    live = [f"provider {i}" for i in range(providers)]
    while not queue.is_settled:
        random.shuffle(live)
        tickets = [queue.take(name, 0.0, provider=name, live_providers=live) for name in live]
        out = [ticket for ticket in tickets if ticket is not None]
        assert out
        for ticket in out:
            match outcomes.pop() if outcomes else "fail":
                case "finish":
                    queue.finish(ticket, 1.0)
                case "give_back":
                    queue.give_back(ticket)
                case _:
                    queue.fail(ticket, "no")
    assert set(queue.done) | set(queue.abandoned) == set(range(3))


@given(st.integers(1, 4), st.integers(0, 3))
def test_an_honest_provider_is_waited_for_however_others_fail(bad: int, spare: int) -> None:
    """One failure for each of the others: then the item waits for whoever has not failed it."""
    queue = WorkQueue(["a"], max_attempts=bad + 1 + spare)
    live = ["honest", *(f"bad {i}" for i in range(bad))]
    for _ in range(5):
        for name in live[1:]:
            ticket = queue.take(name, 0.0, provider=name, live_providers=live)
            if ticket is not None:
                queue.fail(ticket, "no")
    assert queue.finish(taken(queue.take("honest", 9.0, live_providers=live)), 10.0)
