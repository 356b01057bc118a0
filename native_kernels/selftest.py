"""Is this machine fit for paid work: do the kernels run here, and do they give the known bits?

``run`` is what ``python -m native_kernels selftest`` shows; ``quick_check`` is its part for a
worker that is about to say that it is ready.
"""

import hashlib
import importlib
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from native_kernels import _native, backends
from native_kernels.canary import KernelsUnfitError, canary_problem, compare_digests
from native_kernels.catalogue import KERNELS, difference
from native_kernels.limits import Limits, measure_limits
from native_kernels.speeds import Speed, measure_speeds

__all__ = ["Check", "KernelsUnfitError", "Report", "levels_here", "quick_check", "run"]

Floats = NDArray[np.float32]

LEVELS = ("v2", "avx2", "avx512")
EXAMPLES = 2
"""So many of the catalogue's examples are computed for each kernel."""
ELEMENTARY_DIGEST = "007bc356a6dfd7dbb5eeb4eb1abdac1c5e71ea48be4ff3dd63e50f1de4988fe3"
"""SHA-256 of the elementary functions over their grids, on every machine."""


@dataclass(frozen=True)
class Check:
    """One thing looked at, at a processor level or on cuda; ``problem`` is empty if it is right."""

    name: str
    level: str
    problem: str


@dataclass(frozen=True)
class Report:
    """What a self-test found. ``limits`` and ``speeds`` are None and empty after a quick one.

    backends: what there is of each. backend, level: those in force. levels: all that run here.
    """

    machine: str
    backends: dict[str, str]
    backend: str
    level: str
    levels: tuple[str, ...]
    checks: tuple[Check, ...]
    limits: Limits | None
    speeds: tuple[Speed, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every check was right."""
        return all(not check.problem for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"passed": self.passed, **asdict(self)}


def levels_here() -> tuple[str, ...]:
    """Processor levels that this machine can run, lowest first."""
    best = _native.levels.of_this_machine()
    return LEVELS[: LEVELS.index(best) + 1] if best in LEVELS else (best,)


@contextmanager
def _forced(level: str) -> Iterator[None]:
    before = _native.levels.in_force()
    _native.levels.force(level)
    try:
        yield
    finally:
        _native.levels.force(before)


def _grids() -> dict[str, tuple[Callable[[Floats], Floats], Floats]]:
    """Each elementary function and numbers, exact in float32, to try it on."""
    functions = _native.elementary
    around_zero = np.arange(-4096, 4096, dtype=np.float32) / np.float32(256)
    positive = np.arange(1, 8193, dtype=np.float32) / np.float32(64)
    return {
        "exp": (functions.exp, around_zero),
        "log": (functions.log, positive),
        "tanh": (functions.tanh, around_zero),
        "sine": (functions.sine, around_zero),
        "cosine": (functions.cosine, around_zero),
    }


def _elementary_errors() -> str:
    """Hold the elementary functions against NumPy in float64."""
    exact = {"exp": np.exp, "log": np.log, "tanh": np.tanh, "sine": np.sin, "cosine": np.cos}
    bounds = {"exp": 1.3e-7, "log": 1.3e-7, "tanh": 3e-7, "sine": 1.2e-7, "cosine": 1.2e-7}
    for name, (function, x) in _grids().items():
        wanted = exact[name](x.astype(np.float64))
        scale = np.abs(wanted) if name == "exp" else np.maximum(1.0, np.abs(wanted))
        error = float(np.max(np.abs(function(x) - wanted) / scale))
        if not error <= bounds[name]:
            return f"{name} is off by {error:.2g}, allowed are {bounds[name]:.2g}"
    return ""


def _elementary_bits() -> str:
    digest = hashlib.sha256()
    for function, x in _grids().values():
        digest.update(function(x).astype("<f4").tobytes())
    return compare_digests("elementary functions", digest.hexdigest(), ELEMENTARY_DIGEST)


def _as_defined(backend: str) -> str:
    there = importlib.import_module("native_kernels.cuda") if backend == "cuda" else None
    for kernel in KERNELS:
        if there is not None and not hasattr(there, kernel.name):
            continue
        examples = islice(kernel.examples(np.random.default_rng(1)), EXAMPLES)
        function = backends.kernel(kernel.name, backend)
        for arguments in examples:
            problem = difference(kernel, arguments, function(**arguments))
            if problem:
                return problem
    return ""


CHECKS: dict[str, Callable[[], str]] = {
    "elementary functions within their bounds": _elementary_errors,
    "elementary functions, same bits": _elementary_bits,
    "every kernel of the catalogue as defined": lambda: _as_defined("cpu"),
    "training rounds, same bits": canary_problem,
}
QUICK = (
    "elementary functions, same bits",
    "every kernel of the catalogue as defined",
    "training rounds, same bits",
)


def _checked(name: str, level: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, level, check())
    except Exception as error:
        return Check(name, level, f"{type(error).__name__}: {error}")


def quick_check() -> None:
    """Compute a few things with known results at the level in force, in milliseconds.

    Raises KernelsUnfitError, naming what differs.
    """
    level = _native.levels.in_force()
    for name in QUICK:
        problem = _checked(name, level, CHECKS[name]).problem
        if problem:
            raise KernelsUnfitError(f"the native kernels are unfit at level {level}: {problem}")


def run(*, quick: bool = False) -> Report:
    """Test every level that this machine has and, unless ``quick``, take the speeds of the kernels.

    Takes about three seconds and 300 MB, quick a second at most.
    """
    started = time.perf_counter()
    checks = []
    for level in levels_here():
        with _forced(level):
            checks += [_checked(name, level, check) for name, check in CHECKS.items()]
    found = backends.found()
    if found["cuda"].startswith("ready"):
        name = "every kernel of the catalogue as defined"
        checks.append(_checked(name, "cuda", lambda: _as_defined("cuda")))
    limits = None if quick else measure_limits()
    speeds = () if limits is None else tuple(measure_speeds(limits, 0.03))
    return Report(
        machine=f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        backends=found,
        backend=backends.in_force(),
        level=_native.levels.in_force(),
        levels=levels_here(),
        checks=tuple(checks),
        limits=limits,
        speeds=speeds,
        seconds=time.perf_counter() - started,
    )
