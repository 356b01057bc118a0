"""Names and shapes: what is kept of a value, and the laws by which shapes merge."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.mock_golem.conformance.names import Names
from requestor.mock_golem.conformance.shapes import (
    NOTHING,
    Shape,
    shape_from_json,
    shape_of,
    texts_in,
)

NODE = "0x" + "a" * 40
AGREEMENT = "b" * 64
UUID = "0f0e0d0c-1111-2222-3333-444455556666"

keys = st.text(st.characters(exclude_characters="|"), max_size=8).filter(
    lambda key: not key.endswith(" (not always)")
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)
shapes = values.map(lambda value: shape_of(value, Names()))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (NODE, "<node>"),
        (AGREEMENT, "<new agreement>"),
        (f"R-{AGREEMENT}", "<new proposal>"),
        (f"{'c' * 32}-{AGREEMENT}", "<subscription>"),
        ("c" * 32, "<new id>"),
        (UUID, "<new uuid>"),
        ("2026-11-20T03:36:56.516175803Z", "instant"),
        ("2026-11-20T03:46:56.177479+00:00", "instant"),
        ("0.000502207923", "decimal"),
        ("1.55E-7", "decimal"),
        ("-1", "decimal"),
        ("", "empty"),
        ("hello", "text"),
        (f"{AGREEMENT}0", "text"),  # too long for an id
    ],
)
def test_what_a_text_is(text: str, kind: str) -> None:
    assert Names().kind_of(text) == kind


def test_an_id_is_new_once() -> None:
    names = Names()
    words = f"Allocation {UUID} of 2.5 GLM not found at 2026-11-20 07:39:01.073000+00:00."
    assert names.written(words) == (
        "Allocation <new uuid> of <number> GLM not found at <instant>."
    )
    names.meet([f"/allocations/{UUID}"])
    assert names.written(words).startswith("Allocation <uuid> of")
    assert names.kind_of(UUID) == "<uuid>"


def test_words_are_kept_and_other_texts_are_not() -> None:
    value = {"state": ["Ready", None], "stdout": "Ready", "message": f"{NODE} is busy"}
    assert shape_of(value, Names()).as_json() == {
        "message": '"<node> is busy"',
        "state": [{"|": ['"Ready"', "null"]}],
        "stdout": "text",
    }


def test_types_of_numbers_are_told_apart() -> None:
    shape = shape_of({"usage": [0, 1.0], "flag": True, "none": None, "list": []}, Names())
    assert shape.as_json() == {
        "flag": "bool",
        "list": [],
        "none": "null",
        "usage": [{"|": ["float", "int"]}],
    }


def test_a_field_that_is_lacking_sometimes() -> None:
    both = shape_of([{"a": 1, "b": 2}, {"a": ""}], Names())
    assert both.as_json() == [{"a": {"|": ["empty", "int"]}, "b (not always)": "int"}]
    assert dict(both.places()) == {
        "": "list",
        "[]": "object",
        "[].a": "empty or int",
        "[].b": "int (not always)",
    }


@given(shapes, shapes, shapes)
def test_merging_is_a_union(one: Shape, two: Shape, three: Shape) -> None:
    assert one.merged(two) == two.merged(one)
    assert one.merged(two).merged(three) == one.merged(two.merged(three))
    assert one.merged(one) == one
    assert one.merged(NOTHING) == NOTHING.merged(one) == one
    union = one.merged(two)
    assert union.merged(one) == union


@given(shapes, shapes)
def test_shapes_read_back_as_written(one: Shape, two: Shape) -> None:
    both = one.merged(two)
    assert shape_from_json(both.as_json()) == both


@given(values)
def test_no_text_but_words_gets_into_a_shape(value: Any) -> None:
    """What differs from run to run must not: not even as a part of a name."""
    secret = "0123456789abcdef" * 4
    kinds = [kind for _, kind in shape_of({"x": value, "y": secret}, Names()).places()]
    assert not any(secret in kind for kind in kinds)
    assert "<new agreement>" in kinds


def test_all_texts_are_found() -> None:
    value = {"a": ["x", {"b": "y"}], "c": 1, "d": ("z", None)}
    assert set(texts_in(value)) == {"a", "b", "c", "d", "x", "y", "z"}
