"""The loops that reach a core's limits do the work that they are paid for."""

import numpy as np
import pytest

from native_kernels import _native
from native_kernels.limits import measure_limits

limits = _native.limits


def test_operations_are_two_for_each_multiply_add(level: str) -> None:
    one = limits.multiply_add_chains(1)
    assert one % (2 * 16) == 0
    assert limits.multiply_add_chains(1000) == 1000 * one


def test_reading_reads_everything(level: str) -> None:
    x = np.arange(1280, dtype=np.float32)
    # whole numbers below 2^24: float32 sums are exact in any order
    assert limits.repeat_read(x, 3) == 3 * 1279 * 1280 / 2


def test_repeated_functions_give_what_one_call_gives(level: str) -> None:
    x = np.linspace(-9, 9, 640, dtype=np.float32)
    y = np.empty_like(x)
    limits.repeat_tanh(x, 2, y)
    np.testing.assert_array_equal(y, _native.elementary.tanh(x))
    limits.repeat_exp(x, 2, y)
    np.testing.assert_array_equal(y, _native.elementary.exp(x))
    limits.repeat_copy(x, 2, y)
    np.testing.assert_array_equal(y, x)


def test_unfit_arguments_are_named() -> None:
    x = np.zeros(128, dtype=np.float32)
    with pytest.raises(ValueError, match="rounds: must be above zero, is 0"):
        limits.multiply_add_chains(0)
    with pytest.raises(ValueError, match="x: the number of entries must be a multiple of 128"):
        limits.repeat_read(x[:64], 1)
    with pytest.raises(ValueError, match="multiple of 64, is 0"):
        limits.repeat_tanh(x[:0], 1, x[:0])
    with pytest.raises(ValueError, match="y: must have as many entries as x"):
        limits.repeat_copy(x, 1, x[:64])
    x.flags.writeable = False
    with pytest.raises(ValueError, match="y: must be writeable"):
        limits.repeat_copy(x, 1, x)


def test_limits_are_of_the_level_in_force_and_plausible(level: str) -> None:
    found = measure_limits(mebibytes=8, seconds=0.001)
    assert found.level == level
    # 1 GFLOP/s to 1 TFLOP/s, 0.3 GB/s to 1 TB/s: a loop that was optimised away is far above
    assert 1e9 < found.multiply_adds < 1e12
    assert 1e7 < found.tanh < 1e11
    assert 1e7 < found.exp < 1e11
    assert 3e8 < found.read < 1e12
    assert 3e8 < found.copy < 1e12
    assert 3e8 < found.cache_read < 3e12
