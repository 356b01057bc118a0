"""The backend `cuda` over NumPy's arrays meets the definitions as the catalogue has them."""

import numpy as np
import pytest

from native_kernels import backends, catalogue, cuda

ON_DEVICES = [kernel for kernel in catalogue.KERNELS if hasattr(cuda, kernel.name)]


@pytest.mark.parametrize("kernel", ON_DEVICES, ids=lambda kernel: kernel.name)
def test_kernels_on_a_device_meet_their_definition(device: str, kernel: catalogue.Kernel) -> None:
    with backends.use("cuda"):
        for arguments in kernel.examples(np.random.default_rng(11)):
            found = backends.kernel(kernel.name)(**arguments)
            assert catalogue.difference(kernel, arguments, found) == ""


def test_most_kernels_are_there() -> None:
    assert {kernel.name for kernel in ON_DEVICES} >= {
        "clip_norms", "coordinate_median", "discounted_returns", "generalized_advantages",
        "squared_distances", "trimmed_mean", "weighted_mean",
    }  # fmt: skip
