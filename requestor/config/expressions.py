"""Reads the Python-looking values of rl-zoo configs as data: nothing is ever evaluated.

`dict(net_arch=[64, 64], activation_fn=nn.Tanh)` becomes
`{"net_arch": [64, 64], "activation_fn": "tanh"}`.
"""

from __future__ import annotations

import ast
import math
import warnings

from pydantic import JsonValue

MAX_CHARACTERS = 2000
_ACTIVATIONS = {
    "Tanh": "tanh",
    "ReLU": "relu",
    "ELU": "elu",
    "LeakyReLU": "leaky_relu",
    "GELU": "gelu",
    "SiLU": "silu",
}
_OPTIMIZERS = ("Adam", "AdamW", "RMSprop", "SGD", "RMSpropTFLike")
CLASSES = {
    **{
        f"{module}{name}": plain
        for module in ("", "nn.", "th.nn.", "torch.nn.")
        for name, plain in _ACTIVATIONS.items()
    },
    **{
        f"{module}{name}": name
        for module in ("", "optim.", "th.optim.", "torch.optim.")
        for name in _OPTIMIZERS
    },
}
"""Class names as rl-zoo writes them, and the plain names that orders carry."""

ALLOWED = (
    "allowed are dict(name=value), {'name': value}, lists, tuples, numbers, text, True, False, "
    f"None, nn.{', nn.'.join(_ACTIVATIONS)} and the optimizers {', '.join(_OPTIMIZERS)}"
)


class ExpressionError(ValueError):
    """The text holds something other than plain data; the message says what and where."""


def parse_expression(text: str) -> JsonValue:
    """Read `text` as plain data.

    Raises ExpressionError for everything that is not data, with the column it stands in.
    """
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(f"has {len(text)} characters, the limit is {MAX_CHARACTERS}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in strangers' text
            tree = ast.parse(text.strip(), mode="eval")
        return _plain(tree.body)
    except SyntaxError as error:
        raise ExpressionError(f"cannot be read: {error.msg} at column {error.offset}") from None
    except (RecursionError, MemoryError):
        raise ExpressionError("is nested too deeply") from None
    except ExpressionError:
        raise
    except ValueError as error:  # null bytes, numerals without end
        raise ExpressionError(f"cannot be read: {error}") from None


def _plain(node: ast.expr) -> JsonValue:
    match node:
        case ast.Constant(value=value):
            return _constant(value, node)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)) if (
            not isinstance(number, bool)
        ):
            return _constant(-number, node)
        case ast.List(elts=entries) | ast.Tuple(elts=entries):
            return [_plain(entry) for entry in entries]
        case ast.Dict(keys=keys, values=values):
            return _mapping([(_key(k, node), v) for k, v in zip(keys, values, strict=True)], node)
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            return _mapping([(_argument(k, node), k.value) for k in keywords], node)
        case ast.Name() | ast.Attribute():
            return _class(node)
        case _:
            raise _refusal(node)


def _constant(value: object, node: ast.expr) -> JsonValue:
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionError(f"number out of range at column {node.col_offset + 1}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ExpressionError(f"number out of range at column {node.col_offset + 1}")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise _refusal(node)


def _key(key: ast.expr | None, mapping: ast.Dict) -> str:
    if isinstance(key, ast.Constant) and isinstance(key.value, str):
        return key.value
    raise _refusal(key or mapping)


def _argument(keyword: ast.keyword, call: ast.Call) -> str:
    if keyword.arg is None:  # **mapping
        raise _refusal(call)
    return keyword.arg


def _mapping(items: list[tuple[str, ast.expr]], node: ast.expr) -> JsonValue:
    result: dict[str, JsonValue] = {}
    for name, value in items:
        if name in result:
            raise ExpressionError(f"{name!r} is given twice at column {node.col_offset + 1}")
        result[name] = _plain(value)
    return result


def _class(node: ast.Name | ast.Attribute) -> str:
    parts: list[str] = []
    inner: ast.expr = node
    while isinstance(inner, ast.Attribute):
        parts.append(inner.attr)
        inner = inner.value
    if isinstance(inner, ast.Name):
        name = ".".join([inner.id, *reversed(parts)])
        if name in CLASSES:
            return CLASSES[name]
    raise _refusal(node)


def _refusal(node: ast.expr) -> ExpressionError:
    return ExpressionError(
        f"{ast.unparse(node)[:60]!r} at column {node.col_offset + 1} is not allowed; {ALLOWED}"
    )
