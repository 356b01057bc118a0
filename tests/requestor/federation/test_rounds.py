"""Rounds: what is ordered, and what the merge of the answers is."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider_image.wire import Tensors
from requestor.federation.merging.centre_rules import CenteredClipping
from requestor.federation.merging.coordinate_rules import TrimmedMean
from requestor.federation.merging.merger import Merger
from requestor.federation.merging.selection_rules import Krum, MultiKrum
from requestor.federation.merging.server_optimizers import Momentum, Sgd
from requestor.federation.rounds import (
    ClientUpdate,
    FederationSettings,
    QuorumMissed,
    RoundOutcome,
    RoundPlan,
    WorkItem,
    close_round,
    plan_round,
)
from requestor.federation.voices import VoicePlan

SETTINGS = FederationSettings(run_seed=5, rounds=10, clients=4, local_steps=100, quorum=3)
OBSERVED = 3


def model() -> Tensors:
    """A small model with everything in it that a merge treats differently."""
    return {
        "policy/weight": np.array([[1, 2], [3, 4]], np.float32),
        "extra/log_ent_coef": np.array([0.5], np.float32),
        "normalizer/observation/mean": np.array([1.0, 2.0, 3.0]),
        "normalizer/observation/var": np.array([1.0, 4.0, 9.0]),
        "normalizer/observation/count": np.array(10.0),
        "normalizer/return/mean": np.array(0.0),
        "normalizer/return/var": np.array(1.0),
        "normalizer/return/count": np.array(1e-4),
    }


def samples(client: int, count: int, seed: int = 0) -> np.ndarray:
    """What a client saw, `float64[count, OBSERVED + 1]`: observations and a return."""
    random = np.random.default_rng([seed, client])
    return np.asarray(random.normal(3 * client, 1 + client, size=(count, OBSERVED + 1)))


def update(item: WorkItem, *, seed: int = 0, count: int | None = None) -> ClientUpdate:
    """A client's answer: random changes, and the moments of its own samples."""
    random = np.random.default_rng([seed, item.round, item.client, 1])
    seen = samples(item.client, count or item.local_steps, seed)
    return ClientUpdate(
        item,
        {
            "policy/weight": random.normal(size=(2, 2)).astype(np.float32),
            "extra/log_ent_coef": random.normal(size=1).astype(np.float32),
            "moments/observation/mean": seen[:, :OBSERVED].mean(axis=0),
            "moments/observation/var": seen[:, :OBSERVED].var(axis=0),
            "moments/observation/count": np.array(float(len(seen))),
            "moments/return/mean": np.array(seen[:, OBSERVED].mean()),
            "moments/return/var": np.array(seen[:, OBSERVED].var()),
            "moments/return/count": np.array(float(len(seen))),
        },
    )


def close(plan: RoundPlan, updates: list[ClientUpdate], rate: float = 1.0) -> RoundOutcome:
    """Close a round with plain federated averaging."""
    return close_round(plan, model(), updates, Merger(optimizer=Sgd(rate)))


def test_a_round_is_one_item_for_each_client() -> None:
    plan = plan_round(SETTINGS, 3)
    assert [item.client for item in plan.items] == [0, 1, 2, 3]
    assert (plan.round, plan.quorum, plan.merges_normalizer) == (3, 3, True)
    for item in plan.items:
        text = f"derl\x1f5\x1fclient\x1f3\x1f{item.client}"
        digest = hashlib.sha256(text.encode()).digest()
        assert item.seed == int.from_bytes(digest[:8], "big") % (2**31 - 1)
        assert (item.round, item.local_steps) == (3, 100)
        assert (item.steps_done, item.steps_total) == (300, 1000)


def test_the_schedule_ends_with_the_last_round() -> None:
    last = plan_round(SETTINGS, SETTINGS.rounds - 1).items[0]
    assert last.steps_done + last.local_steps == last.steps_total


def test_the_update_is_weighted_by_the_steps_we_assigned() -> None:
    plan = plan_round(SETTINGS, 0)
    long = replace(plan.items[0], local_steps=300)
    updates = [update(item) for item in (long, plan.items[1], plan.items[2])]
    outcome = close(plan, updates, rate=0.5)
    for name in ("policy/weight", "extra/log_ent_coef"):
        before = model()[name].astype(np.float64)
        mean = sum(
            steps / 500 * u.tensors[name].astype(np.float64)
            for steps, u in zip((300, 100, 100), updates, strict=True)
        )
        np.testing.assert_allclose(outcome.candidate[name], before + 0.5 * mean, rtol=1e-6)
        assert outcome.candidate[name].dtype == np.float32
        assert outcome.candidate[name].shape == before.shape
    assert outcome.steps == 500
    assert outcome.merged_clients == (0, 1, 2)


@given(st.permutations(range(4)), st.integers(0, 1000))
@settings(max_examples=50)
def test_who_answered_first_makes_no_difference(order: list[int], seed: int) -> None:
    plan = plan_round(SETTINGS, 2)
    updates = [update(item, seed=seed) for item in plan.items]
    straight = close(plan, updates)
    shuffled = close(plan, [updates[i] for i in order])
    assert shuffled.merged_clients == straight.merged_clients == (0, 1, 2, 3)
    assert shuffled.candidate.keys() == straight.candidate.keys() == model().keys()
    for name, array in straight.candidate.items():
        assert shuffled.candidate[name].tobytes() == array.tobytes()


def test_clients_who_agree_are_followed() -> None:
    plan = plan_round(SETTINGS, 0)
    change = {
        "policy/weight": np.array([[0.5, -1], [2, 0.25]], np.float32),
        "extra/log_ent_coef": np.array([-0.125], np.float32),
    }
    updates = [replace(u, tensors={**u.tensors, **change}) for u in map(update, plan.items)]
    candidate = close(plan, updates).candidate
    assert candidate["policy/weight"].tolist() == [[1.5, 1], [5, 4.25]]
    assert candidate["extra/log_ent_coef"].tolist() == [0.375]


@given(st.integers(0, 10**6), st.lists(st.integers(1, 300), min_size=3, max_size=4))
@settings(max_examples=50)
def test_normaliser_statistics_are_those_of_the_pooled_stream(seed: int, counts: list[int]) -> None:
    before = np.random.default_rng(seed).normal(-4, 2, size=(50, OBSERVED + 1))
    start = model()
    for column, kind in ((slice(0, OBSERVED), "observation"), (OBSERVED, "return")):
        start[f"normalizer/{kind}/mean"] = np.asarray(before[:, column].mean(axis=0))
        start[f"normalizer/{kind}/var"] = np.asarray(before[:, column].var(axis=0))
        start[f"normalizer/{kind}/count"] = np.array(50.0)
    plan = plan_round(SETTINGS, 1)
    updates = [
        update(item, seed=seed, count=count)
        for item, count in zip(plan.items, counts, strict=False)
    ]
    candidate = close_round(plan, start, updates, Merger()).candidate
    pooled = np.concatenate([before, *(samples(i, n, seed) for i, n in enumerate(counts))])
    for column, kind in ((slice(0, OBSERVED), "observation"), (OBSERVED, "return")):
        stream = pooled[:, column]
        mean, variance = candidate[f"normalizer/{kind}/mean"], candidate[f"normalizer/{kind}/var"]
        np.testing.assert_allclose(mean, stream.mean(axis=0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(variance, stream.var(axis=0), rtol=1e-12, atol=1e-12)
        count = candidate[f"normalizer/{kind}/count"]
        assert count.dtype == np.float64
        assert count.shape == ()
        assert float(count) == len(pooled)
        assert mean.shape == start[f"normalizer/{kind}/mean"].shape


def test_a_frozen_normaliser_stays() -> None:
    plan = plan_round(replace(SETTINGS, merges_normalizer=False), 0)
    candidate = close(plan, [update(item) for item in plan.items]).candidate
    for name, array in model().items():
        if name.startswith("normalizer/"):
            assert candidate[name].tobytes() == array.tobytes()


def test_a_model_without_normaliser_gets_none() -> None:
    plan = plan_round(SETTINGS, 0)
    bare = {name: t for name, t in model().items() if not name.startswith("normalizer/")}
    updates = [update(item) for item in plan.items]
    assert close_round(plan, bare, updates, Merger()).candidate.keys() == bare.keys()


def test_the_parent_is_left_alone() -> None:
    plan = plan_round(SETTINGS, 0)
    parent = model()
    outcome = close_round(plan, parent, [update(item) for item in plan.items], Merger())
    for array in outcome.candidate.values():
        array[...] = 77
    for name, array in model().items():
        assert parent[name].tobytes() == array.tobytes()


def test_the_quorum_is_enough_and_one_less_is_not() -> None:
    plan = plan_round(SETTINGS, 4)
    updates = [update(item) for item in plan.items]
    assert close(plan, updates[1:]).merged_clients == (1, 2, 3)
    with pytest.raises(
        QuorumMissed, match=r"round 5: 2 of 4 clients' updates are in, the quorum is 3"
    ):
        close(plan, updates[:2])


def test_one_client_counts_once() -> None:
    plan = plan_round(SETTINGS, 0)
    updates = [update(item) for item in plan.items]
    with pytest.raises(ValueError, match="two updates are of the same client"):
        close(plan, [*updates, updates[1]])


def test_an_update_of_another_round_is_refused() -> None:
    updates = [update(item) for item in plan_round(SETTINGS, 1).items]
    with pytest.raises(ValueError, match="not of round 2"):
        close(plan_round(SETTINGS, 2), updates)


# --- what else is in a model, and what is kept for the next round ---------------------------------


def whole_model() -> dict[str, np.ndarray]:
    return {
        "policy/w": np.array([1.0], np.float32),
        "optimizer/v": np.array([2.0], np.float32),
        "control/w": np.array([3.0], np.float32),
    }


def answers(plan: RoundPlan, changes: list[float], voices: str = "") -> list[ClientUpdate]:
    names = whole_model()
    return [
        ClientUpdate(
            item,
            {name: np.array([change], np.float32) for name in names},
            voices[place] if voices else "",
        )
        for place, (item, change) in enumerate(zip(plan.items, changes, strict=False))
    ]


def test_the_server_s_rate_is_for_what_is_learned_alone() -> None:
    plan = plan_round(SETTINGS, 0)
    updates = answers(plan, [0.5, 1.0, 1.5])
    candidate = close_round(plan, whole_model(), updates, Merger(optimizer=Sgd(4.0))).candidate
    assert candidate["policy/w"].tolist() == [5.0]
    assert candidate["optimizer/v"].tolist() == [3.0]
    assert candidate["control/w"].tolist() == [3.75]  # three of four clients took part


def test_momentum_goes_on_from_the_state() -> None:
    plan = plan_round(SETTINGS, 0)
    merger = Merger(optimizer=Momentum(1.0, 0.5))
    first = close_round(plan, whole_model(), answers(plan, [1, 1, 1, 1]), merger)
    assert first.candidate["policy/w"].tolist() == [2.0]
    second = close_round(
        plan, first.candidate, answers(plan, [1, 1, 1, 1]), merger, state=first.state
    )
    # m = 0.5 * 1 + 1
    assert second.candidate["policy/w"].tolist() == [3.5]


def test_the_last_round_s_centre_is_kept_for_each_part() -> None:
    plan = plan_round(SETTINGS, 0)
    merger = Merger(CenteredClipping())
    outcome = close_round(plan, whole_model(), answers(plan, [1, 1, 1, 1]), merger)
    names = {"rule/learned/centre", "rule/moments/centre", "rule/control/centre"}
    assert set(outcome.state) == names


LIARS = replace(SETTINGS, clients=7, quorum=5, voices=VoicePlan(2, 1, 2))


def test_liars_are_left_out_and_named() -> None:
    plan = plan_round(LIARS, 0)
    updates = answers(plan, [0.9, 1.0, 100.0, 1.1, 1.0, 1.0, -100.0])
    outcome = close_round(plan, whole_model(), updates, Merger(MultiKrum()))
    np.testing.assert_allclose(outcome.candidate["policy/w"], [2.0], rtol=1e-6)
    assert outcome.merged_clients == tuple(range(7))
    assert outcome.left_out == (2, 6)


def test_a_rejected_update_counts_as_a_bad_one() -> None:
    """Krum bears two of seven; of six it bears one, so one of the two must have been rejected."""
    plan = plan_round(LIARS, 0)
    updates = answers(plan, [1.0] * 6)
    assert close_round(plan, whole_model(), updates, Merger(Krum()), rejected=1).state == {}
    with pytest.raises(QuorumMissed, match="bears 2 bad updates among 7 and more, not among 6"):
        close_round(plan, whole_model(), updates, Merger(Krum()))


def test_pooled_voices_are_counted_once_each() -> None:
    plan = plan_round(replace(LIARS, voices=VoicePlan(1, 4, 4)), 0)
    updates = answers(plan, [9.0, 9.0, 9.0, 9.0, 1.0, 1.0, 1.5], "xxxxabb")
    with pytest.raises(QuorumMissed):
        close_round(plan, whole_model(), updates, Merger(TrimmedMean()))
    outcome = close_round(plan, whole_model(), updates, Merger(TrimmedMean(), voices="pooled"))
    # voices: x 9, a 1, b 1.25; the middle one
    assert outcome.candidate["policy/w"].tolist() == [2.25]


def test_liars_do_not_move_the_normaliser_far() -> None:
    plan = plan_round(replace(SETTINGS, clients=5, voices=VoicePlan(1, 1, 1)), 0)
    updates = [update(item) for item in plan.items]
    lie = {"moments/observation/mean": np.full(OBSERVED, 1e90)}
    updates[1] = replace(updates[1], tensors={**updates[1].tensors, **lie})
    candidate = close_round(plan, model(), updates, Merger(TrimmedMean())).candidate
    assert np.abs(candidate["normalizer/observation/mean"]).max() < 20
    assert (candidate["normalizer/observation/var"] > 0).all()
    assert float(candidate["normalizer/observation/count"]) == 10 + 500
