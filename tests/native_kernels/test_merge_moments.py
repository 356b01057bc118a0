"""merge_moments: against its definition, against NumPy on pooled samples, against SB3."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from stable_baselines3.common.running_mean_std import RunningMeanStd

from native_kernels import aggregation, reference

Moments = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@st.composite
def moments(draw: st.DrawFn) -> Moments:
    sets, columns = draw(st.integers(1, 6)), draw(st.integers(0, 5))
    means = draw(hnp.arrays(np.float64, (sets, columns), elements=st.floats(-1e100, 1e100)))
    variances = draw(hnp.arrays(np.float64, (sets, columns), elements=st.floats(0.0, 1e100)))
    counts = st.one_of(st.just(0.0), st.floats(1e-4, 1e12))
    return means, variances, draw(hnp.arrays(np.float64, sets, elements=counts).filter(np.any))


@given(moments())
def test_gives_the_bits_of_the_definition(case: Moments) -> None:
    mean, variance, count = aggregation.merge_moments(*case)
    expected_mean, expected_variance, expected_count = reference.merge_moments(*case)
    np.testing.assert_array_equal(mean.view(np.uint64), expected_mean.view(np.uint64))
    np.testing.assert_array_equal(variance.view(np.uint64), expected_variance.view(np.uint64))
    assert count == expected_count


@given(moments())
def test_gives_the_bits_of_stable_baselines3(case: Moments) -> None:
    means, variances, counts = (array[case[2] > 0] for array in case)
    running = RunningMeanStd(epsilon=0.0, shape=(means.shape[1],))
    running.mean, running.var, running.count = means[0].copy(), variances[0].copy(), counts[0]
    for mean, variance, count in zip(means[1:], variances[1:], counts[1:], strict=True):
        running.update_from_moments(mean, variance, count)
    mean, variance, count = aggregation.merge_moments(*case)
    np.testing.assert_array_equal(mean, running.mean)
    np.testing.assert_array_equal(variance, running.var)
    assert count == running.count


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any), st.integers(0, 2**32 - 1))
def test_equals_the_moments_of_all_samples_together(sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = [random.normal(random.normal() * 10, 2.0, size=(size, 3)) for size in sizes]
    mean, variance, count = aggregation.merge_moments(
        np.array([s.mean(axis=0) if len(s) else np.zeros(3) for s in samples]),
        np.array([s.var(axis=0) if len(s) else np.zeros(3) for s in samples]),
        np.array([float(size) for size in sizes]),
    )
    pooled = np.concatenate(samples)
    assert count == len(pooled)
    np.testing.assert_allclose(mean, pooled.mean(axis=0), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(variance, pooled.var(axis=0), rtol=1e-9, atol=1e-10)


def test_a_shifted_mean_loses_no_variance() -> None:
    """The textbook failure of E[x²] - E[x]²: a small variance around a large mean."""
    mean, variance, _ = aggregation.merge_moments(
        np.array([[1e9], [1e9 + 1.0]]), np.array([[1.0], [1.0]]), np.array([10.0, 10.0])
    )
    assert mean.tolist() == [1e9 + 0.5]
    assert variance.tolist() == [1.25]


MEANS = np.zeros((2, 3))
COUNTS = np.ones(2)


@pytest.mark.parametrize(
    ("means", "variances", "counts", "error", "message"),
    [
        (MEANS.astype(np.float32), MEANS, COUNTS, TypeError, r"means: must be float64\[K, O\], is"),
        (MEANS, MEANS[0], COUNTS, ValueError, r"variances: .*has shape \[3\]"),
        (MEANS, np.zeros((2, 4)), COUNTS, ValueError, r"variances: .*means \[2, 3\], has \[2, 4"),
        (MEANS, MEANS, np.ones(3), ValueError, r"counts: .*rows \(2\), has 3"),
        (MEANS, MEANS, np.zeros(2), ValueError, "counts: at least one"),
        (MEANS, MEANS, np.array([1.0, -2.0]), ValueError, "counts: .*entry 1 is -2"),
        (MEANS, MEANS - 1.0, COUNTS, ValueError, "variances: .*not negative"),
        (MEANS * np.nan, MEANS, COUNTS, ValueError, "means: .*finite"),
        (np.zeros((0, 3)), np.zeros((0, 3)), np.ones(0), ValueError, "means: .*one row"),
        (
            np.array([[-1e200], [1e200]]),
            np.zeros((2, 1)),
            COUNTS,
            ValueError,
            "means: too far apart",
        ),
    ],
)
def test_refuses_unfit_arguments_by_name(
    means: NDArray[np.float64],
    variances: NDArray[np.float64],
    counts: NDArray[np.float64],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        aggregation.merge_moments(means, variances, counts)
