"""The backend `cuda` over NumPy's arrays gives what the others give."""

import numpy as np

from native_kernels import backends


def test_arrays_go_to_the_device_and_come_back(device: str) -> None:
    random = np.random.default_rng(2)
    updates = random.normal(size=(5, 70)).astype(np.float32)
    trace = {
        "rewards": updates,
        "values": updates[::-1].copy(),
        "episode_starts": updates > 1.0,
        "last_values": updates[0].copy(),
        "last_dones": updates[1] > 0.0,
    }
    with backends.use("cuda"):
        for name, arguments in (
            ("weighted_mean", {"updates": updates, "weights": np.arange(5.0)}),
            ("coordinate_median", {"updates": updates}),
            ("trimmed_mean", {"updates": updates, "trim": 1}),
            ("generalized_advantages", {**trace, "gamma": 0.9, "gae_lambda": 0.8}),
        ):
            found = backends.kernel(name)(**arguments)
            wanted = backends.kernel(name, "reference")(**arguments)
            np.testing.assert_array_equal(found, wanted)
