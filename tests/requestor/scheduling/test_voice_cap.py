"""No voice does more than its share, nothing waits while somebody may do it, nobody undoes that."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from requestor.scheduling.work_queue import Ticket, WorkQueue


def taken(ticket: Ticket[str] | None) -> Ticket[str]:
    """The ticket, which must be there."""
    assert ticket is not None
    return ticket


def test_who_has_its_share_gets_nothing_more() -> None:
    queue = WorkQueue(["a", "b", "c"], max_attempts=3, most_items=2)
    for lease in ("purse-1", "purse-2"):
        queue.finish(taken(queue.take(lease, 0.0, provider="purse")), 1.0)
    assert queue.take("purse-3", 1.0, provider="purse") is None
    assert queue.is_stuck(["purse"])
    assert not queue.is_stuck(["purse", "other"])
    assert taken(queue.take("other", 1.0)).item == "c"
    assert not queue.is_stuck(["purse"])  # it is out


def test_work_in_hand_counts_and_a_copy_too_until_it_comes_late() -> None:
    queue = WorkQueue(["a", "b", "c"], max_attempts=3, most_items=1, typical_seconds=1.0)
    slow = taken(queue.take("slow", 0.0))
    queue.finish(taken(queue.take("L", 0.0)), 1.0)
    assert queue.take("L", 9.0) is None
    assert queue.next_look_seconds("L") is None
    last = taken(queue.take("M", 0.0))
    copy = taken(queue.take("N", 9.0))
    assert (copy.item, copy.is_copy) == ("a", True)
    queue.fail(last, "lost")
    assert queue.take("N", 9.0) is None
    queue.finish(slow, 10.0)
    assert taken(queue.take("N", 10.0)).item == "c"


def test_what_was_done_before_a_crash_counts() -> None:
    queue = WorkQueue(["a", "b", "c"], max_attempts=3, most_items=1, done={"b": "L", "c": ""})
    assert queue.done == ("b", "c")
    assert queue.take("L", 0.0) is None
    assert taken(queue.take("M", 0.0)).item == "a"


def test_what_was_rejected_goes_to_others_and_counts() -> None:
    queue = WorkQueue(["a", "b"], max_attempts=3, most_items=1)
    queue.finish(taken(queue.take("liar", 0.0)), 1.0)
    queue.reject("a", "it lied", "liar")
    assert queue.withdrawn == ("a",)
    queue.finish(taken(queue.take("L", 0.0)), 1.0)
    assert queue.is_settled  # "a" is withdrawn
    assert queue.take("M", 1.0) is None
    queue.reopen("a")
    assert not queue.is_settled
    assert queue.take("liar", 1.0, live_providers=["liar"]) is None
    assert queue.is_stuck(["liar", "L"])
    assert taken(queue.take("M", 1.0)).item == "a"
    with pytest.raises(ValueError, match="withdrawn"):
        queue.reopen("b")


def test_a_copy_that_is_still_out_makes_up_for_a_rejected_one() -> None:
    queue = WorkQueue(["a"], max_attempts=3, typical_seconds=1.0)
    queue.finish(taken(queue.take("liar", 0.0)), 1.0)
    again = WorkQueue(["a"], max_attempts=3, typical_seconds=1.0)
    original = taken(again.take("liar", 0.0))
    copy = taken(again.take("L", 5.0))
    again.finish(original, 6.0)
    again.reject("a", "it lied", "liar")
    assert again.finish(copy, 7.0)
    assert again.done == ("a",)
    assert again.withdrawn == ()


def test_rejections_use_up_the_attempts() -> None:
    queue = WorkQueue(["a"], max_attempts=2)
    for liar in ("L", "M"):
        queue.finish(taken(queue.take(liar, 0.0)), 1.0)
        queue.reject("a", f"{liar} lied", liar)
        queue.reopen("a")
    assert queue.abandoned == {"a": ("L lied", "M lied")}
    assert queue.is_settled
    assert queue.take("N", 2.0) is None


@given(
    items=st.integers(1, 12),
    voices=st.integers(1, 6),
    most=st.integers(1, 5),
    speculate=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=300, deadline=None)
def test_no_voice_is_ever_above_its_share_and_nothing_waits_without_cause(
    items: int, voices: int, most: int, speculate: bool, seed: int
) -> None:
    random, now = Random(seed), 0.0
    names = [f"i{i}" for i in range(items)]
    queue = WorkQueue(
        names, max_attempts=5, most_items=most, speculate=speculate, typical_seconds=1.0
    )
    leases = {f"V{v}-{n}": f"V{v}" for v in range(voices) for n in range(2)}
    out: dict[str, Ticket[str]] = {}
    owners: dict[str, str] = {}
    rejected: set[tuple[str, str]] = set()
    for _ in range(400):
        now += random.random()
        lease = random.choice(list(leases))
        voice = leases[lease]
        if lease not in out:
            ticket = queue.take(lease, now, provider=voice, live_providers=leases.values())
            if ticket is None:
                continue
            assert (ticket.item, voice) not in rejected
            out[lease] = ticket
            continue
        ticket = out.pop(lease)
        act = random.random()
        if act < 0.15:
            queue.fail(ticket, "it broke")
        elif act < 0.2:
            queue.give_back(ticket)
        elif queue.finish(ticket, now):
            owners[ticket.item] = voice
            if random.random() < 0.2:
                queue.reject(ticket.item, "it lied", voice)
                rejected.add((ticket.item, voice))
                del owners[ticket.item]
                if random.random() < 0.7:
                    queue.reopen(ticket.item)
        used = Counter(owners.values()) + Counter(v for _, v in rejected)
        assert max(used.values(), default=0) <= most
        if queue.is_settled:
            break
        idle = [lease for lease in leases if lease not in out]
        if not out and len(idle) == len(leases):
            # nobody is at work: somebody gets something, or it is said that nobody may
            may = [
                queue.take(lease, now, provider=leases[lease], live_providers=leases.values())
                for lease in idle
            ]
            given_out = [ticket for ticket in may if ticket is not None]
            if not given_out:
                assert queue.is_stuck(list(leases.values()))
                break
            for ticket in given_out:
                queue.give_back(ticket)
