"""The reader of rl-zoo expressions: data comes through, code never does."""

import ast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import JsonValue

from requestor.config.expressions import ExpressionError, parse_expression

KEYS = st.text("abcdefgh_", min_size=1, max_size=8)
VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            "dict(net_arch=[64, 64], activation_fn=nn.Tanh)",
            {"net_arch": [64, 64], "activation_fn": "tanh"},
        ),
        (
            "dict(log_std_init=-2, ortho_init=False, net_arch=dict(pi=[256], vf=[256]))",
            {"log_std_init": -2, "ortho_init": False, "net_arch": {"pi": [256], "vf": [256]}},
        ),
        (
            "dict(optimizer_class=RMSpropTFLike, optimizer_kwargs=dict(eps=1e-5))",
            {"optimizer_class": "RMSpropTFLike", "optimizer_kwargs": {"eps": 1e-5}},
        ),
        ("{'norm_obs': True, 'norm_reward': False}", {"norm_obs": True, "norm_reward": False}),
        ("[th.nn.ReLU, torch.nn.ELU, nn.LeakyReLU]", ["relu", "elu", "leaky_relu"]),
        ("[torch.optim.Adam, th.optim.RMSprop]", ["Adam", "RMSprop"]),
        ("  (1, 'two', None)\n", [1, "two", None]),
        ("dict()", {}),
    ],
)
def test_reads_what_the_zoo_writes(text: str, value: JsonValue) -> None:
    assert parse_expression(text) == value


@given(VALUES)
def test_reads_every_python_literal_as_python_does(value: JsonValue) -> None:
    text = repr(value)
    assert parse_expression(text) == ast.literal_eval(text)


ATTACKS = [
    "dict(__import__('os').system('x'))",
    "__import__('os').system('x')",
    "dict(a=__import__('os').system('x'))",
    "(lambda: 1)()",
    "[c for c in ().__class__.__base__.__subclasses__()]",
    "().__class__",
    "dict.__class__",
    "nn.Tanh()",
    "nn.Tanh.__init__.__globals__",
    "nn.__dict__",
    "open('x')",
    "f'{open(1)}'",
    "9**9**9",
    "'a' * 10**9",
    "1 + 1",
    "dict(**{'a': 1})",
    "dict([('a', 1)])",
    "dict(a=dict)",
    "{**{}}",
    "{1: 2}",
    "[*'ab']",
    "(x := 3)",
    "a if b else c",
    "not True",
    "-True",
    "+1",
    "b'bytes'",
    "1j",
    "...",
    "{1, 2}",
    "x[0]",
    "await x",
    "yield",
    "1e999",
    "-1e999",
    str(2**63),
    "1; import os",
    "import os",
    "x = 1",
    "dict(a=1, a=2)",
    "{'a': 1, 'a': 2}",
    "",
    "\x00",
    "(" * 500 + ")" * 500,
    "-" * 1999 + "1",
    "[" * 150 + "]" * 150 + "x",
    "a" + ".b" * 900,
    "1" * 5000,
    "9" * 1999,
]


@pytest.mark.parametrize("text", ATTACKS)
def test_refuses_everything_else(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_expression(text)


def test_says_what_stands_where() -> None:
    with pytest.raises(ExpressionError, match=r"open\('x'\)\" at column 8 is not allowed; allowed"):
        parse_expression("dict(a=open('x'))")


@given(st.text(max_size=60) | st.text("dict()[]{}=:,.*'\"-+ nTanh0123456789_\\", max_size=60))
@example("'\\d'")
@example("'\\ud800'")
def test_any_text_is_data_or_refused(text: str) -> None:
    try:
        value = parse_expression(text)
    except ExpressionError:
        return
    assert value is None or isinstance(value, bool | int | float | str | list | dict)
