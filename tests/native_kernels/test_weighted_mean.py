"""weighted_mean: the built kernel against its NumPy definition, exact cases, refused arguments."""

import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from native_kernels import aggregation, reference

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
WEIGHTS = st.floats(min_value=0.0, max_value=1e300, allow_subnormal=True)


@st.composite
def updates_and_weights(
    draw: st.DrawFn,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    clients = draw(st.integers(1, 9))
    parameters = draw(st.integers(0, 40))
    updates = draw(hnp.arrays(np.float32, (clients, parameters), elements=FLOATS))
    weights = draw(hnp.arrays(np.float64, clients, elements=WEIGHTS).filter(np.any))
    return updates, weights


def bits(array: NDArray[np.float32]) -> NDArray[np.uint32]:
    return array.view(np.uint32)


@given(updates_and_weights())
def test_gives_the_bits_of_the_definition(
    case: tuple[NDArray[np.float32], NDArray[np.float64]],
) -> None:
    updates, weights = case
    mean = aggregation.weighted_mean(updates, weights)
    assert mean.dtype == np.float32
    np.testing.assert_array_equal(bits(mean), bits(reference.weighted_mean(updates, weights)))


@pytest.mark.parametrize("parameters", [1023, 1024, 1025, 70_001])
def test_gives_the_bits_of_the_definition_across_blocks(level: str, parameters: int) -> None:
    random = np.random.default_rng(parameters)
    updates = random.normal(size=(13, parameters)).astype(np.float32)
    weights = random.uniform(size=13)
    wanted = bits(reference.weighted_mean(updates, weights))
    for threads in (1, 3):
        found = aggregation.weighted_mean(updates, weights, threads=threads)
        np.testing.assert_array_equal(bits(found), wanted)


@given(updates_and_weights())
def test_lies_between_the_extremes_of_the_clients_that_count(
    case: tuple[NDArray[np.float32], NDArray[np.float64]],
) -> None:
    updates, weights = case
    counting = updates[weights / weights.sum() > 1e-12]
    mean = aggregation.weighted_mean(updates, weights).astype(np.float64)
    slack = 1e-6 * np.abs(updates).max(axis=0, initial=0.0).astype(np.float64) + 1e-44
    assert (mean >= counting.min(axis=0) - slack).all()
    assert (mean <= counting.max(axis=0) + slack).all()


@given(
    hnp.arrays(np.float32, st.integers(0, 30), elements=FLOATS),
    hnp.arrays(np.float64, st.integers(1, 8), elements=st.floats(1e-3, 1e3)),
)
def test_equal_updates_come_back_unchanged(
    update: NDArray[np.float32], weights: NDArray[np.float64]
) -> None:
    updates = np.ascontiguousarray(np.tile(update, (len(weights), 1)))
    mean = aggregation.weighted_mean(updates, weights)
    np.testing.assert_allclose(mean, update, rtol=1.2e-7, atol=1.5e-45)


def test_a_weight_of_zero_leaves_a_client_out() -> None:
    updates = np.array([[1.0, 2.0], [1e30, -1e30], [3.0, 6.0]], dtype=np.float32)
    mean = aggregation.weighted_mean(updates, np.array([1.0, 0.0, 3.0]))
    assert mean.tolist() == [2.5, 5.0]


def test_accumulates_in_double_precision() -> None:
    updates = np.array([[1e8], [1.0], [-1e8]], dtype=np.float32)
    mean = aggregation.weighted_mean(updates, np.ones(3))
    np.testing.assert_allclose(mean, [1 / 3], rtol=1e-6)


@pytest.mark.parametrize("weight", [5e-324, 1e308])
def test_only_the_ratio_of_weights_matters(weight: float) -> None:
    updates = np.array([[0.3]], dtype=np.float32)
    assert aggregation.weighted_mean(updates, np.array([weight])) == updates[0]


def test_columns_that_are_not_finite_stay_so_and_spoil_no_other() -> None:
    updates = np.array([[np.nan, np.inf, 1.0], [1.0, 1.0, 3.0]], dtype=np.float32)
    mean = aggregation.weighted_mean(updates, np.ones(2))
    assert np.isnan(mean[0])
    assert np.isposinf(mean[1])
    assert mean[2] == 2.0


UPDATES = np.ones((2, 3), dtype=np.float32)
ONES = np.ones(2)


@pytest.mark.parametrize(
    ("updates", "weights", "error", "message"),
    [
        (UPDATES.astype(np.float64), ONES, TypeError, r"updates: must be float32\[N, P\], is flo"),
        (UPDATES.astype(">f4"), ONES, TypeError, r"updates: must be float32\[N, P\], is >f4"),
        (UPDATES[0], ONES, ValueError, r"updates: .*has shape \[3\]"),
        (UPDATES.T, np.ones(3), ValueError, r"updates: .*ascontiguousarray\(updates\)"),
        (np.ones((0, 3), dtype=np.float32), np.ones(0), ValueError, "updates: .*one row"),
        (UPDATES, ONES.astype(np.float32), TypeError, r"weights: must be float64\[N\], is flo"),
        (UPDATES, np.ones(4)[::2], ValueError, r"weights: .*ascontiguousarray\(weights\)"),
        (UPDATES, np.ones(3), ValueError, r"weights: .*has rows \(2\), has 3"),
        (UPDATES, np.zeros(2), ValueError, "weights: at least one"),
        (UPDATES, np.array([1.0, -1.0]), ValueError, "weights: .*entry 1 is -1"),
        (UPDATES, np.array([np.nan, 1.0]), ValueError, "weights: .*entry 0 is nan"),
        (UPDATES, np.array([np.inf, 1.0]), ValueError, "weights: .*entry 0 is inf"),
        (UPDATES, np.array([1.7e308, 1.7e308]), ValueError, "weights: the sum exceeds"),
        ([[1.0]], ONES, TypeError, "incompatible function arguments"),
    ],
)
def test_refuses_unfit_arguments_by_name(
    updates: NDArray[np.float32],
    weights: NDArray[np.float64],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        aggregation.weighted_mean(updates, weights)


def test_runs_without_the_interpreter_lock() -> None:
    """Another thread makes progress while one long call runs."""
    updates = np.ones((64, 400_000), dtype=np.float32)
    weights = np.ones(64)
    turns = 0
    turns_during_the_call = -1

    def work() -> None:
        nonlocal turns_during_the_call
        before = turns
        aggregation.weighted_mean(updates, weights)
        turns_during_the_call = turns - before

    interval = sys.getswitchinterval()
    sys.setswitchinterval(60.0)  # threads change only where one gives the lock up
    try:
        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            turns += 1
            time.sleep(0.0)
    finally:
        sys.setswitchinterval(interval)
    assert turns_during_the_call > 0
