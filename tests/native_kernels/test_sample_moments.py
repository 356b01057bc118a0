"""sample_moments: against its definition, against NumPy, with merge_moments as a running mean."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stable_baselines3.common.running_mean_std import RunningMeanStd

from native_kernels import aggregation, reference


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(0, 20), st.booleans(), st.integers(0, 99))
def test_gives_the_bits_of_the_definition(rows: int, columns: int, wide: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    drawn = random.normal(3.0, 2.0, size=(rows, columns))
    samples = drawn if wide else drawn.astype(np.float32)
    for found, wanted in zip(
        aggregation.sample_moments(samples), reference.sample_moments(samples), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


def test_agrees_with_numpy_and_keeps_a_small_variance_around_a_large_mean() -> None:
    samples = 1e9 + np.random.default_rng(1).normal(size=(2000, 3))
    mean, variance, count = aggregation.sample_moments(samples)
    np.testing.assert_allclose(mean, samples.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(variance, samples.var(axis=0), rtol=1e-9)
    assert count == 2000.0


def test_merged_batch_by_batch_it_is_stable_baselines3s_running_mean() -> None:
    batches = np.random.default_rng(2).normal(5.0, 3.0, size=(6, 8, 4))
    running = RunningMeanStd(epsilon=1e-4, shape=(4,))
    mean, variance, count = np.zeros(4), np.ones(4), 1e-4
    for batch in batches:
        running.update(batch)
        of_batch = aggregation.sample_moments(batch)
        mean, variance, count = aggregation.merge_moments(
            np.stack([mean, of_batch[0]]),
            np.stack([variance, of_batch[1]]),
            np.array([count, of_batch[2]]),
        )
    np.testing.assert_allclose(mean, running.mean, rtol=1e-14)
    np.testing.assert_allclose(variance, running.var, rtol=1e-13)
    assert count == running.count


SAMPLES = np.zeros((3, 2))


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        (SAMPLES.astype(np.int64), TypeError, r"samples: must be float32\[K, O\] or float64\[K, O"),
        (SAMPLES[0], ValueError, r"samples: .*has shape \[2\]"),
        (SAMPLES[:0], ValueError, "samples: needs at least one row"),
        (SAMPLES[:, ::-1], ValueError, "samples: .*C order"),
        (SAMPLES + np.array([0.0, np.nan]), ValueError, "samples: must be finite.*column 1 is not"),
        (np.array([[1e200], [-1e200]]), ValueError, "samples: .*moments too; column 0 is not"),
    ],
)
def test_refuses_unfit_samples_by_name(
    samples: NDArray[np.float64], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        aggregation.sample_moments(samples)
