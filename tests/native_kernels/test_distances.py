"""Squared distances, Krum's scores, norms: against float64, by hand, by what they promise."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from native_kernels import _native, aggregation, reference

Floats = NDArray[np.float32]
RELATIVE = 5e-6


def random_updates(clients: int, parameters: int, seed: int = 0) -> Floats:
    random = np.random.default_rng([clients, parameters, seed])
    return random.normal(size=(clients, parameters)).astype(np.float32)


# whole and partial tiles of every level, whole and partial registers and blocks
@pytest.mark.parametrize("clients", [1, 2, 3, 4, 5, 6, 7, 9, 13, 50])
@pytest.mark.parametrize("parameters", [0, 1, 15, 16, 17, 1023, 1024, 1041, 2100])
def test_distances_are_those_in_float64(level: str, clients: int, parameters: int) -> None:
    updates = random_updates(clients, parameters)
    found = aggregation.squared_distances(updates)
    assert found.shape == (clients, clients)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 0)
    np.testing.assert_allclose(found, reference.squared_distances(updates), rtol=RELATIVE, atol=0)


def test_close_rows_far_from_the_origin_keep_their_distances() -> None:
    """Where |x|² + |y|² - 2 x y in float32 has no digit left."""
    updates = np.float32(1000) + np.float32(2.0**-10) * np.round(random_updates(6, 3000) * 4)
    wanted = reference.squared_distances(updates)
    assert wanted[0, 1] < 1e-6 * np.square(updates[0].astype(np.float64)).sum()
    np.testing.assert_allclose(aggregation.squared_distances(updates), wanted, rtol=RELATIVE)


@pytest.mark.parametrize("clients", [5, 50])
def test_levels_and_threads_give_the_same_bits(level: str, clients: int) -> None:
    updates = random_updates(clients, 5003)
    found = aggregation.squared_distances(updates)
    np.testing.assert_array_equal(found, aggregation.squared_distances(updates, threads=3))
    _native.levels.force(_native.levels.of_this_machine())
    np.testing.assert_array_equal(found, aggregation.squared_distances(updates))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(0, 99), st.integers(-20, 20))
def test_distances_follow_permutation_and_scaling(clients: int, seed: int, power: int) -> None:
    updates = random_updates(clients, 70, seed)
    order = np.random.default_rng(seed).permutation(clients)
    found = aggregation.squared_distances(updates)
    permuted = aggregation.squared_distances(updates[order])
    np.testing.assert_array_equal(permuted, found[np.ix_(order, order)])
    scaled = aggregation.squared_distances(updates * np.float32(2.0**power))
    np.testing.assert_array_equal(scaled, found * 4.0**power)


def test_a_far_liar_is_infinitely_far_and_the_others_are_not() -> None:
    updates = random_updates(7, 40)
    updates[2] = 1e30
    found = aggregation.squared_distances(updates)
    assert np.isinf(np.delete(found[2], 2)).all()
    assert np.isfinite(np.delete(np.delete(found, 2, 0), 2, 1)).all()
    assert np.isinf(aggregation.krum_scores(found, 1)[2])
    assert np.isfinite(np.delete(aggregation.krum_scores(found, 1), 2)).all()


def test_krum_scores_by_hand() -> None:
    points = np.array([[0.0], [1.0], [3.0], [7.0], [100.0]], dtype=np.float32)
    distances = aggregation.squared_distances(points)
    # N - f - 2 = 2 nearest others for f = 1: 1 + 9, 1 + 4, 4 + 9, 16 + 36, 93² + 97²
    assert aggregation.krum_scores(distances, 1).tolist() == [10, 5, 13, 52, 93**2 + 97**2]
    assert aggregation.krum_scores(distances, 0).tolist()[1] == 1 + 4 + 36


def test_krum_never_chooses_a_colluding_minority_far_away() -> None:
    updates = random_updates(11, 200)
    updates[:4] += 50
    scores = aggregation.krum_scores(aggregation.squared_distances(updates), 4)
    assert int(np.argmin(scores)) >= 4


@pytest.mark.parametrize(
    ("distances", "faulty", "error", "message"),
    [
        (np.zeros((5, 5), np.float32), 1, TypeError, r"distances: must be float64\[N, N\], is fl"),
        (np.zeros((5, 4)), 1, ValueError, r"distances: .*has shape \[5, 4\]"),
        (np.full((5, 5), np.nan), 1, ValueError, "distances: must not hold NaN"),
        (np.zeros((5, 5)), 2, ValueError, r"faulty: .*less than \(N - 2\) / 2 = 1.5, is 2"),
        (np.zeros((5, 5)), -1, ValueError, "faulty: .*is -1"),
        (np.zeros((2, 2)), 0, ValueError, "faulty: .*is 0"),
        (np.zeros((5, 5)), 1.0, TypeError, "faulty: must be a whole number, is 1.0"),
    ],
)
def test_refuses_unfit_distances(
    distances: NDArray[np.float64], faulty: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        aggregation.krum_scores(distances, faulty)


@pytest.mark.parametrize("parameters", [0, 1, 16, 33, 1024, 2500])
def test_norms_and_clipping_give_the_bits_of_the_definition(level: str, parameters: int) -> None:
    updates = random_updates(6, parameters) * np.float32(1e3)
    for threads in (1, 3):
        np.testing.assert_array_equal(
            aggregation.norms(updates, threads=threads), reference.norms(updates)
        )
        clipped, lengths = aggregation.clip_norms(updates, 9e3, threads=threads)
        wanted, wanted_lengths = reference.clip_norms(updates, 9e3)
        np.testing.assert_array_equal(clipped.view(np.uint32), wanted.view(np.uint32))
        np.testing.assert_array_equal(lengths, wanted_lengths)
    exact = np.linalg.norm(updates.astype(np.float64), axis=1)
    np.testing.assert_allclose(reference.norms(updates), exact, rtol=1e-13)


def test_clipping_shortens_only_what_is_too_long() -> None:
    updates = np.array([[3, 4], [30, 40], [0, 0], [-0.3, 0.4]], dtype=np.float32)
    clipped, lengths = aggregation.clip_norms(updates, 5.0)
    np.testing.assert_allclose(lengths, [5, 50, 0, 0.5], rtol=1e-7)
    assert clipped.tolist() == [[3, 4], [3, 4], [0, 0], updates[3].tolist()]


def test_the_squares_of_the_largest_floats_do_not_overflow() -> None:
    largest = np.finfo(np.float32).max
    updates = np.full((2, 4), largest, dtype=np.float32)
    assert aggregation.norms(updates).tolist() == [2 * float(largest)] * 2


UPDATES = random_updates(4, 3)
NOT_FINITE = UPDATES.copy()
NOT_FINITE[2, 1] = np.nan
INFINITE = UPDATES.copy()
INFINITE[3, 0] = -np.inf


@pytest.mark.parametrize(
    ("updates", "error", "message"),
    [
        (UPDATES.astype(np.float64), TypeError, r"updates: must be float32\[N, P\], is float64"),
        (UPDATES[0], ValueError, r"updates: .*has shape \[3\]"),
        (UPDATES[::2], ValueError, "updates: .*C order"),
        (NOT_FINITE, ValueError, r"updates: entry \[2, 1\] is not finite"),
        (NOT_FINITE[2:3], ValueError, r"updates: entry \[0, 1\] is not finite"),
    ],
)
def test_refuses_unfit_updates(updates: Floats, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        aggregation.squared_distances(updates)
    with pytest.raises(error, match=message):
        aggregation.norms(updates)
    with pytest.raises(error, match=message):
        aggregation.clip_norms(updates, 1.0)


def test_refuses_infinite_updates() -> None:
    for call in (aggregation.norms, lambda x: aggregation.clip_norms(x, 1.0)):
        with pytest.raises(ValueError, match=r"updates: entry \[3, 0\] is not finite"):
            call(INFINITE)
    both = INFINITE.copy()
    both[1, 0] = -np.inf
    with pytest.raises(ValueError, match=r"updates: entry \[1, 0\] is not finite"):
        aggregation.squared_distances(both)


@pytest.mark.parametrize("limit", [0.0, -1.0, np.nan, np.inf])
def test_refuses_an_unfit_limit(limit: float) -> None:
    with pytest.raises(ValueError, match="limit: must be finite and above zero"):
        aggregation.clip_norms(UPDATES, limit)


def test_refuses_no_rows_and_too_many() -> None:
    with pytest.raises(ValueError, match="updates: needs at least one row"):
        aggregation.squared_distances(UPDATES[:0])
    with pytest.raises(ValueError, match=r"updates: .*at most 4096 rows, has 4097"):
        aggregation.squared_distances(np.zeros((4097, 1), np.float32))
    with pytest.raises(ValueError, match="threads: must be at least 1, is 0"):
        aggregation.squared_distances(UPDATES, threads=0)
    with pytest.raises(ValueError, match="threads: must be at most 1024, is 1025"):
        aggregation.norms(UPDATES, threads=1025)
