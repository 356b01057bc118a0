"""Beside the others of its round: too long, too far, copied, too fast; and honest work passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from requestor.federation.cohort_screening import (
    SKETCH_SIZE,
    Cohort,
    Entry,
    Known,
    Limits,
    Pace,
    norm_scores,
    row_norms,
    screen_cohort,
    sketch,
)

OFF = Limits(norm_z=None, divergence=None, copies=False, speed=None)


def cohort(updates: np.ndarray, **changes: object) -> Cohort:
    """A round in which every voice did one item of 1000 steps."""
    entries = tuple(
        Entry(client, f"v{client}", client, f"digest {client}", 1000)
        for client in range(len(updates))
    )
    return replace(Cohort(entries, {"policy": updates.astype(np.float32)}), **changes)  # type: ignore[arg-type]


def honest(count: int, size: int = 200, seed: int = 0) -> np.ndarray:
    """Updates with much in common, and something of each client's own."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=size) + 0.5 * generator.normal(size=(count, size))


def rejected(made: Cohort, known: Known | None = None, limits: Limits | None = None) -> set[int]:
    """The clients whose updates are rejected."""
    return set(screen_cohort(made, known or Known(), limits or Limits()).rejected)


@given(count=st.integers(1, 12), seed=st.integers(0, 999), size=st.sampled_from([16, 300, 3000]))
@settings(max_examples=60, deadline=None)
def test_honest_updates_pass(count: int, seed: int, size: int) -> None:
    known = Known(
        moves=honest(2, size, seed + 1000).astype(np.float32),
        sketches=sketch(honest(8, size, seed + 2000).astype(np.float32)),
    )
    verdict = screen_cohort(cohort(honest(count, size, seed)), known, Limits())
    assert not verdict.rejected
    assert not verdict.suspicious


def test_scores_are_distances_from_the_median_of_logarithms() -> None:
    # logs of e^k are k: 0 1 2 3 10; median 2, deviations 2 1 0 1 8, their median 1
    scores = norm_scores(np.exp(np.array([0.0, 1.0, 2.0, 3.0, 10.0])))
    assert scores == pytest.approx(np.array([-2, -1, 0, 1, 8]) / 1.4826)


def test_nearly_equal_norms_are_no_reason_to_reject() -> None:
    # the deviation is at least 0.2, so 8 of them are a factor of e^1.6 = 4.95
    updates = np.ones((6, 50))
    updates += 1e-9 * np.random.default_rng(0).normal(size=updates.shape)
    only_norms = replace(OFF, norm_z=8.0)
    for factor, found in ((4.9, set()), (5.0, {2})):
        updates[2] = factor
        assert rejected(cohort(updates), limits=only_norms) == found
    verdict = screen_cohort(cohort(updates), Known(), only_norms)
    assert verdict.rejected[2] == (
        "its policy update is 5 times as long as the median (8.0 robust deviations)"
    )


def test_short_updates_are_odd_and_no_more() -> None:
    updates = honest(6)
    updates[3] *= 1e-3
    verdict = screen_cohort(cohort(updates), Known(), Limits())
    assert not verdict.rejected
    assert set(verdict.suspicious) == {3}


def test_few_updates_are_not_held_against_each_other() -> None:
    updates = honest(3)
    updates[0] *= 1e6
    assert rejected(cohort(updates, divergences=np.array([1e9, 0.1, 0.1]))) == set()


@pytest.mark.parametrize("part", ["optimizer", "control"])
def test_every_part_is_looked_at(part: str) -> None:
    others = honest(5, seed=3)
    others[1] *= 1e4
    made = cohort(honest(5))
    made = replace(made, parts={**made.parts, part: others.astype(np.float32)})
    assert rejected(made) == {1}


@pytest.mark.parametrize(
    ("divergences", "found"),
    [
        ([0.1, 0.1, 0.2, 0.1, 2.1], {4}),  # 21 times the median
        ([0.1, 0.1, 0.2, 0.1, 1.9], set()),
        ([0.0, 0.0, 0.0, 0.0, 0.049], set()),  # less than 0.05 nats is never far
        ([0.0, 0.0, 0.0, 0.0, 0.051], {4}),
        ([1e9, 0.1, 0.1, 0.1, 0.1], {0}),  # what has no measure any more
    ],
)
def test_who_moves_the_policy_too_far_is_rejected(
    divergences: list[float], found: set[int]
) -> None:
    assert rejected(cohort(honest(5), divergences=np.array(divergences))) == found


def test_doing_nothing_is_rejected_where_others_do_something() -> None:
    updates = honest(4)
    updates[2] = 0.0
    assert rejected(cohort(updates)) == {2}
    updates[1:] = 0.0  # as before `learning_starts`
    assert rejected(cohort(updates)) == set()


@pytest.mark.parametrize("factor", [1.0, -1.0, 0.3, 1e-3])
def test_an_echo_of_the_model_s_moves_is_rejected(factor: float) -> None:
    moves = honest(3, seed=7).astype(np.float32)
    updates = honest(5)
    updates[4] = factor * moves[1]
    assert rejected(cohort(updates), Known(moves=moves)) == {4}


@pytest.mark.parametrize("size", [100, SKETCH_SIZE, 20_000])
@pytest.mark.parametrize("factor", [1.0, -2.0, 1e-3])
def test_an_earlier_update_of_anybody_is_rejected(size: int, factor: float) -> None:
    earlier = honest(6, size, seed=9).astype(np.float32)
    updates = honest(5, size)
    updates[0] = np.float32(factor) * earlier[3]
    assert rejected(cohort(updates), Known(sketches=sketch(earlier))) == {0}


def test_a_digest_that_came_before_is_rejected() -> None:
    assert rejected(cohort(honest(3)), Known(digests=frozenset({"digest 1"}))) == {1}


def test_of_equal_updates_the_first_to_come_stays_and_is_audited() -> None:
    updates = honest(5)
    updates[1] = updates[3] = updates[4]
    made = cohort(updates)
    arrivals = [4, 3, 2, 1, 0]
    entries = tuple(
        replace(entry, arrival=arrival)
        for entry, arrival in zip(made.entries, arrivals, strict=True)
    )
    verdict = screen_cohort(replace(made, entries=entries), Known(), Limits())
    assert set(verdict.rejected) == {1, 3}
    assert set(verdict.suspicious) == {4}
    assert verdict.rejected[1] == "it is the same as the update of client 3, 4"


def test_one_voice_that_sends_the_same_twice_is_no_victim() -> None:
    updates = honest(5)
    updates[1] = updates[3]
    made = cohort(updates)
    entries = [*made.entries]
    entries[3] = replace(entries[3], voice="v1")
    assert rejected(replace(made, entries=tuple(entries))) == {1, 3}


def test_sparse_updates_may_point_the_same_way() -> None:
    updates = np.zeros((4, 100))
    updates[:, 5] = [1.0, 2.0, 3.0, 4.0]
    assert rejected(cohort(updates)) == set()


def paced(*seconds: float, steps: int = 10_000) -> Cohort:
    """A round whose items took so long."""
    made = cohort(honest(len(seconds)))
    entries = tuple(
        replace(entry, steps=steps, seconds=taken)
        for entry, taken in zip(made.entries, seconds, strict=True)
    )
    return replace(made, entries=entries)


KNOWN_PACES = Known(paces={f"v{number}": Pace(100.0, 5) for number in range(1, 4)})


def test_who_is_far_faster_than_all_others_is_rejected() -> None:
    # the others do 1000 and at most 1250 steps a second, so 20 times that is 0.4 s
    assert rejected(paced(0.41, 10.0, 8.0, 9.0), KNOWN_PACES) == set()
    assert rejected(paced(0.39, 10.0, 8.0, 9.0), KNOWN_PACES) == {0}
    verdict = screen_cohort(paced(1.0, 10.0, 8.0, 9.0), KNOWN_PACES, Limits())
    assert not verdict.rejected
    assert set(verdict.suspicious) == {0}  # 8 times


def test_paces_of_which_little_is_known_say_nothing() -> None:
    assert rejected(paced(0.01, 10.0, 8.0, 9.0)) == set()  # the first delivery of each
    assert rejected(paced(0.01, 10.0), KNOWN_PACES) == {0}
    alone = Known(paces={"v1": Pace(100.0, 5)})
    assert rejected(paced(0.01, 10.0), alone) == set()


def test_what_others_do_in_less_than_a_second_may_take_no_time() -> None:
    assert rejected(paced(0.001, 0.5, 0.5, 0.5, steps=500), KNOWN_PACES) == set()


def test_several_fast_leases_of_one_voice_do_not_vouch_for_each_other() -> None:
    made = paced(0.1, 0.1, 10.0, 10.0)
    entries = (made.entries[0], replace(made.entries[1], voice="v0"), *made.entries[2:])
    assert rejected(replace(made, entries=entries), KNOWN_PACES) == {0, 1}


def test_each_check_can_be_left_out() -> None:
    updates = honest(6)
    updates[0] *= 1e6
    updates[1] = 0.0
    updates[2] = updates[3]
    made = cohort(updates, divergences=np.array([9.0, 0.1, 0.1, 0.1, 0.1, 0.1]))
    assert rejected(made, limits=OFF) == set()
    assert rejected(made, limits=replace(OFF, norm_z=8.0)) == {0}
    assert rejected(made, limits=replace(OFF, divergence=20.0)) == {0}
    assert rejected(made, limits=replace(OFF, copies=True)) == {1, 3}


def test_norms_are_summed_in_double_precision() -> None:
    assert row_norms(np.full((1, 4), 1e30, np.float32)) == pytest.approx([2e30])
