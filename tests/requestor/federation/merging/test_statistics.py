"""The normaliser's statistics: exact among the trusted, bounded by the honest among others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.federation.merging.protocol import TooManyFaulty
from requestor.federation.merging.statistics import Moments, pooled, robust


def of(samples: np.ndarray) -> Moments:
    return Moments(samples.mean(axis=0), samples.var(axis=0), float(len(samples)))


@given(st.integers(0, 2**32), st.integers(1, 9))
def test_with_nobody_at_fault_and_equal_counts_both_are_those_of_the_pooled_samples(
    seed: int, clients: int
) -> None:
    samples = np.random.default_rng(seed).normal(3, 2, size=(clients, 20, 4))
    parts = [of(own) for own in samples]
    together = samples.reshape(-1, 4)
    for merged in (pooled(parts), robust(parts, 0)):
        np.testing.assert_allclose(merged.mean, together.mean(axis=0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(merged.variance, together.var(axis=0), rtol=1e-12)
        assert merged.count == len(together)


@given(st.integers(0, 2**32), st.integers(1, 3), st.sampled_from([0.0, 1.0, 1e6, 1e100]))
def test_liars_leave_them_in_the_honest_range(seed: int, faulty: int, size: float) -> None:
    random = np.random.default_rng(seed)
    honest = [of(random.normal(3, 2, size=(20, 4))) for _ in range(faulty + 1)]
    liars = [
        Moments(size * random.normal(size=4), size * random.uniform(size=4), 20.0)
        for _ in range(faulty)
    ]
    merged = robust([*liars, *honest], faulty)
    means = np.stack([part.mean for part in honest])
    assert (merged.mean >= means.min(axis=0)).all()
    assert (merged.mean <= means.max(axis=0)).all()
    spreads = np.stack([part.variance + (part.mean - merged.mean) ** 2 for part in honest])
    assert (merged.variance >= spreads.min(axis=0) * (1 - 1e-12)).all()
    assert (merged.variance <= spreads.max(axis=0) * (1 + 1e-12)).all()
    assert merged.count == 20.0 * (2 * faulty + 1)


def test_by_hand() -> None:
    # means 0, 2, 4 and 1000: without the ends 3; variances 1 + 9, 1 + 1, 1 + 1, huge: (10 + 2) / 2
    parts = [Moments(np.array([m]), np.array([1.0]), 5.0) for m in (0.0, 2.0, 4.0, 1000.0)]
    merged = robust(parts, 1)
    assert (merged.mean.tolist(), merged.variance.tolist(), merged.count) == ([3.0], [6.0], 20.0)


def test_too_many_liars_are_refused() -> None:
    with pytest.raises(TooManyFaulty, match="bear 1 bad parts among 3 and more, not among 2"):
        robust([Moments(np.zeros(1), np.ones(1), 1.0)] * 2, 1)
