"""torch as a worker wants it: one thread, and its compiler imported only if somebody asks.

torch's optimizers import `torch._dynamo` to tell a compiler that never runs here where not to
compile: 0.6 CPU-seconds, 800 modules and 100 MB, which every rented worker would pay for.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any, TypeVar

import torch

_COMPILER = "torch._dynamo"
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


def prepare_torch() -> None:
    """Set one thread, and put the stand-in where the compiler has not been imported yet."""
    torch.set_num_threads(1)
    if _COMPILER not in sys.modules:
        stand_in = CompilerOnDemand(_COMPILER)
        sys.modules[_COMPILER] = stand_in
        setattr(torch, "_dynamo", stand_in)  # noqa: B010  (typed as the real module)
