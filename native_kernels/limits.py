"""What one core of this machine can do at most: the yardstick for the speed of every kernel."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from native_kernels import _native

__all__ = ["Limits", "best_rate", "measure_limits"]


@dataclass(frozen=True)
class Limits:
    """Rates of one thread at one processor level, per second of its CPU time.

    multiply_adds: floating-point operations (two for each fused multiply-add) in float32.
    tanh, exp: results out of the first-level cache. read, copy (read and written bytes counted):
    bytes of an array beyond the caches. cache_read: bytes of 384 KiB, which the second level holds.
    """

    level: str
    multiply_adds: float
    tanh: float
    exp: float
    read: float
    copy: float
    cache_read: float


def best_rate(run: Callable[[], object], work: float, *, seconds: float) -> float:
    """Most units of work per second of this thread's CPU time, over calls of ``run``.

    run: does ``work`` units each time. seconds: of CPU time to spend, at least three calls.
    """
    run()
    best = float("inf")
    spent = 0.0
    calls = 0
    while spent < seconds or calls < 3:
        before = time.thread_time()
        run()
        took = time.thread_time() - before
        best = min(best, took)
        spent += took
        calls += 1
    return work / max(best, 1e-9)


def measure_limits(*, mebibytes: int = 128, seconds: float = 0.05) -> Limits:
    """Measure at the level in force.

    mebibytes: the size of the array that is read and copied (twice that is allocated); it should be
    well above the last cache. seconds: of CPU time for each of the six measurements.
    """
    kernels = _native.limits
    small = np.linspace(-4.0, 4.0, 4096, dtype=np.float32)
    small_out = np.empty_like(small)
    cached = np.ones(96 * 1024, dtype=np.float32)
    large = np.ones(mebibytes * 1024 * 256, dtype=np.float32)
    large_out = np.ones_like(large)
    operations = kernels.multiply_add_chains(100_000)

    def rate(run: Callable[[], object], work: float) -> float:
        return best_rate(run, work, seconds=seconds)

    return Limits(
        level=_native.levels.in_force(),
        multiply_adds=rate(lambda: kernels.multiply_add_chains(100_000), operations),
        tanh=rate(lambda: kernels.repeat_tanh(small, 200, small_out), 200 * small.size),
        exp=rate(lambda: kernels.repeat_exp(small, 200, small_out), 200 * small.size),
        read=rate(lambda: kernels.repeat_read(large, 1), large.nbytes),
        copy=rate(lambda: kernels.repeat_copy(large, 1, large_out), 2 * large.nbytes),
        cache_read=rate(lambda: kernels.repeat_read(cached, 50), 50 * cached.nbytes),
    )
