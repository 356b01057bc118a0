"""The geometric median: against its definition, against optimality, by what it promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from native_kernels import aggregation, reference

Floats = NDArray[np.float32]


def case(clients: int, parameters: int, seed: int = 0) -> tuple[Floats, NDArray[np.float64]]:
    random = np.random.default_rng([clients, parameters, seed])
    updates = random.normal(size=(clients, parameters)).astype(np.float32)
    return updates, random.uniform(0.5, 2.0, size=clients)


@pytest.mark.parametrize("clients", [1, 2, 5, 33])
@pytest.mark.parametrize("parameters", [0, 1, 17, 1024, 2051])
def test_gives_the_bits_of_the_definition(level: str, clients: int, parameters: int) -> None:
    updates, weights = case(clients, parameters)
    start = np.zeros(parameters, dtype=np.float32)
    for smoothing, origin in ((None, None), (0.1, start)):
        wanted = reference.geometric_median(
            updates, weights, iterations=8, smoothing=smoothing, start=origin
        )
        for threads in (1, 3):
            found = aggregation.geometric_median(
                updates, weights, iterations=8, smoothing=smoothing, start=origin, threads=threads
            )
            np.testing.assert_array_equal(found.view(np.uint32), wanted.view(np.uint32))


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 20), st.integers(0, 99))
def test_no_point_nearby_has_a_smaller_sum_of_distances(clients: int, seed: int) -> None:
    updates, weights = case(clients, 3, seed)
    found = aggregation.geometric_median(updates, weights, iterations=300).astype(np.float64)

    def cost(point: NDArray[np.float64]) -> float:
        return float(weights @ np.linalg.norm(updates - point, axis=1))

    random = np.random.default_rng(seed)
    for length in (1e-1, 1e-2):
        for step in random.normal(size=(10, 3)) * length:
            assert cost(found) <= cost(found + step) + 1e-5


def test_of_points_on_a_line_it_is_the_median() -> None:
    line = np.array([[0.0], [1.0], [2.0], [50.0], [900.0]], dtype=np.float32)
    found = aggregation.geometric_median(line, np.ones(5), iterations=64)
    np.testing.assert_allclose(found, [2.0], atol=1e-4)


def test_of_a_triangle_it_sees_every_side_under_120_degrees() -> None:
    corners = np.array([[0, 0], [4, 0], [1, 3]], dtype=np.float32)
    found = aggregation.geometric_median(corners, np.ones(3), iterations=500)
    to = corners - found
    to /= np.linalg.norm(to, axis=1, keepdims=True)
    np.testing.assert_allclose([to[0] @ to[1], to[1] @ to[2], to[2] @ to[0]], -0.5, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20), st.integers(0, 99), st.integers(-20, 20))
def test_follows_permutation_translation_and_scaling(clients: int, seed: int, power: int) -> None:
    updates, weights = case(clients, 40, seed)
    order = np.random.default_rng(seed).permutation(clients)
    found = aggregation.geometric_median(updates, weights)
    permuted = aggregation.geometric_median(updates[order], weights[order])
    np.testing.assert_allclose(permuted, found, rtol=0, atol=2e-6)
    moved = aggregation.geometric_median(updates + np.float32(8), weights)
    np.testing.assert_allclose(moved, found + 8, rtol=0, atol=2e-5)
    scale = np.float32(2.0**power)
    scaled = aggregation.geometric_median(updates * scale, weights)
    np.testing.assert_allclose(scaled, found * scale, rtol=1e-5, atol=2e-6 * float(scale))


@pytest.mark.parametrize("lie", [1e3, -1e6, 1e30])
def test_a_minority_does_not_draw_it_away(lie: float) -> None:
    updates, _ = case(13, 50)
    updates[:5] = lie
    honest = updates[5:].astype(np.float64)
    found = aggregation.geometric_median(updates, np.ones(13), iterations=32)
    spread = np.linalg.norm(honest - honest.mean(axis=0), axis=1).max()
    assert np.linalg.norm(found - honest.mean(axis=0)) < 3 * spread


def test_equal_updates_come_back() -> None:
    update = np.array([1.5, -2.25, 0.0, 1e-20], dtype=np.float32)
    found = aggregation.geometric_median(np.tile(update, (6, 1)), np.ones(6))
    np.testing.assert_allclose(found, update, rtol=1e-7)


def test_weight_zero_counts_for_nothing() -> None:
    updates, weights = case(6, 10)
    weights[2] = 0.0
    start = np.zeros(10, dtype=np.float32)
    with_it = aggregation.geometric_median(updates, weights, start=start, smoothing=1e-3)
    without = aggregation.geometric_median(
        np.delete(updates, 2, 0), np.delete(weights, 2), start=start, smoothing=1e-3
    )
    np.testing.assert_allclose(with_it, without, rtol=1e-6)


UPDATES, WEIGHTS = case(4, 3)
START = np.zeros(3, dtype=np.float32)
BAD = UPDATES.copy()
BAD[1, 2] = np.inf


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"updates": UPDATES.astype(np.float64)}, TypeError, r"updates: must be float32\[N, P\]"),
        ({"updates": UPDATES[:0]}, ValueError, "updates: needs at least one row"),
        ({"updates": BAD}, ValueError, r"updates: entry \[1, 2\] is not finite"),
        ({"updates": BAD, "start": START}, ValueError, r"updates: entry \[1, 2\] is not finite"),
        ({"weights": np.ones(3)}, ValueError, r"weights: .*rows \(4\), has 3"),
        ({"weights": np.zeros(4)}, ValueError, "weights: at least one entry must be above zero"),
        ({"weights": -WEIGHTS}, ValueError, "weights: .*entry 0 is -"),
        ({"iterations": 0}, ValueError, "iterations: must be at least 1, is 0"),
        ({"smoothing": 0.0}, ValueError, "smoothing: must be None or a length above zero, is 0"),
        ({"smoothing": -1.0}, ValueError, "smoothing: must be None or a length above zero"),
        ({"smoothing": np.nan}, ValueError, "smoothing: must be None or a length above zero"),
        ({"smoothing": np.inf}, ValueError, "smoothing: must be a length, finite"),
        ({"start": START[:2]}, ValueError, r"start: .*columns \(3\), has 2"),
        ({"start": np.full(3, np.nan, dtype=np.float32)}, ValueError, "start: .*entry 0 is not"),
        ({"threads": 0}, ValueError, "threads: must be at least 1"),
    ],
)
def test_refuses_unfit_arguments_by_name(
    change: dict[str, object], error: type[Exception], message: str
) -> None:
    arguments: dict[str, object] = {"updates": UPDATES, "weights": WEIGHTS} | change
    with pytest.raises(error, match=message):
        aggregation.geometric_median(**arguments)  # type: ignore[arg-type]
