"""Every backend that is here, at every processor level, against the definitions."""

from typing import Any

import numpy as np
import pytest

from native_kernels import backends, catalogue, cuda
from native_kernels.catalogue import KERNELS, Kernel, difference

each_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)


def examples(kernel: Kernel) -> list[dict[str, Any]]:
    return list(kernel.examples(np.random.default_rng(20)))


@each_kernel
def test_the_cpu_meets_the_definition(kernel: Kernel, level: str) -> None:
    for arguments in examples(kernel):
        found = backends.kernel(kernel.name, "cpu")(**arguments)
        assert difference(kernel, arguments, found) == ""


@each_kernel
def test_threads_change_nothing(kernel: Kernel) -> None:
    function = backends.kernel(kernel.name, "cpu")
    for arguments in examples(kernel):
        try:
            several = function(**arguments, threads=3)
        except TypeError:
            return  # has one thread
        alone = function(**arguments)
        for one, other in zip(_results(alone), _results(several), strict=True):
            assert one.tobytes() == other.tobytes()


@each_kernel
def test_a_device_meets_the_definition(kernel: Kernel) -> None:
    if not cuda.status().startswith("ready"):
        pytest.skip(cuda.status())
    if not hasattr(cuda, kernel.name):
        pytest.skip("has no CUDA kernel")
    for arguments in examples(kernel):
        found = backends.kernel(kernel.name, "cuda")(**arguments)
        assert difference(kernel, arguments, found) == ""


def _results(found: Any) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(result) for result in (found if isinstance(found, tuple) else (found,))]


@each_kernel
def test_examples_reach_every_size_and_are_the_same_each_time(kernel: Kernel) -> None:
    first, second = examples(kernel), examples(kernel)
    assert len(first) >= 3
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_array_equal(value, other[name])


@each_kernel
def test_a_wrong_result_is_told(kernel: Kernel) -> None:
    arguments = examples(kernel)[-1]
    right = kernel.definition(**arguments)
    results = _results(right)
    results[0] = results[0] * (1 + 1e-4) + results[0].dtype.type(1e-4)
    wrong = tuple(results) if isinstance(right, tuple) else results[0]
    assert difference(kernel, arguments, right) == ""
    assert kernel.name in difference(kernel, arguments, wrong)
    assert kernel.tolerance == catalogue.SAME_BITS or kernel.bound is not None
    shorter = (results[0][:0], *results[1:]) if isinstance(right, tuple) else results[0][:0]
    assert "must be" in difference(kernel, arguments, shorter)


def test_a_kernel_that_no_backend_has_is_refused() -> None:
    with pytest.raises(backends.BackendError, match="name: must be one of generalized_adv"):
        backends.kernel("mean", "cpu")
