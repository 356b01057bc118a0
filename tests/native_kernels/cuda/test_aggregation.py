"""Aggregation on a CUDA device: the bits of the definition in NumPy."""

import numpy as np
import pytest
from numpy.typing import NDArray

from native_kernels import aggregation, cuda, reference


def bits(array: NDArray[np.float32]) -> NDArray[np.uint32]:
    return array.view(np.uint32)


def some_updates(shape: tuple[int, int]) -> NDArray[np.float32]:
    updates = np.random.default_rng(shape[0]).normal(size=shape).astype(np.float32)
    updates[:, ::5] = np.round(updates[:, ::5])  # ties, zeros of both signs
    return updates


@pytest.mark.parametrize("shape", [(1, 1), (3, 1000), (130, 257), (5, 0)])
def test_weighted_mean_gives_the_bits_of_the_definition(
    device: str, shape: tuple[int, int]
) -> None:
    updates = some_updates(shape)
    weights = np.random.default_rng(7).uniform(size=shape[0])
    mean = cuda.to_host(cuda.weighted_mean(cuda.to_device(updates), weights))
    np.testing.assert_array_equal(bits(mean), bits(reference.weighted_mean(updates, weights)))


SHAPES = [(1, 3), (2, 129), (3, 1), (7, 40), (50, 130), (97, 65), (200, 33), (384, 5), (4, 0)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_median_is_that_of_numpy(device: str, shape: tuple[int, int]) -> None:
    updates = some_updates(shape)
    median = cuda.to_host(cuda.coordinate_median(cuda.to_device(updates)))
    np.testing.assert_array_equal(bits(median), bits(reference.coordinate_median(updates)))
    np.testing.assert_array_equal(median, np.median(updates, axis=0))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_trimmed_mean_gives_the_bits_of_the_definition(
    device: str, shape: tuple[int, int]
) -> None:
    updates = some_updates(shape)
    for trim in {0, (shape[0] - 1) // 4, (shape[0] - 1) // 2}:
        mean = cuda.to_host(cuda.trimmed_mean(cuda.to_device(updates), trim))
        np.testing.assert_array_equal(bits(mean), bits(reference.trimmed_mean(updates, trim)))


def test_infinities_are_ordered_and_a_nan_spoils_its_column_alone(device: str) -> None:
    updates = np.array(
        [[np.inf, 1.0, np.nan], [-np.inf, np.inf, 1.0], [2.0, 3.0, 2.0]], dtype=np.float32
    )
    there = cuda.to_device(updates)
    assert cuda.to_host(cuda.coordinate_median(there))[:2].tolist() == [2.0, 3.0]
    for result in (cuda.coordinate_median(there), cuda.trimmed_mean(there, 0)):
        assert np.isnan(cuda.to_host(result)[2])


@pytest.mark.parametrize("trim", [-1, 2, 1.0, True])
def test_an_unfit_trim_is_refused(emulation: object, trim: int) -> None:
    with pytest.raises(ValueError, match=r"trim: must be a number of rows, 0 <= 2 \* trim < 4"):
        cuda.trimmed_mean(cuda.to_device(some_updates((4, 3))), trim)


@pytest.mark.parametrize("clients", [0, 385])
def test_more_clients_than_can_be_sorted_are_refused(emulation: object, clients: int) -> None:
    updates = cuda.to_device(np.zeros((clients, 2), dtype=np.float32))
    with pytest.raises(ValueError, match=f"updates: must have 1 to 384 rows .*has {clients}"):
        cuda.coordinate_median(updates)


@pytest.mark.parametrize(
    "shape", [(1, 5), (2, 1), (5, 1023), (19, 2100), (33, 17), (70, 4100), (3, 0)]
)
def test_distances_have_the_bits_of_the_cpu(device: str, shape: tuple[int, int]) -> None:
    updates = some_updates(shape)
    distances = cuda.to_host(cuda.squared_distances(cuda.to_device(updates)))
    assert distances.tobytes() == aggregation.squared_distances(updates).tobytes()
    np.testing.assert_allclose(distances, reference.squared_distances(updates), rtol=5e-6)


@pytest.mark.parametrize("shape", [(1, 5), (2, 1), (5, 1023), (19, 2100), (33, 17), (3, 0)])
def test_clipped_norms_have_the_bits_of_the_cpu(device: str, shape: tuple[int, int]) -> None:
    updates = some_updates(shape)
    limit = 0.9 * float(np.median(np.linalg.norm(updates, axis=1))) + 1e-3
    found = [cuda.to_host(x) for x in cuda.clip_norms(cuda.to_device(updates), limit)]
    same, defined = aggregation.clip_norms(updates, limit), reference.clip_norms(updates, limit)
    for number in range(2):
        assert found[number].tobytes() == same[number].tobytes() == defined[number].tobytes()


@pytest.mark.parametrize("limit", [0.0, -1.0, np.nan, np.inf])
def test_an_unfit_limit_is_refused(emulation: object, limit: float) -> None:
    with pytest.raises(ValueError, match="limit: must be finite and above zero"):
        cuda.clip_norms(cuda.to_device(some_updates((4, 3))), limit)


def test_no_clients_are_refused(emulation: object) -> None:
    nobody = cuda.to_device(np.zeros((0, 2), dtype=np.float32))
    for function in (cuda.squared_distances, lambda updates: cuda.clip_norms(updates, 1.0)):
        with pytest.raises(ValueError, match="updates: needs at least one row"):
            function(nobody)
