"""Coordinate median and trimmed mean: against sorting, by what they promise.

What the two rules promise: f rows of N, whatever they hold, cannot move a column out of the range
of the others.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from native_kernels import _native, aggregation, reference

Floats = NDArray[np.float32]
MODERATE = st.floats(-(2.0**60), 2.0**60, width=32)
"""Sums of these do not overflow."""


def bits(array: Floats) -> NDArray[np.uint32]:
    return array.view(np.uint32)


def random_updates(clients: int, parameters: int, seed: int = 0) -> Floats:
    random = np.random.default_rng([clients, parameters, seed])
    return random.normal(size=(clients, parameters)).astype(np.float32)


def mean_in_float64(updates: Floats, trim: int) -> NDArray[np.float64]:
    kept = np.sort(updates.astype(np.float64), axis=0)[trim : len(updates) - trim]
    return np.asarray(kept.mean(axis=0))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Floats, int]:
    clients = draw(st.integers(1, 80))
    parameters = draw(st.sampled_from([0, 1, 7, 63, 64, 65, 130]))
    trim = draw(st.integers(0, (clients - 1) // 2))
    if draw(st.booleans()):
        few = st.sampled_from([-1.5, -0.0, 0.0, 1.0, 3.0])
        return draw(hnp.arrays(np.float32, (clients, parameters), elements=few)), trim
    return draw(hnp.arrays(np.float32, (clients, parameters), elements=MODERATE)), trim


# every size of a group, both halves of two groups, merges in memory of three and more
SIZES = [*range(1, 67), 75, 96, 97, 100, 128, 129, 200, 257]


@pytest.mark.parametrize("clients", SIZES)
def test_the_median_is_numpys(level: str, clients: int) -> None:
    updates = random_updates(clients, 83)
    found = aggregation.coordinate_median(updates)
    np.testing.assert_array_equal(bits(found), bits(np.median(updates, axis=0)))
    np.testing.assert_array_equal(bits(found), bits(reference.coordinate_median(updates)))


@pytest.mark.parametrize("clients", SIZES)
def test_the_trimmed_mean_is_that_of_the_sorted_middle(level: str, clients: int) -> None:
    updates = random_updates(clients, 83)
    most = (clients - 1) // 2
    for trim in {0, 1, clients // 5, clients // 4, clients // 4 + 1, clients // 3, most - 1, most}:
        if 0 <= trim <= most:
            found = aggregation.trimmed_mean(updates, trim)
            wanted = mean_in_float64(updates, trim)
            np.testing.assert_allclose(found, wanted, rtol=0, atol=(clients + 1) * 6e-8)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_the_trimmed_mean_of_any_numbers(case: tuple[Floats, int]) -> None:
    updates, trim = case
    kept = np.abs(np.sort(updates, axis=0)[trim : len(updates) - trim].astype(np.float64))
    error = np.abs(aggregation.trimmed_mean(updates, trim) - mean_in_float64(updates, trim))
    assert (error <= (len(updates) + 1) * 6e-8 * kept.mean(axis=0) + 1e-45).all()


@pytest.mark.parametrize(("clients", "trim"), [(7, 2), (33, 8), (50, 10), (50, 20), (100, 25)])
def test_levels_and_threads_give_the_same_bits(level: str, clients: int, trim: int) -> None:
    updates = random_updates(clients, 20_011)
    alone = aggregation.trimmed_mean(updates, trim)
    together = aggregation.trimmed_mean(updates, trim, threads=3)
    np.testing.assert_array_equal(bits(alone), bits(together))
    best = _native.levels.of_this_machine()
    _native.levels.force(best)
    np.testing.assert_array_equal(bits(alone), bits(aggregation.trimmed_mean(updates, trim)))


RULES: dict[str, Callable[[Floats], Floats]] = {
    "median": aggregation.coordinate_median,
    "trimmed": lambda updates: aggregation.trimmed_mean(updates, (len(updates) - 1) // 4),
}


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 70), st.integers(0, 99))
def test_the_order_of_clients_does_not_matter(clients: int, seed: int) -> None:
    updates = random_updates(clients, 40, seed)
    shuffled = np.random.default_rng(seed).permutation(updates, axis=0)
    median, trimmed = RULES.values()
    np.testing.assert_array_equal(bits(median(updates)), bits(median(shuffled)))
    np.testing.assert_allclose(trimmed(updates), trimmed(shuffled), rtol=0, atol=clients * 6e-8)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70), st.integers(0, 99), st.integers(-20, 20))
def test_scaling_the_updates_scales_the_result(clients: int, seed: int, power: int) -> None:
    updates = random_updates(clients, 40, seed)
    scale = np.float32(2.0**power)  # exact, so equality is
    for rule in RULES.values():
        np.testing.assert_array_equal(rule(updates * scale), rule(updates) * scale)
        np.testing.assert_allclose(rule(-updates), -rule(updates), rtol=0, atol=clients * 6e-8)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70), st.integers(0, 99))
def test_translating_the_updates_translates_the_result(clients: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    updates = random.integers(-1000, 1000, size=(clients, 40)).astype(np.float32)
    by = random.integers(-1000, 1000, size=40).astype(np.float32)
    for rule in RULES.values():
        np.testing.assert_allclose(rule(updates + by), rule(updates) + by, rtol=0, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.float32, st.integers(0, 70), elements=MODERATE), st.integers(1, 70))
def test_equal_updates_come_back(update: Floats, clients: int) -> None:
    updates = np.tile(update, (clients, 1))
    np.testing.assert_array_equal(aggregation.coordinate_median(updates), update)
    np.testing.assert_allclose(RULES["trimmed"](updates), update, rtol=clients * 6e-8)


@pytest.mark.parametrize("clients", [3, 8, 21, 50, 65])
@pytest.mark.parametrize("lie", [1e6, -1e30, np.inf, -np.inf])
def test_liars_cannot_leave_the_range_of_the_honest(clients: int, lie: float) -> None:
    liars = (clients - 1) // 2
    updates = random_updates(clients, 70)
    honest = updates[liars:]
    updates[:liars] = lie
    for found in (aggregation.coordinate_median(updates), aggregation.trimmed_mean(updates, liars)):
        assert (found >= honest.min(axis=0)).all()
        assert (found <= honest.max(axis=0)).all()


def test_zeros_come_back_positive() -> None:
    for clients in (1, 2, 3, 40):
        zeros = np.full((clients, 3), -0.0, dtype=np.float32)
        for found in (aggregation.coordinate_median(zeros), aggregation.trimmed_mean(zeros, 0)):
            assert not np.signbit(found).any()


@pytest.mark.parametrize("clients", [1, 2, 16, 17, 33, 50, 100])
@pytest.mark.parametrize("column", [0, 63, 64, 999])
def test_a_nan_is_refused_wherever_it_is(level: str, clients: int, column: int) -> None:
    updates = random_updates(clients, 1000)
    for row in {0, clients // 2, clients - 1}:
        for nan in (np.nan, -np.nan):
            updates[row, column] = nan
            for threads in (1, 2):
                with pytest.raises(
                    ValueError, match=rf"updates: entry \[{row}, {column}\] is not a"
                ):
                    aggregation.coordinate_median(updates, threads=threads)
            with pytest.raises(ValueError, match=rf"updates: entry \[{row}, {column}\] is not a"):
                aggregation.trimmed_mean(updates, 0)
        updates[row, column] = 0


def test_nothing_beside_the_updates_is_read() -> None:
    """NaN around the array would be seen."""
    framed = np.full((52, 101), np.nan, dtype=np.float32)
    inner = np.ascontiguousarray(framed[1:51])
    inner[:] = random_updates(50, 101)
    framed[1:51] = inner
    np.testing.assert_array_equal(
        aggregation.coordinate_median(framed[1:51]), np.median(inner, axis=0)
    )


def test_the_most_clients() -> None:
    updates = random_updates(4096, 65)
    np.testing.assert_array_equal(
        aggregation.coordinate_median(updates), np.median(updates, axis=0)
    )
    for trim in (100, 1500):
        np.testing.assert_allclose(
            aggregation.trimmed_mean(updates, trim), mean_in_float64(updates, trim), atol=1e-5
        )


UPDATES = random_updates(4, 3)


@pytest.mark.parametrize(
    ("updates", "error", "message"),
    [
        (UPDATES.astype(np.float64), TypeError, r"updates: must be float32\[N, P\], is float64"),
        (UPDATES.astype(">f4"), TypeError, r"updates: must be float32\[N, P\]"),
        (UPDATES[0], ValueError, r"updates: .*has shape \[3\]"),
        (UPDATES[::2], ValueError, "updates: .*C order"),
        (UPDATES.T, ValueError, "updates: .*C order"),
        (UPDATES[:0], ValueError, "updates: needs at least one row"),
        (np.zeros((4097, 1), np.float32), ValueError, "updates: .*at most 4096 rows, has 4097"),
    ],
)
def test_refuses_unfit_updates(updates: Floats, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        aggregation.coordinate_median(updates)
    with pytest.raises(error, match=message):
        aggregation.trimmed_mean(updates, 0)


@pytest.mark.parametrize("trim", [-1, 2, 10**12])
def test_refuses_a_trim_that_leaves_nothing(trim: int) -> None:
    with pytest.raises(ValueError, match=rf"trim: .*half of the rows \(4\), is {trim}"):
        aggregation.trimmed_mean(UPDATES, trim)


@pytest.mark.parametrize("number", [1.0, True, "1", None])
def test_refuses_what_is_no_whole_number(number: Any) -> None:
    with pytest.raises(TypeError, match="trim: must be a whole number, is "):
        aggregation.trimmed_mean(UPDATES, number)
    with pytest.raises(TypeError, match="threads: must be a whole number, is "):
        aggregation.coordinate_median(UPDATES, threads=number)


def test_refuses_no_threads() -> None:
    with pytest.raises(ValueError, match="threads: must be at least 1, is 0"):
        aggregation.trimmed_mean(UPDATES, 1, threads=0)
    with pytest.raises(ValueError, match="threads: must be at least 1, is -3"):
        aggregation.coordinate_median(UPDATES, threads=-3)


def test_no_parameters_give_an_empty_result() -> None:
    empty = np.zeros((5, 0), dtype=np.float32)
    assert aggregation.coordinate_median(empty).shape == (0,)
    assert aggregation.trimmed_mean(empty, 1, threads=4).shape == (0,)
