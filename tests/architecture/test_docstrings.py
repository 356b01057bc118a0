"""Public functions say what they do; array functions say which arrays."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("requestor", "provider_image", "native_kernels", "gvmi")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ARRAY_MODULES = [
    path
    for path in MODULES
    if path.is_relative_to(ROOT / "native_kernels")
    or path.is_relative_to(ROOT / "requestor" / "federation")
]
SHAPE = re.compile(r"\b(float32|float64|u?int(8|16|32|64)|bool)\[")
ARRAY = re.compile(r"\b(NDArray|ndarray)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_definitions(source: str) -> Iterator[tuple[str, ast.Module | ast.ClassDef | Function]]:
    """The module, its public classes, functions and methods; overloads and setters left out."""
    tree = ast.parse(source)
    yield "module", tree
    yield from _below(tree, "")


def _below(
    parent: ast.Module | ast.ClassDef, prefix: str
) -> Iterator[tuple[str, ast.ClassDef | Function]]:
    for node in parent.body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            if not any(_is_minor(decorator) for decorator in node.decorator_list):
                yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from _below(node, f"{prefix}{node.name}.")


def _is_minor(decorator: ast.expr) -> bool:
    return ast.unparse(decorator).rpartition(".")[2] in ("overload", "setter", "override")


def undocumented(source: str) -> list[str]:
    return [name for name, node in public_definitions(source) if not ast.get_docstring(node)]


def without_shapes(source: str) -> list[str]:
    """Public functions over arrays whose docstring names no dtype with a shape."""
    return [
        name
        for name, node in public_definitions(source)
        if isinstance(node, Function)
        and ARRAY.search(_signature(node))
        and not SHAPE.search(ast.get_docstring(node) or "")
    ]


def _signature(node: Function) -> str:
    returns = ast.unparse(node.returns) if node.returns else ""
    return f"{ast.unparse(node.args)} -> {returns}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_everything_public_has_a_docstring(path: Path) -> None:
    assert undocumented(path.read_text()) == []


@pytest.mark.parametrize("path", ARRAY_MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_array_functions_state_dtypes_and_shapes(path: Path) -> None:
    assert without_shapes(path.read_text()) == []


def test_the_checks_see() -> None:
    source = '''
class A:
    """Doc."""
    def method(self): ...
    def _private(self): ...
    def __init__(self): ...
def mean(x: NDArray[float32]) -> float:
    """The mean."""
'''
    assert undocumented(source) == ["module", "A.method"]
    assert without_shapes(source) == ["mean"]
    assert without_shapes(source.replace("The mean", "x: float32[N]")) == []
