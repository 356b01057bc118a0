"""native_kernels/_cuda.pyi says what the module has: names, arguments and their order."""

import ast
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import native_kernels

STUB = Path(native_kernels.__file__).with_name("_cuda.pyi")


def in_stub(body: list[ast.stmt]) -> dict[str, Any]:
    """Functions with their arguments, classes with their contents, other names with None."""
    found: dict[str, Any] = {}
    for node in body:
        match node:
            case ast.ClassDef(name=name, body=inner):
                found[name] = in_stub(inner)
            case ast.FunctionDef(name=name, decorator_list=[ast.Name(id="property")]):
                found[name] = None
            case ast.FunctionDef(name=name, args=arguments):
                found[name] = [argument.arg for argument in arguments.args]
            case ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = None
    return found


def in_module(scope: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in vars(scope).items():
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(value, type):
            found[name] = in_module(value)
        elif callable(value):
            signature = (value.__doc__ or "").splitlines()[0]
            found[name] = re.findall(r"[(,] ?(\w+): ", signature)
        else:
            found[name] = None
    return found


def test_the_stub_fits_the_module(emulated_module: ModuleType) -> None:
    assert in_module(emulated_module) == in_stub(ast.parse(STUB.read_text()).body)
