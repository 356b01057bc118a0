"""The constraint language: what parses, what matches, and that no text breaks the parser."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requestor.mock_golem.constraints import (
    MAX_DEPTH,
    MAX_LENGTH,
    AllOf,
    AnyOf,
    Comparison,
    Constraint,
    ConstraintError,
    Not,
    Presence,
    flatten,
    matches,
    parse,
)

OFFER: dict[str, Any] = {
    "golem.inf.mem.gib": 4.0,
    "golem.inf.cpu.threads": 2,
    "golem.runtime.name": "vm",
    "golem.runtime.version": "0.10.3",
    "golem.runtime.capabilities": ["inet", "vpn"],
    "golem.srv.caps.multi-activity": True,
    "golem.node.debug.subnet": "public",
    "golem.com.payment.platform.erc20-hoodi-tglm.address": "0xabc",
    "golem.com.payment.protocol.version": 3,
    "golem.com.usage.vector": [],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(golem.inf.mem.gib>=4)", True),
        ("(golem.inf.mem.gib>4)", False),
        ("(golem.inf.mem.gib<=4.0)", True),
        ("(golem.inf.mem.gib<4e1)", True),
        ("(golem.inf.cpu.threads=2.0)", True),
        ("(golem.inf.cpu.threads>=10)", False),  # as text, "2" would be above "10"
        ("(golem.inf.mem.gib=plenty)", False),
        ("(!(golem.inf.mem.gib=plenty))", False),  # not comparable: undefined, not false
        ("(golem.runtime.name=vm)", True),
        ("(golem.runtime.name=VM)", False),
        ("(golem.runtime.name=v*)", True),
        ("(golem.runtime.name=*x*)", False),
        ("(golem.runtime.version>=0.9.0)", True),  # as text, "0.10" would be below "0.9"
        ("(golem.runtime.version<0.10.3)", False),
        ("(golem.runtime.version>0.10.3-rc1)", True),
        ("(golem.runtime.capabilities=vpn)", True),
        ("(golem.runtime.capabilities=gpu)", False),
        ("(!(golem.runtime.capabilities=gpu))", True),
        ("(golem.com.usage.vector=x)", False),
        ("(golem.srv.caps.multi-activity=true)", True),
        ("(golem.srv.caps.multi-activity=false)", False),
        ("(golem.srv.caps.multi-activity>true)", False),
        ("(golem.com.payment.platform.erc20-hoodi-tglm.address=*)", True),
        ("(golem.com.payment.protocol.version>1)", True),
        ("(no.such=*)", False),
        ("(!(no.such=*))", True),
        ("(no.such=1)", False),
        ("(!(no.such=1))", False),
        ("(&)", True),
        ("(|)", False),
        ("()", True),
        ("(&(golem.runtime.name=vm)(no.such=1))", False),
        ("(|(golem.runtime.name=vm)(no.such=1))", True),
        (" ( & \n\t( golem.runtime.name = vm )\n\t(! (golem.inf.mem.gib < 1) ) ) ", True),
        ("(|(golem.inf.mem.gib>8)(&(golem.runtime.name=vm)(golem.inf.cpu.threads>1)))", True),
    ],
)
def test_matching(text: str, expected: bool) -> None:
    assert matches(parse(text), OFFER) is expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(",
        ")",
        "(&(broken",
        "(&(a=1)",
        "a=1",
        "(a)",
        "(a=1))",
        "(a=1)(b=2)",
        "(!)",
        "(!(a=1)(b=2))",
        "(=1)",
        "(&a=1)",
        "(" * (MAX_DEPTH + 50),
        "(!" * (MAX_DEPTH + 2) + "(a=1)" + ")" * (MAX_DEPTH + 2),
        "(a=" + "x" * MAX_LENGTH + ")",
    ],
)
def test_broken_constraints(text: str) -> None:
    with pytest.raises(ConstraintError):
        parse(text)


def test_a_broken_constraint_matches_nothing() -> None:
    assert not matches(None, OFFER)


def test_deep_but_allowed() -> None:
    depth = MAX_DEPTH - 1 - MAX_DEPTH % 2
    text = "(!" * (depth - depth % 2) + "(golem.runtime.name=vm)" + ")" * (depth - depth % 2)
    assert matches(parse(text), OFFER)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet="()&|!=<>*ab1. \n\t-", max_size=60))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        constraint = parse(text)
    except ConstraintError:
        return
    assert constraint.evaluate({"a": 1, "b": ["x", True, 1.5, None, "1.2"]}) in (True, False, None)


_names = st.from_regex(r"[a-z][a-z0-9.\-_]{0,12}", fullmatch=True)
_values = st.from_regex(r"[A-Za-z0-9.\-]{1,8}", fullmatch=True)
_leaves = st.one_of(
    st.builds(Comparison, _names, st.sampled_from(["=", ">=", "<=", ">", "<"]), _values),
    st.builds(Presence, _names),
)
_constraints: st.SearchStrategy[Constraint] = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=12,
)
_scalars = st.one_of(
    st.booleans(), st.integers(), st.floats(), st.text(max_size=6), _values, st.none()
)
_properties = st.dictionaries(_names, st.one_of(_scalars, st.lists(_scalars, max_size=3)))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_constraints)
def test_text_round_trip(constraint: Constraint) -> None:
    assert parse(str(constraint)) == constraint


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_constraints, _properties)
def test_laws_of_logic(constraint: Constraint, properties: dict[str, Any]) -> None:
    truth = constraint.evaluate(properties)
    assert Not(Not(constraint)).evaluate(properties) is truth
    assert AllOf((constraint, constraint)).evaluate(properties) is truth
    assert AnyOf((constraint, constraint)).evaluate(properties) is truth
    opposite = Not(constraint).evaluate(properties)
    assert (opposite is None) == (truth is None)
    # De Morgan
    assert Not(AllOf((constraint, Presence("a")))).evaluate(properties) is AnyOf(
        (Not(constraint), Not(Presence("a")))
    ).evaluate(properties)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_numbers_compare_as_numbers(actual: int, wanted: int) -> None:
    properties = {"n": actual}
    assert matches(parse(f"(n>={wanted})"), properties) is (actual >= wanted)
    assert matches(parse(f"(n<{wanted})"), properties) is (actual < wanted)
    assert matches(parse(f"(n={wanted})"), properties) is (actual == wanted)


def test_nested_properties_become_flat() -> None:
    nested = {"golem": {"inf": {"mem.gib": 4}, "node": {}}, "a.b": [1]}
    assert flatten(nested) == {"golem.inf.mem.gib": 4, "golem.node": {}, "a.b": [1]}
