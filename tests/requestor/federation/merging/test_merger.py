"""Steps put together: what they bear, whose rows are in the result, one voice for each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.federation.merging.coordinate_rules import (
    CoordinateMedian,
    TrimmedMean,
    WeightedMean,
)
from requestor.federation.merging.merger import Merger, pool_voices
from requestor.federation.merging.pre_aggregators import (
    AdaptiveRobustClipping,
    Bucketing,
    NearestNeighbourMixing,
    NormClipping,
)
from requestor.federation.merging.protocol import MergeContext, TooManyFaulty
from requestor.federation.merging.selection_rules import Bulyan, MultiKrum


def test_buckets_divide_the_updates_and_keep_the_bad_ones() -> None:
    # 2 bad ones spoil 2 buckets; the median takes 5: 9 updates are 5 buckets of 2
    merger = Merger(CoordinateMedian(), (Bucketing(2),))
    assert merger.least_updates(2) == 9
    assert merger.most_faulty(9) == 2
    assert merger.most_faulty(8) == 1


def test_neighbours_must_be_enough_too() -> None:
    assert Merger(WeightedMean(), (NearestNeighbourMixing(),)).most_faulty(9) == 0
    assert Merger(TrimmedMean(), (NearestNeighbourMixing(),)).least_updates(3) == 7
    assert Merger(Bulyan()).most_faulty(2) == -1  # it takes 3 even among the honest
    with pytest.raises(TooManyFaulty, match="not borne among any number"):
        Merger().least_updates(1)


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 12))
def test_buckets_are_random_means_of_all(seed: int, size: int, clients: int) -> None:
    updates = np.random.default_rng(seed).normal(size=(clients, 3)).astype(np.float32)
    weights = np.arange(1.0, clients + 1)
    mixture = Bucketing(size)(updates, weights, MergeContext(0, seed))
    assert len(mixture.updates) == -(-clients // size)
    np.testing.assert_allclose(mixture.mixing.sum(axis=1), 1.0)
    assert ((mixture.mixing > 0).sum(axis=0) == 1).all()  # each update is in one bucket
    assert ((mixture.mixing > 0).sum(axis=1) <= size).all()
    np.testing.assert_allclose(mixture.updates, mixture.mixing @ updates, rtol=1e-4, atol=1e-5)
    assert mixture.weights.sum() == weights.sum()


def test_buckets_follow_from_the_seed() -> None:
    updates = np.arange(12, dtype=np.float32).reshape(12, 1)
    one, again, other = (
        Bucketing(3)(updates, np.ones(12), MergeContext(0, seed)).updates.tolist()
        for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other


def test_norms_are_clipped_by_hand() -> None:
    # norms 5, 10 and 0: the median is 5, ARC with f = 1 cuts int(2 * 2 / 3) = 1 to the next, 5
    updates = np.array([[3, 4], [6, 8], [0, 0]], dtype=np.float32)
    for step in (NormClipping(), AdaptiveRobustClipping(), NormClipping(5.0)):
        mixture = step(updates, np.ones(3), MergeContext(1))
        np.testing.assert_allclose(mixture.updates, [[3, 4], [3, 4], [0, 0]], rtol=1e-6)
        np.testing.assert_allclose(np.diag(mixture.mixing), [1, 0.5, 1])
    # more than half are nothing: so is what is left
    mostly_zero = np.array([[0, 0], [6, 8], [0, 0]], dtype=np.float32)
    assert not NormClipping()(mostly_zero, np.ones(3), MergeContext(1)).updates.any()


def test_shares_are_those_of_the_updates_that_went_in() -> None:
    updates = np.array([[0.0], [0.1], [0.2], [0.3], [50.0]], dtype=np.float32)
    merger = Merger(MultiKrum(), (NearestNeighbourMixing(),))
    merged = merger.combine(updates, np.ones(5), MergeContext(1))
    assert merged.shares is not None
    assert merged.shares[4] == 0.0
    np.testing.assert_allclose(merged.shares.sum(), 1.0)
    np.testing.assert_allclose(merged.vector, merged.shares[:4] @ updates[:4], rtol=1e-5)


def test_a_voice_is_heard_once() -> None:
    updates = np.array([[0.0], [4.0], [8.0], [9.0], [1.0]], dtype=np.float32)
    weights = np.array([1.0, 1.0, 3.0, 1.0, 1.0])
    mixture = pool_voices(updates, weights, ["b", "a", "b", "", ""])
    # b: (0 + 3 * 8) / 4 = 6; a: 4; those of nobody known: 5
    assert mixture.updates.tolist() == [[6.0], [4.0], [5.0]]
    assert mixture.weights.tolist() == [4.0, 1.0, 2.0]
