"""torch as a worker wants it: one thread, exact roots, and its compiler only if somebody asks.

torch's optimizers import `torch._dynamo` to tell a compiler that never runs here where not to
compile: 0.6 CPU-seconds, 800 modules and 100 MB, which every rented worker would pay for.

Their square roots come from MKL, which improves on the processor's own estimate of 1/sqrt(x).
Estimates differ between vendors, and so does the last bit of one root in six. NumPy's are rounded
correctly, as IEEE 754 asks, and thus the same everywhere.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch

_COMPILER = "torch._dynamo"
_ROOT = torch.sqrt
_ROUNDED = (torch.float32, torch.float64)
_Function = TypeVar("_Function", bound=Callable[..., Any])


class CompilerOnDemand(types.ModuleType):
    """Stands for `torch._dynamo`; has the two functions that optimizers call.

    Outside a compiled function both do nothing in the real module, too. Any other attribute puts
    the real module in place and is answered by it.
    """

    @staticmethod
    def graph_break(msg: str = "") -> None:
        """Nothing is being compiled, so there is nothing to break."""

    @staticmethod
    def disable(fn: _Function, recursive: bool = True, **_: object) -> _Function:
        """Nothing is compiled, so the function is itself."""
        return fn

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        if sys.modules.get(_COMPILER) is self:
            del sys.modules[_COMPILER]
            delattr(torch, "_dynamo")
        return getattr(importlib.import_module(_COMPILER), name)


def exact_root(tensor: torch.Tensor) -> torch.Tensor:
    """The square root, correctly rounded where no gradient is asked for: that of optimizers."""
    is_plain = tensor.device.type == "cpu" and tensor.layout == torch.strided
    if tensor.requires_grad or not is_plain or tensor.dtype not in _ROUNDED:
        return _ROOT(tensor)
    values = tensor.numpy()
    with np.errstate(invalid="ignore"):
        return torch.from_numpy(np.sqrt(values, out=np.empty_like(values)))


def exact_root_in_place(tensor: torch.Tensor) -> torch.Tensor:
    """`exact_root`, put into `tensor`."""
    return tensor.copy_(exact_root(tensor))


def prepare_torch() -> None:
    """Set one thread and exact roots, and the stand-in where the compiler was not yet imported."""
    torch.set_num_threads(1)
    for name, root in (("sqrt", exact_root), ("sqrt_", exact_root_in_place)):
        setattr(torch.Tensor, name, root)
    if _COMPILER not in sys.modules:
        stand_in = CompilerOnDemand(_COMPILER)
        sys.modules[_COMPILER] = stand_in
        setattr(torch, "_dynamo", stand_in)  # noqa: B010  (typed as the real module)
