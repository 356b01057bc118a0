"""Moments of parts, combined, are the moments of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider_image.learners.moments import Moments, RunningMoments, combine


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
    merged = Moments(history.mean(axis=0), history.var(axis=0), 50.0)
    for stream in streams:
        recorder = RunningMoments((3,))
        for batch in stream:
            recorder.update(batch)
        merged = combine(merged, recorder.moments())
    pooled = np.concatenate([history, *(batch for stream in streams for batch in stream)])
    assert merged.count == len(pooled)
    magnitude = abs(offset) + scale
    np.testing.assert_allclose(merged.mean, pooled.mean(axis=0), rtol=0, atol=1e-12 * magnitude)
    np.testing.assert_allclose(
        merged.variance, pooled.var(axis=0), rtol=1e-12, atol=1e-12 * magnitude**2 * 1e-3
    )


def test_nothing_recorded_changes_nothing_when_combined() -> None:
    known = Moments(np.array([1.0]), np.array([2.0]), 3.0)
    empty = RunningMoments((1,)).moments()
    assert empty.count == 0
    for result in (combine(known, empty), combine(empty, known)):
        assert (result.mean[0], result.variance[0], result.count) == (1.0, 2.0, 3.0)
    assert combine(empty, empty).count == 0


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64])
def test_sums_are_in_float64_whatever_the_samples_are(dtype: type[np.generic]) -> None:
    recorder = RunningMoments(())
    for _ in range(1000):
        recorder.update(np.full(64, 251, dtype))
    moments = recorder.moments()
    assert (float(moments.mean), float(moments.variance), moments.count) == (251.0, 0.0, 64_000.0)
