"""Moments of parts, combined, are the moments of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native_kernels.aggregation import merge_moments
from provider_image.learners.moments import Moments, RunningMoments


def merged(*parts: Moments) -> Moments:
    """The moments of all parts together, as the requestor merges them."""
    mean, variance, count = merge_moments(
        np.stack([np.atleast_1d(part.mean).astype(np.float64) for part in parts]),
        np.stack([np.atleast_1d(part.variance).astype(np.float64) for part in parts]),
        np.array([part.count for part in parts]),
    )
    shape = parts[0].mean.shape
    return Moments(mean.reshape(shape), variance.reshape(shape), count)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    batches=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    clients=st.integers(1, 5),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    offset=st.sampled_from([0.0, 3.0, -1e3]),
)
def test_clients_moments_combined_with_the_global_are_the_pooled_streams(
    seed: int, batches: list[int], clients: int, scale: float, offset: float
) -> None:
    generator = np.random.default_rng(seed)
    streams = [
        [offset + scale * generator.standard_normal((size, 3)) for size in batches]
        for _ in range(clients)
    ]
    history = offset + scale * generator.standard_normal((50, 3))
    whole = Moments(history.mean(axis=0), history.var(axis=0), 50.0)
    for stream in streams:
        recorder = RunningMoments((3,))
        for batch in stream:
            recorder.update(batch)
        whole = merged(whole, recorder.moments())
    pooled = np.concatenate([history, *(batch for stream in streams for batch in stream)])
    assert whole.count == len(pooled)
    magnitude = abs(offset) + scale
    np.testing.assert_allclose(whole.mean, pooled.mean(axis=0), rtol=0, atol=1e-12 * magnitude)
    np.testing.assert_allclose(
        whole.variance, pooled.var(axis=0), rtol=1e-12, atol=1e-12 * magnitude**2 * 1e-3
    )


def test_nothing_recorded_changes_nothing_when_combined() -> None:
    known = Moments(np.array([1.0]), np.array([2.0]), 3.0)
    empty = RunningMoments((1,)).moments()
    assert empty.count == 0
    for result in (merged(known, empty), merged(empty, known)):
        assert (result.mean[0], result.variance[0], result.count) == (1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="counts"):
        merged(empty, empty)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64])
def test_sums_are_in_float64_whatever_the_samples_are(dtype: type[np.generic]) -> None:
    recorder = RunningMoments(())
    for _ in range(1000):
        recorder.update(np.full(64, 251, dtype))
    moments = recorder.moments()
    assert (float(moments.mean), float(moments.variance), moments.count) == (251.0, 0.0, 64_000.0)
