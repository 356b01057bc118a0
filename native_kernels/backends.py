"""Which implementation of the kernels computes: NumPy's definitions, the CPU's, or a CUDA device's.

One is in force, chosen when it is first asked for and told to the log: the one that DERL_BACKEND
names, else ``cpu``. A GPU is never taken unasked: the arrays of a training run are in host memory,
and a copy there and back costs more than most kernels. What was chosen stays; where it cannot
compute it raises ``BackendError``, and nothing else steps in for it.

``native_kernels.cuda`` is for arrays that are on a device already; here arrays are NumPy's.
"""

import functools
import importlib
import inspect
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from native_kernels import reference
from native_kernels._native import levels
from native_kernels.catalogue import KERNELS

__all__ = ["BACKENDS", "VARIABLE", "BackendError", "found", "in_force", "kernel", "use"]

BACKENDS = ("reference", "cpu", "cuda")
"""Names, from the plainest to the fastest on large arrays."""

VARIABLE = "DERL_BACKEND"

_AREAS = {kernel.name: kernel.area for kernel in KERNELS}
_ON_HOST = frozenset({"weights"})
"""Arguments that kernels of a device take from NumPy."""

_logger = logging.getLogger(__name__)
_chosen: list[str] = []


class BackendError(RuntimeError):
    """A backend that does not exist, cannot be had here or has no such kernel."""


def found() -> dict[str, str]:
    """What there is here: for each backend "ready: …", or what is missing."""
    cuda = importlib.import_module("native_kernels.cuda")
    return {
        "reference": f"ready: NumPy {np.__version__}",
        "cpu": f"ready: {levels.in_force()}",
        "cuda": str(cuda.status()),
    }


def in_force() -> str:
    """Return the backend that computes; the first call chooses. Raises BackendError."""
    if not _chosen:
        named = os.environ.get(VARIABLE)
        name = _checked(named or "cpu", VARIABLE)
        why = f"{VARIABLE} names it" if named else f"{VARIABLE} names none"
        _logger.info("kernels are computed by the backend %s, because %s", name, why)
        _chosen.append(name)
    return _chosen[0]


@contextmanager
def use(name: str) -> Iterator[None]:
    """Put a backend in force for a while; for tests and comparisons. Raises BackendError."""
    before = list(_chosen)
    _chosen[:] = [_checked(name, "name")]
    try:
        yield
    finally:
        _chosen[:] = before


def kernel(name: str, backend: str | None = None) -> Callable[..., Any]:
    """Return a kernel over NumPy's arrays by its name, of the backend in force or of the one named.

    Contracts stand in ``native_kernels.aggregation`` and ``native_kernels.advantages``; reference
    checks no arguments. Raises BackendError.
    """
    if name not in _AREAS:
        raise BackendError(f"name: must be one of {', '.join(_AREAS)}, is {name!r}")
    chosen = in_force() if backend is None else _checked(backend, "backend")
    if chosen == "reference":
        function: Callable[..., Any] = getattr(reference, name)
    elif chosen == "cpu":
        function = getattr(importlib.import_module(f"native_kernels.{_AREAS[name]}"), name)
    else:
        function = _over_host_arrays(name)
    return function


def _checked(name: str, source: str) -> str:
    if name not in BACKENDS:
        raise BackendError(f"{source}: must be one of {', '.join(BACKENDS)}, is {name!r}")
    state = found()[name] if name == "cuda" else "ready"
    if not state.startswith("ready"):
        raise BackendError(f"{source}: the backend {name} cannot be had here: {state}")
    return name


def _over_host_arrays(name: str) -> Callable[..., Any]:
    """Copy arrays to the device, compute there, copy results back and wait for them."""
    cuda = importlib.import_module("native_kernels.cuda")
    function = getattr(cuda, name, None)
    if function is None:
        raise BackendError(f"name: the backend cuda has no kernel {name}")
    signature = inspect.signature(function)

    @functools.wraps(function)
    def computed(*args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(*args, **kwargs).arguments
        for key, value in arguments.items():
            if isinstance(value, np.ndarray) and key not in _ON_HOST:
                arguments[key] = cuda.to_device(value)
        results = function(**arguments)
        if isinstance(results, tuple):
            return tuple(cuda.to_host(result) for result in results)
        return cuda.to_host(results)

    return computed
