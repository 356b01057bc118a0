"""Items that none of the live providers may do, for one who is no provider."""

from __future__ import annotations

import pytest

from requestor.scheduling.work_queue import Ticket, WorkQueue


def taken(ticket: Ticket[str] | None) -> Ticket[str]:
    """The ticket, which must be there."""
    assert ticket is not None
    return ticket


def test_only_what_nobody_else_may_do_is_stranded() -> None:
    queue = WorkQueue(["a", "b"], max_attempts=3, most_items=1)
    assert queue.take_stranded("own", 0.0, ["L"]) is None
    queue.finish(taken(queue.take("L", 0.0)), 1.0)
    assert queue.take_stranded("own", 1.0, ["L", "M"]) is None
    assert queue.take_stranded("own", 1.0, []) is None  # nobody is at work
    ticket = taken(queue.take_stranded("own", 1.0, ["L"]))
    assert (ticket.item, ticket.provider, ticket.is_copy) == ("b", "", False)
    assert queue.finish(ticket, 2.0)
    assert queue.is_settled


def test_our_own_work_is_nobodys_share() -> None:
    queue = WorkQueue(["a", "b", "c"], max_attempts=3, most_items=1, done={"a": "L"})
    for _ in range(2):
        queue.finish(taken(queue.take_stranded("own", 0.0, ["L"])), 1.0)
    assert queue.done == ("a", "b", "c")


def test_who_is_barred_strands_an_item_and_who_comes_does_not() -> None:
    queue = WorkQueue(["a"], max_attempts=3)
    queue.finish(taken(queue.take("liar", 0.0)), 1.0)
    queue.reject("a", "it lied", "liar")
    assert queue.take_stranded("own", 1.0, ["liar"]) is None  # withdrawn
    queue.reopen("a")
    assert queue.is_stuck(["liar"])
    assert queue.take_stranded("own", 1.0, ["liar", "M"]) is None
    assert taken(queue.take_stranded("own", 1.0, ["liar"])).item == "a"


def test_our_own_failures_use_up_the_attempts() -> None:
    queue = WorkQueue(["a", "b"], max_attempts=2, most_items=1, done={"a": "L"})
    for _ in range(2):
        queue.fail(taken(queue.take_stranded("own", 0.0, ["L"])), "no memory")
    assert queue.abandoned == {"b": ("no memory", "no memory")}
    assert queue.take_stranded("own", 0.0, ["L"]) is None


def test_an_entrusted_item_is_tried_once_more_and_by_nobody_else() -> None:
    queue = WorkQueue(["a"], max_attempts=1, typical_seconds=1.0)
    queue.finish(taken(queue.take("liar", 0.0)), 1.0)
    queue.reject("a", "it lied", "liar")
    assert "a" in queue.abandoned
    queue.entrust("a")
    assert queue.waiting == ("a",)
    assert queue.take("M", 1.0, live_providers=["M"]) is None
    assert queue.is_stuck(["M"])
    ticket = taken(queue.take_stranded("own", 1.0, ["M"]))
    assert queue.take("M", 99.0, live_providers=["M"]) is None  # no copies
    queue.fail(ticket, "no memory")
    assert queue.abandoned == {"a": ("it lied", "no memory")}
    assert queue.is_settled


def test_what_waits_can_be_withdrawn() -> None:
    queue = WorkQueue(["a"], max_attempts=3)
    queue.withdraw("a")
    assert queue.withdrawn == ("a",)
    assert queue.is_settled
    with pytest.raises(ValueError, match="not in list"):
        queue.withdraw("a")
