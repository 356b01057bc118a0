"""What must hold for every rule, alone and behind every pre-aggregator."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from requestor.federation.merging.centre_rules import CenteredClipping, FedPgFilter, GeometricMedian
from requestor.federation.merging.coordinate_rules import (
    CoordinateMedian,
    TrimmedMean,
    WeightedMean,
)
from requestor.federation.merging.merger import Merger
from requestor.federation.merging.pre_aggregators import (
    AdaptiveRobustClipping,
    Bucketing,
    ClippedMean,
    NearestNeighbourMixing,
    NormClipping,
)
from requestor.federation.merging.protocol import (
    AggregationRule,
    MergeContext,
    PreAggregator,
    TooManyFaulty,
)
from requestor.federation.merging.selection_rules import (
    Bulyan,
    Krum,
    MinimumDiameterAverage,
    MultiKrum,
    least_diameter,
)

Float32 = NDArray[np.float32]

COORDINATE_RULES: list[AggregationRule] = [CoordinateMedian(), TrimmedMean(), Bulyan()]
DISTANCE_RULES: list[AggregationRule] = [
    Krum(),
    MultiKrum(),
    MinimumDiameterAverage(),
    GeometricMedian(),
    CenteredClipping(),
    FedPgFilter(),
]
ROBUST = [*COORDINATE_RULES, *DISTANCE_RULES]
ALL = [*ROBUST, ClippedMean(), WeightedMean()]
MIXERS: list[PreAggregator] = [NearestNeighbourMixing(), Bucketing(2)]
CLIPPERS: list[PreAggregator] = [AdaptiveRobustClipping(), NormClipping()]

FARTHEST = 10.0
"""No rule's result is farther from the honest mean, in honest diameters, whatever f others send."""


def named(rule: object) -> str:
    return type(rule).__name__


def vector(
    merger: Merger | AggregationRule, updates: Float32, faulty: int, seed: int = 0
) -> Float32:
    made = merger if isinstance(merger, Merger) else Merger(merger)
    return made.combine(updates, np.ones(len(updates)), MergeContext(faulty)).vector


@dataclass(frozen=True)
class Round:
    """`updates` of which the first `faulty` are bad."""

    updates: Float32
    faulty: int

    @property
    def honest(self) -> NDArray[np.float64]:
        return self.updates[self.faulty :].astype(np.float64)

    @property
    def diameter(self) -> float:
        rows = self.honest
        return float(max(np.linalg.norm(a - b) for a in rows for b in rows))


@st.composite
def honest_rounds(draw: st.DrawFn, least: int = 7) -> Float32:
    """Updates without equal distances, `float32[N, P]`, of any size and place."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, p = draw(st.integers(least, least + 6)), draw(st.integers(1, 6))
    centre = random.normal(size=p) * draw(st.sampled_from([0.0, 1.0, 100.0]))
    return np.asarray(centre + random.normal(size=(n, p)), dtype=np.float32)


@st.composite
def attacked(draw: st.DrawFn, merger: Merger) -> Round:
    """A round at or near the merger's breakdown point, with anything from the bad ones."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    faulty = draw(st.integers(1, 3))
    n, p = merger.least_updates(faulty) + draw(st.integers(0, 3)), draw(st.integers(1, 6))
    updates = random.normal(1.0, 1.0, (n, p))
    size = 10.0 ** draw(st.sampled_from([-1, 0, 1, 2, 6, 12, 20, 30]))
    kind = draw(st.sampled_from(["scattered", "together", "opposite", "in one coordinate"]))
    if kind == "scattered":
        updates[:faulty] = size * random.normal(size=(faulty, p))
    elif kind == "together":
        updates[:faulty] = size * random.normal(size=p)
    elif kind == "opposite":
        updates[:faulty] = -size * updates[faulty:].mean(axis=0)
    else:
        updates[:faulty, 0] = size
    return Round(updates.astype(np.float32), faulty)


@pytest.mark.parametrize("rule", [r for r in ALL if not isinstance(r, Bulyan)], ids=named)
@settings(max_examples=25)
@given(updates=honest_rounds(), data=st.data())
def test_the_order_of_the_rows_does_not_matter(
    rule: AggregationRule, updates: Float32, data: st.DataObject
) -> None:
    """But to Bulyan: of its last two choices each is the other's only neighbour, a tie."""
    order = data.draw(st.permutations(range(len(updates))))
    faulty = 0 if isinstance(rule, WeightedMean) else 1
    np.testing.assert_allclose(
        vector(rule, updates[list(order)], faulty),
        vector(rule, updates, faulty),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("rule", [CoordinateMedian(), Krum()], ids=named)
@settings(max_examples=25)
@given(updates=honest_rounds(), data=st.data())
def test_of_some_rules_not_a_bit_depends_on_the_order(
    rule: AggregationRule, updates: Float32, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(updates))))
    one, other = vector(rule, updates, 1), vector(rule, updates[list(order)], 1)
    assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("rule", [*ROBUST, WeightedMean()], ids=named)
@settings(max_examples=25)
@given(updates=honest_rounds(), shift=st.floats(-100, 100))
def test_moving_all_updates_moves_the_result(
    rule: AggregationRule, updates: Float32, shift: float
) -> None:
    faulty = 0 if isinstance(rule, WeightedMean) else 1
    moved = vector(rule, (updates + np.float32(shift)).astype(np.float32), faulty)
    np.testing.assert_allclose(
        moved, vector(rule, updates, faulty) + np.float32(shift), rtol=1e-4, atol=2e-3
    )


@pytest.mark.parametrize("rule", ALL, ids=named)
@settings(max_examples=25)
@given(updates=honest_rounds(), power=st.integers(-20, 20), sign=st.sampled_from([1, -1]))
def test_scaling_all_updates_scales_the_result(
    rule: AggregationRule, updates: Float32, power: int, sign: int
) -> None:
    """With every parameter at its default; by powers of two, so that nothing is rounded."""
    factor = np.float32(sign * 2.0**power)
    faulty = 0 if isinstance(rule, WeightedMean) else 1
    np.testing.assert_allclose(
        vector(rule, updates * factor, faulty) / factor,
        vector(rule, updates, faulty),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("step", [None, *MIXERS, *CLIPPERS], ids=named)
@pytest.mark.parametrize("rule", ALL, ids=named)
def test_updates_that_agree_are_followed(rule: AggregationRule, step: PreAggregator | None) -> None:
    row = np.array([0.5, -3.0, 0.0, 1e-3], dtype=np.float32)
    faulty = 0 if isinstance(rule, WeightedMean) else 1
    merger = Merger(rule, () if step is None else (step,))
    merged = vector(merger, np.tile(row, (15, 1)), faulty)
    np.testing.assert_allclose(merged, row, rtol=3e-7, atol=0)


@pytest.mark.parametrize("step", [None, *MIXERS], ids=named)
@pytest.mark.parametrize("rule", [CoordinateMedian(), TrimmedMean()], ids=named)
@settings(max_examples=40)
@given(data=st.data())
def test_bad_updates_leave_the_result_among_the_honest_ones(
    rule: AggregationRule, step: PreAggregator | None, data: st.DataObject
) -> None:
    """In each coordinate; mixtures of neighbours may hold bad ones that are near."""
    merger = Merger(rule, () if step is None else (step,))
    given_ = data.draw(attacked(merger))
    merged = vector(merger, given_.updates, given_.faulty).astype(np.float64)
    slack = given_.diameter + 1e-3 if isinstance(step, NearestNeighbourMixing) else 1e-5
    assert (merged >= given_.honest.min(axis=0) - slack).all()
    assert (merged <= given_.honest.max(axis=0) + slack).all()


@pytest.mark.parametrize("step", [None, *MIXERS], ids=named)
@pytest.mark.parametrize("rule", ROBUST, ids=named)
@settings(max_examples=40)
@given(data=st.data())
def test_bad_updates_cannot_draw_the_result_far(
    rule: AggregationRule, step: PreAggregator | None, data: st.DataObject
) -> None:
    merger = Merger(rule, () if step is None else (step,))
    given_ = data.draw(attacked(merger))
    merged = vector(merger, given_.updates, given_.faulty).astype(np.float64)
    distance = float(np.linalg.norm(merged - given_.honest.mean(axis=0)))
    assert distance <= FARTHEST * given_.diameter + 1e-5


@pytest.mark.parametrize(
    "merger",
    [Merger(ClippedMean()), *(Merger(rule, (step,)) for rule in ROBUST for step in CLIPPERS)],
    ids=lambda merger: "+".join(map(named, (*merger.before, merger.rule))),
)
@settings(max_examples=20)
@given(data=st.data())
def test_clipping_bounds_the_length_of_the_result(merger: Merger, data: st.DataObject) -> None:
    given_ = data.draw(attacked(merger))
    longest = float(np.linalg.norm(given_.honest, axis=1).max())
    merged = vector(merger, given_.updates, given_.faulty)
    assert float(np.linalg.norm(merged.astype(np.float64))) <= 1e-5 + FARTHEST * longest


@pytest.mark.parametrize(
    ("rule", "by_formula"),
    [
        (CoordinateMedian(), lambda f: 2 * f + 1),
        (TrimmedMean(), lambda f: 2 * f + 1),
        (Krum(), lambda f: 2 * f + 3),
        (MultiKrum(), lambda f: 2 * f + 3),
        (Bulyan(), lambda f: 4 * f + 3),
        (GeometricMedian(), lambda f: 2 * f + 1),
        (MinimumDiameterAverage(), lambda f: 2 * f + 1),
        (CenteredClipping(), lambda f: 2 * f + 1),
        (FedPgFilter(), lambda f: 2 * f + 1),
        (ClippedMean(), lambda f: 2 * f + 1),
    ],
    ids=lambda value: (
        named(value) if not callable(value) or hasattr(value, "least_updates") else ""
    ),
)
@pytest.mark.parametrize("faulty", [0, 1, 2, 5])
def test_one_update_too_few_is_refused(
    rule: AggregationRule, by_formula: Callable[[int], int], faulty: int
) -> None:
    least = by_formula(faulty)
    assert rule.least_updates(faulty) == least
    updates = np.random.default_rng(0).normal(size=(least, 3)).astype(np.float32)
    assert np.isfinite(vector(rule, updates, faulty)).all()
    if least > 1:
        with pytest.raises(TooManyFaulty, match=f"bears {faulty} bad updates among {least}"):
            vector(rule, updates[1:], faulty)


def test_the_mean_bears_nobody() -> None:
    with pytest.raises(TooManyFaulty, match="the weighted mean bears no bad updates"):
        vector(WeightedMean(), np.zeros((9, 2), np.float32), 1)


@pytest.mark.parametrize("rule", ALL, ids=named)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(rule: AggregationRule, value: float) -> None:
    updates = np.zeros((9, 3), dtype=np.float32)
    updates[4, 1] = updates[6, 2] = value
    with pytest.raises(ValueError, match=r"updates \[4, 6\] hold numbers that are not finite"):
        vector(rule, updates, 0)


@pytest.mark.parametrize("rule", ALL, ids=named)
def test_the_updates_are_left_as_they_are(rule: AggregationRule) -> None:
    updates = np.random.default_rng(3).normal(size=(9, 4)).astype(np.float32)
    before = updates.tobytes()
    for step in (None, *MIXERS, *CLIPPERS):
        faulty = 0 if isinstance(rule, WeightedMean) else 1
        merger = Merger(rule, () if step is None else (step,))
        if merger.bears(9, faulty):
            vector(merger, updates, faulty)
    assert updates.tobytes() == before


@pytest.mark.parametrize(
    "merger",
    [
        Merger(),
        Merger(MultiKrum(4)),
        Merger(MinimumDiameterAverage()),
        Merger(CoordinateMedian(), (Bucketing(4),)),
        Merger(Krum(), (NearestNeighbourMixing(),)),
    ],
    ids=lambda merger: "+".join(map(named, (*merger.before, merger.rule))),
)
def test_means_are_summed_in_float64(merger: Merger) -> None:
    """(2^30 + 1 - 2^30 + 1) / 4 = 0.5, of which float32 sums would lose one or both ones."""
    updates = np.array([[2.0**30], [1.0], [-(2.0**30)], [1.0]], dtype=np.float32)
    assert vector(merger, updates, 0).tolist() == [0.5]


# --- single rules --------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(3, 9), st.data())
def test_the_least_diameter_is_that_of_all_subsets(seed: int, n: int, data: st.DataObject) -> None:
    left_out = data.draw(st.integers(0, (n - 1) // 2))
    points = np.random.default_rng(seed).normal(size=(n, 3))
    distances = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    best = min(
        itertools.combinations(range(n), n - left_out),
        key=lambda rows: (
            distances[np.ix_(rows, rows)].max(),
            distances[np.ix_(rows, rows)].sum().round(9),
        ),
    )
    assert least_diameter(distances, left_out) == best


def test_beyond_the_cap_the_diameter_is_at_most_twice_the_least() -> None:
    random = np.random.default_rng(5)
    rows = random.normal(size=(33, 4))
    rows[::2][:13] += 1000.0  # 13 bad ones: 2^13 branches are too many
    distances = ((rows[:, None] - rows[None]) ** 2).sum(axis=-1)
    honest = [row for row in range(33) if rows[row].max() < 500]
    assert len(honest) == 20
    kept = least_diameter(distances, 13)
    assert list(kept) == honest


def test_krum_by_hand() -> None:
    # on a line at 0, 1, 2, 4, 10, f = 1: 5 - 1 - 2 = 2 neighbours. Scores: 1 + 4 = 5, 1 + 1 = 2,
    # 1 + 4 = 5, 4 + 9 = 13, 36 + 64 = 100
    updates = np.array([[0], [1], [2], [4], [10]], dtype=np.float32)
    assert vector(Krum(), updates, 1).tolist() == [1.0]
    # the best four: 1, then 0 and 2, then 4
    assert vector(MultiKrum(), updates, 1).tolist() == [7 / 4]
    assert vector(MultiKrum(2), updates, 1).tolist() == [0.5]


def test_bulyan_by_hand() -> None:
    # 0, 1, 2, 3, 4, 5, 100 with f = 1: five choices. Four neighbours: 2 is first with 1 + 1 + 4 + 4
    # (3 ties, is later); then by three of six, ... 100 and one other stay. All of the choices' 3
    # values nearest to their median are around it, far from 100
    updates = np.array([[0], [1], [2], [3], [4], [5], [100]], dtype=np.float32)
    assert 1.0 <= vector(Bulyan(), updates, 1)[0] <= 4.0


def test_the_shares_tell_who_was_left_out() -> None:
    updates = np.array([[0.0], [0.1], [0.2], [0.3], [50.0]], dtype=np.float32)
    merged = MultiKrum()(updates, np.array([1.0, 1, 2, 1, 1]), MergeContext(1))
    assert merged.shares is not None
    np.testing.assert_allclose(merged.shares, [0.2, 0.2, 0.4, 0.2, 0.0])


def test_centered_clipping_starts_where_the_last_round_ended() -> None:
    # v = 0; offsets 3, 3, -9 cut to 3: v = (3 + 3 - 3) / 3 = 1
    rule = CenteredClipping(radius=3.0, iterations=1)
    updates = np.array([[3], [3], [-9]], dtype=np.float32)
    zero = {"centre": np.zeros(1, dtype=np.float32)}
    merged = rule(updates, np.ones(3), MergeContext(1, state=zero))
    assert merged.vector.tolist() == [1.0]
    # then offsets 2, 2, -10 cut to 3: v = 1 + 1 / 3
    again = rule(updates, np.ones(3), MergeContext(1, state=merged.state))
    np.testing.assert_allclose(again.vector, [4 / 3], rtol=1e-6)
    # without a last round from the median, 3: offsets 0, 0, -12 cut to -3: v = 2
    assert rule(updates, np.ones(3), MergeContext(1)).vector.tolist() == [2.0]


# --- FedPG-BR's filter ---------------------------------------------------------------------------


def test_the_published_radius_falls_as_the_root_of_the_batch() -> None:
    distances = np.zeros((10, 10))
    # 2 * 0.06 * sqrt(2 ln(20 / 0.6) / 16) = 0.0794
    radius, wide = FedPgFilter(0.06, 16).radii(distances)
    assert radius == pytest.approx(0.12 * np.sqrt(2 * np.log(20 / 0.6) / 16))
    assert wide == pytest.approx(0.12)
    assert FedPgFilter(0.06, 64).radii(distances)[0] == pytest.approx(radius / 2)


def test_the_filter_keeps_the_majority_s_ball() -> None:
    # radius 2 sigma sqrt(2 ln(10 / 0.6) / B) = 2 for this B: all but 9 lie within 2 of 1
    batch = 2 * np.log(10 / 0.6)
    updates = np.array([[0], [1], [2], [3], [9]], dtype=np.float32)
    merged = FedPgFilter(1.0, batch)(updates, np.ones(5), MergeContext(1))
    assert merged.vector.tolist() == [1.5]
    assert merged.shares is not None
    assert merged.shares.tolist() == [0.25, 0.25, 0.25, 0.25, 0.0]


def test_with_nobody_near_anybody_the_filter_gives_nothing() -> None:
    updates = np.array([[0], [100], [200], [300], [900]], dtype=np.float32)
    merged = FedPgFilter(0.1, 16)(updates, np.ones(5), MergeContext(1))
    assert merged.vector.tolist() == [0.0]
    assert merged.shares is not None
    assert merged.shares.tolist() == [0.0] * 5


@example(seed=0, power=0)
@given(seed=st.integers(0, 2**32), power=st.integers(-10, 10))
@settings(max_examples=25)
def test_the_adaptive_radius_needs_no_scale(seed: int, power: int) -> None:
    random = np.random.default_rng(seed)
    updates = random.normal(size=(10, 50)) * 10.0**power
    updates[:3] += 10.0 * 10.0**power
    merged = FedPgFilter()(updates.astype(np.float32), np.ones(10), MergeContext(3))
    assert merged.shares is not None
    assert np.flatnonzero(merged.shares).tolist() == list(range(3, 10))
