"""Where the links of a chain come, and what an order may ask of it."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import numpy as np
import pytest

from provider_image.learners import LearnerRefused, check_link_state
from provider_image.learners.hash_chain import HashChain
from provider_image.wire import (
    EnvironmentSpec,
    FileRef,
    LearnerSpec,
    LinkRange,
    Tensors,
    TrainOrder,
    WireError,
    base_digest,
)

FILE = FileRef("m", "0" * 64, 0)
ORDER = TrainOrder(
    run_id="r",
    round=0,
    client=0,
    seed=9,
    environment=EnvironmentSpec("CartPole-v1"),
    learner=LearnerSpec("ppo"),
    local_steps=40,
    steps_done=0,
    steps_total=400,
    model=FILE,
    output="o",
)


def asking(first: int, last: int, **fields: Any) -> TrainOrder:
    """The order's links after `first` up to `last`; a state that names link 0 as before."""
    if first:
        base = base_digest(ORDER)
        fields = {"state": FILE, "state_link": "1" * 64, "state_previous": base} | fields
    links = LinkRange(first=first, last=last, **fields)
    return msgspec.structs.replace(ORDER, links=links)


def standing(done: int) -> Tensors:
    """What stands after so many updates."""
    return {"policy/w": np.array([done, -0.0], np.float32)}


def run(chain: HashChain) -> list[int]:
    """Do the work; after which updates a link was taken."""
    taken = []

    def stands() -> Tensors:
        taken.append(done)
        return standing(done)

    for done in range(chain.first_update + 1, chain.last_update + 1):
        chain.note(done, stands)
    return taken


def link(tensors: bytes, previous: str) -> str:
    """A link of one tensor `policy/w` float32[2], by the text of FORMAT.md."""
    head = previous.encode() + b"\x1fpolicy/w\x1ffloat32\x1f2\x1f"
    return hashlib.sha256(head + tensors).hexdigest()


def test_links_are_digests_of_what_stands_each_after_the_one_before() -> None:
    chain = HashChain(ORDER, 2, can_resume=False)
    assert run(chain) == [1, 2]
    # 1.0, 2.0 and -0.0 in IEEE binary32, little-endian
    first = link(bytes.fromhex("0000803f00000080"), base_digest(ORDER))
    assert chain.links == (first, link(bytes.fromhex("0000004000000080"), first))
    assert chain.state is None


@pytest.mark.parametrize(
    ("updates", "begin"),
    [(1, [1]), (64, [1, 2, 3]), (65, [2, 3, 4]), (128, [2, 4, 6]), (100, [2, 4, 5, 7, 8])],
)
def test_beyond_64_updates_a_link_is_several(updates: int, begin: list[int]) -> None:
    chain = HashChain(ORDER, updates, can_resume=False)
    taken = run(chain)
    assert taken[: len(begin)] == begin  # ceil(i * n / 64) by hand
    assert taken[-1] == updates
    assert len(chain.links) == min(updates, 64) == len(set(taken))


@pytest.mark.parametrize("updates", [3, 64, 150])
def test_parts_give_the_links_of_the_whole(updates: int) -> None:
    whole = HashChain(ORDER, updates, can_resume=True)
    run(whole)
    for cut in (1, 2, len(whole.links) - 1):
        head = HashChain(asking(0, cut, state_output="s"), updates, can_resume=True)
        taken = run(head)
        assert head.links == whole.links[:cut]
        assert head.state is not None
        assert head.state["policy/w"][0] == taken[-1] == head.last_update
        before = base_digest(ORDER) if cut == 1 else whole.links[cut - 2]
        rest = asking(
            cut, len(whole.links), state_link=whole.links[cut - 1], state_previous=before
        )
        check_link_state(rest, head.state)
        tail = HashChain(rest, updates, can_resume=True)
        assert tail.first_update == head.last_update
        run(tail)
        assert head.links + tail.links == whole.links
        with pytest.raises(WireError, match="does not have the digest"):
            check_link_state(rest, standing(updates + 1))


def test_what_cannot_be_asked() -> None:
    with pytest.raises(LearnerRefused, match="this work has 2 links"):
        HashChain(asking(0, 3), 2, can_resume=True)
    for order in (asking(1, 2), asking(0, 2, state_output="s")):
        with pytest.raises(LearnerRefused, match="only the native learner"):
            HashChain(order, 2, can_resume=False)
    with pytest.raises(WireError, match="digest of the order without links"):
        HashChain(asking(1, 2, state_previous="0" * 64), 2, can_resume=True)
    with pytest.raises(WireError, match="does not begin with one"):
        check_link_state(asking(0, 1), standing(1))
    chain = HashChain(ORDER, 2, can_resume=False)
    with pytest.raises(RuntimeError, match="link 1 was not taken"):
        chain.note(2, lambda: standing(2))
