"""Shapes of JSON values: types, keys and the words that matter, merged over many samples."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from requestor.mock_golem.conformance.names import Names

# strings under these keys are kept as they are, but for the ids in them
_WORDS = {
    "message", "detail", "type", "instance", "state", "eventType", "role", "result", "status",
    "terminator", "driver", "network", "token", "platform", "paymentPlatform",
}  # fmt: skip
_SOMETIMES = " (not always)"


@dataclass(frozen=True)
class Shape:
    """What a value may be: `scalars`, an object with `fields`, a list of `items`, or several.

    A field is paired with whether it is there every time.
    """

    scalars: frozenset[str] = frozenset()
    fields: tuple[tuple[str, "Shape", bool], ...] | None = None
    items: "Shape | None" = None

    def merged(self, other: "Shape") -> "Shape":
        """Return the shape of whatever is of this shape or of the other."""
        return Shape(
            self.scalars | other.scalars,
            _merged_fields(self.fields, other.fields),
            _merged_items(self.items, other.items),
        )

    def places(self, path: str = "") -> Iterator[tuple[str, str]]:
        """Yield each place in the shape with what is there, as `(".status", '"ACCEPTED"')`."""
        yield path, self._kinds()
        for name, shape, always in self.fields or ():
            places = shape.places(f"{path}.{name}")
            place, kinds = next(places)
            yield place, kinds if always else f"{kinds}{_SOMETIMES}"
            yield from places
        if self.items is not None and self.items != NOTHING:
            yield from self.items.places(f"{path}[]")

    def _kinds(self) -> str:
        kinds = sorted(self.scalars)
        kinds += [] if self.fields is None else ["object"]
        kinds += [] if self.items is None else ["list" if self.items != NOTHING else "empty list"]
        return " or ".join(kinds)

    def as_json(self) -> Any:
        """Return it as a JSON document."""
        alternatives: list[Any] = sorted(self.scalars)
        if self.fields is not None:
            alternatives.append(
                {
                    name if always else f"{name}{_SOMETIMES}": shape.as_json()
                    for name, shape, always in self.fields
                }
            )
        if self.items is not None:
            alternatives.append([] if self.items == NOTHING else [self.items.as_json()])
        return alternatives[0] if len(alternatives) == 1 else {"|": alternatives}


NOTHING = Shape()


def shape_of(value: Any, names: Names, key: str = "") -> Shape:
    """Return a value's shape; `key` is the name under which it stands."""
    if isinstance(value, Mapping):
        fields = [(str(name), shape_of(one, names, str(name)), True) for name, one in value.items()]
        return Shape(fields=tuple(sorted(fields, key=lambda field: field[0])))
    if isinstance(value, list | tuple):
        items = NOTHING
        for one in value:
            items = items.merged(shape_of(one, names, key))
        return Shape(items=items)
    return Shape(frozenset({_scalar(value, names, key)}))


def shape_from_json(document: Any) -> Shape:
    """Return the shape that a document of `Shape.as_json` describes."""
    if isinstance(document, str):
        return Shape(frozenset({document}))
    if isinstance(document, list):
        return Shape(items=shape_from_json(document[0]) if document else NOTHING)
    if set(document) == {"|"}:
        shape = NOTHING
        for one in document["|"]:
            shape = shape.merged(shape_from_json(one))
        return shape
    fields = [
        (name.removesuffix(_SOMETIMES), shape_from_json(one), not name.endswith(_SOMETIMES))
        for name, one in document.items()
    ]
    return Shape(fields=tuple(sorted(fields, key=lambda field: field[0])))


def texts_in(value: Any) -> Iterator[str]:
    """Yield all strings in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield str(name)
            yield from texts_in(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from texts_in(one)


def _scalar(value: Any, names: Names, key: str) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    if key in _WORDS:
        return json.dumps(names.written(value), ensure_ascii=False)
    return names.kind_of(value)


def _merged_fields(
    one: tuple[tuple[str, Shape, bool], ...] | None,
    other: tuple[tuple[str, Shape, bool], ...] | None,
) -> tuple[tuple[str, Shape, bool], ...] | None:
    if one is None or other is None:
        return other if one is None else one
    left = {name: (shape, always) for name, shape, always in one}
    right = {name: (shape, always) for name, shape, always in other}
    merged = []
    for name in sorted({*left, *right}):
        a, a_always = left.get(name, (NOTHING, False))
        b, b_always = right.get(name, (NOTHING, False))
        merged.append((name, a.merged(b), a_always and b_always))
    return tuple(merged)


def _merged_items(one: Shape | None, other: Shape | None) -> Shape | None:
    if one is None or other is None:
        return other if one is None else one
    return one.merged(other)
