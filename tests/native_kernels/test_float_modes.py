"""The bits do not depend on the floating-point modes that another library left behind."""

import ctypes
import ctypes.util
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from native_kernels import _native, advantages, aggregation, codecs
from native_kernels.environments import BatchEnvironment
from native_kernels.ppo import PolicyShape, Ppo, PpoSettings, orthogonal_parameters
from native_kernels.rollouts import Collector

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or not ctypes.util.find_library("m"),
    reason="changes the modes of an x86-64 processor through the C library's fenv_t",
)
FLUSH_INPUTS, FLUSH_RESULTS, TOWARDS_ZERO = 1 << 6, 1 << 15, 3 << 13
MXCSR = 7
"""Where fenv_t has the register, in words of 32 bits."""


@contextmanager
def modes(bits: int) -> Iterator[None]:
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    before, during = (ctypes.c_uint32 * 8)(), (ctypes.c_uint32 * 8)()
    libm.fegetenv(ctypes.byref(before))
    libm.fegetenv(ctypes.byref(during))
    during[MXCSR] |= bits
    libm.fesetenv(ctypes.byref(during))
    try:
        yield
    finally:
        libm.fesetenv(ctypes.byref(before))


def calls() -> dict[str, Callable[[], NDArray[Any]]]:
    """Kernels over inputs whose results flushing or another rounding would change."""
    random = np.random.default_rng(0)
    x = random.normal(size=1000).astype(np.float32)
    tiny = (random.normal(size=1000) * 1e-39).astype(np.float32)
    rows = np.stack([x, x * np.float32(1e-20), tiny])
    means, variances = rows.astype(np.float64), np.abs(rows).astype(np.float64) * 1e-308
    trace = np.abs(x).reshape(100, 10) * np.float32(1e-38)
    values = trace / np.float32(3)
    start = orthogonal_parameters(SHAPE, seed=0)
    starts, dones = np.zeros((100, 10), bool), np.zeros(10, bool)
    return {
        "exp": lambda: _native.elementary.exp(x),
        "log": lambda: _native.elementary.log(np.abs(x)),
        "fused": lambda: _native.elementary.fused_multiply_add(tiny, x, tiny),
        "mean": lambda: aggregation.weighted_mean(rows, np.array([0.3, 0.3, 0.4])),
        "moments": lambda: aggregation.merge_moments(means, variances, np.ones(3))[1],
        "advantages": lambda: advantages.generalized_advantages(
            trace, values, starts, trace[-1], dones, 0.99, 0.95
        )[0],
        "median": lambda: aggregation.coordinate_median(rows[:2]),
        "norms": lambda: aggregation.norms(rows),
        "distances": lambda: aggregation.squared_distances(rows),
        "geometric median": lambda: aggregation.geometric_median(rows, np.ones(3)),
        "int8": lambda: decoded(tiny, "int8"),
        "fp16": lambda: decoded(x, "fp16"),
        "round": lambda: after_a_round(start),
    }


def decoded(update: NDArray[np.float32], name: Literal["int8", "fp16"]) -> NDArray[np.float32]:
    codec = codecs.Codec(name)
    return codecs.decode(codecs.encode(update, codec, seed=1), codec, len(update))


SHAPE = PolicyShape(3, 1, "gaussian")


def after_a_round(start: NDArray[np.float32]) -> NDArray[np.float32]:
    """Adam's second moments, squares of small gradients, are where subnormals turn up."""
    ppo = Ppo(SHAPE, start, threads=2)
    collector = Collector(ppo, BatchEnvironment("Pendulum-v1", 5, seed=1), seed=2)
    rollout = collector.collect(30, gamma=0.99, gae_lambda=0.95)
    ppo.update(rollout, PpoSettings(n_epochs=1, vf_coef=0.0, max_grad_norm=1e-19), seed=3)
    return np.concatenate([ppo.parameters, *ppo.optimizer_state[1:]])


def test_the_modes_are_really_changed() -> None:
    tiny, two = np.array([1e-40], np.float32), np.array([2.0], np.float32)
    with modes(FLUSH_INPUTS | FLUSH_RESULTS):
        assert (tiny * two)[0].tobytes() == bytes(4)
    assert (tiny * two)[0] > 0


@pytest.mark.parametrize(
    "changed",
    [FLUSH_INPUTS | FLUSH_RESULTS, TOWARDS_ZERO],
    ids=["subnormals flushed", "rounded towards zero"],
)
def test_no_result_depends_on_the_modes(changed: int, level: str) -> None:
    kernels = calls()
    expected = {name: call().tobytes() for name, call in kernels.items()}
    with modes(changed):
        results = {name: call().tobytes() for name, call in kernels.items()}
    assert {name for name in expected if results[name] != expected[name]} == set(), level
