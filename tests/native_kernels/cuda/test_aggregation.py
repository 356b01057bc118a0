"""Aggregation on a CUDA device: the bits of the definition in NumPy."""

import numpy as np
import pytest
from numpy.typing import NDArray

from native_kernels import cuda, reference


def bits(array: NDArray[np.float32]) -> NDArray[np.uint32]:
    return array.view(np.uint32)


@pytest.mark.parametrize("shape", [(1, 1), (3, 1000), (130, 257), (5, 0)])
def test_weighted_mean_gives_the_bits_of_the_definition(
    device: str, shape: tuple[int, int]
) -> None:
    random = np.random.default_rng(7)
    updates = random.normal(size=shape).astype(np.float32)
    weights = random.uniform(size=shape[0])
    mean = cuda.to_host(cuda.weighted_mean(cuda.to_device(updates), weights))
    np.testing.assert_array_equal(bits(mean), bits(reference.weighted_mean(updates, weights)))
