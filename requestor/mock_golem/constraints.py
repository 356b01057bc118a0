"""The constraint language of Golem's market: LDAP filters over flat properties.

A filter is `(attribute operator value)`, `(&...)`, `(|...)` or `(!...)`; operators are `=`, `>=`,
`<=`, `>`, `<`, and `=*` for presence. White space may stand between clauses and around attributes,
operators and values. Values have no quotes: what they mean is decided by the property they meet.
Numbers compare as numbers and booleans as `true` or `false`; strings compare as strings, except
that two dotted versions compare part by part; `*` in the value of `=` matches any text. A list
matches when any of its elements does.

Logic is three-valued, as in yagna: a comparison with a property that is absent (or that cannot be
compared) is undefined; `!` of undefined stays undefined; only a filter that is true matches.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_LENGTH = 65536
MAX_DEPTH = 100

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_VERSION = re.compile(r"\d{1,18}(\.\d{1,18})+([-+][0-9A-Za-z.+-]*)?")
_COMPARISON = re.compile(r"([^()<>=*]+?)\s*(>=|<=|=|>|<)\s*([^()]*)")

Properties = Mapping[str, Any]


class ConstraintError(ValueError):
    """The text is not a constraint; the message names the position."""


@dataclass(frozen=True)
class Comparison:
    """`attribute operator value`."""

    attribute: str
    operator: str
    value: str

    def evaluate(self, properties: Properties) -> bool | None:
        """Return the truth of the comparison, None if undefined."""
        if self.attribute not in properties:
            return None
        return _compare(properties[self.attribute], self.operator, self.value)

    def __str__(self) -> str:
        return f"({self.attribute}{self.operator}{self.value})"


@dataclass(frozen=True)
class Presence:
    """`attribute=*`."""

    attribute: str

    def evaluate(self, properties: Properties) -> bool | None:
        """Tell whether the property is there."""
        return self.attribute in properties

    def __str__(self) -> str:
        return f"({self.attribute}=*)"


@dataclass(frozen=True)
class AllOf:
    """`&`: true when every clause is; true of none."""

    clauses: tuple["Constraint", ...]

    def evaluate(self, properties: Properties) -> bool | None:
        """Return False if any clause is false, else None if any is undefined."""
        results = [clause.evaluate(properties) for clause in self.clauses]
        return False if False in results else None if None in results else True

    def __str__(self) -> str:
        return f"(&{''.join(map(str, self.clauses))})"


@dataclass(frozen=True)
class AnyOf:
    """`|`: true when any clause is; false of none."""

    clauses: tuple["Constraint", ...]

    def evaluate(self, properties: Properties) -> bool | None:
        """Return True if any clause is true, else None if any is undefined."""
        results = [clause.evaluate(properties) for clause in self.clauses]
        return True if True in results else None if None in results else False

    def __str__(self) -> str:
        return f"(|{''.join(map(str, self.clauses))})"


@dataclass(frozen=True)
class Not:
    """`!` of one clause."""

    clause: "Constraint"

    def evaluate(self, properties: Properties) -> bool | None:
        """Return the opposite; undefined stays undefined."""
        result = self.clause.evaluate(properties)
        return None if result is None else not result

    def __str__(self) -> str:
        return f"(!{self.clause})"


Constraint = Comparison | Presence | AllOf | AnyOf | Not


def parse(text: str) -> Constraint:
    """Read a constraint.

    Raises:
        ConstraintError: the text is not one, is longer than `MAX_LENGTH` characters or nested
            deeper than `MAX_DEPTH`.
    """
    if len(text) > MAX_LENGTH:
        raise ConstraintError(f"longer than {MAX_LENGTH} characters")
    constraint, position = _parse_clause(text, _skip_space(text, 0), 0)
    position = _skip_space(text, position)
    if position != len(text):
        raise ConstraintError(f"unexpected {text[position]!r} at {position}, after the end")
    return constraint


def matches(constraint: Constraint | None, properties: Properties) -> bool:
    """Tell whether the properties satisfy the constraint; None (a broken one) never matches."""
    return constraint is not None and constraint.evaluate(properties) is True


def flatten(properties: Properties) -> dict[str, Any]:
    """Turn nested objects into dotted names, as the market does with what it is given."""
    flat: dict[str, Any] = {}
    pending: list[tuple[str, Any]] = list(reversed(list(properties.items())))
    while pending:
        name, value = pending.pop()
        if isinstance(value, dict) and value:
            pending.extend((f"{name}.{key}", inner) for key, inner in reversed(value.items()))
        else:
            flat[name] = value
    return flat


def _parse_clause(text: str, position: int, depth: int) -> tuple[Constraint, int]:
    if depth > MAX_DEPTH:
        raise ConstraintError(f"nested deeper than {MAX_DEPTH} at {position}")
    if not text.startswith("(", position):
        raise ConstraintError(f"expected '(' at {position}")
    inside = _skip_space(text, position + 1)
    symbol = text[inside : inside + 1]
    if symbol in ("&", "|", "!"):
        clauses, end = _parse_clauses(text, inside + 1, depth + 1)
        if symbol == "!":
            if len(clauses) != 1:
                raise ConstraintError(f"'!' takes one clause, not {len(clauses)}, at {inside}")
            return Not(clauses[0]), end
        return (AllOf(clauses) if symbol == "&" else AnyOf(clauses)), end
    return _parse_comparison(text, inside)


def _parse_clauses(text: str, position: int, depth: int) -> tuple[tuple[Constraint, ...], int]:
    clauses: list[Constraint] = []
    while True:
        position = _skip_space(text, position)
        if text.startswith(")", position):
            return tuple(clauses), position + 1
        clause, position = _parse_clause(text, position, depth)
        clauses.append(clause)


def _parse_comparison(text: str, position: int) -> tuple[Constraint, int]:
    end = text.find(")", position)
    if end < 0:
        raise ConstraintError(f"no ')' after {position}")
    body = text[position:end].strip()
    if not body:
        return AllOf(()), end + 1
    found = _COMPARISON.fullmatch(body)
    if found is None:
        raise ConstraintError(f"expected 'attribute operator value' at {position}")
    attribute, operator, value = found.group(1).strip(), found.group(2), found.group(3)
    if operator == "=" and value == "*":
        return Presence(attribute), end + 1
    return Comparison(attribute, operator, value), end + 1


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _compare(actual: Any, operator: str, value: str) -> bool | None:
    if isinstance(actual, list):
        results = [_compare(element, operator, value) for element in actual]
        return True if True in results else False if False in results or not results else None
    if isinstance(actual, bool):
        if operator != "=" or value.lower() not in ("true", "false"):
            return None
        return actual == (value.lower() == "true")
    if isinstance(actual, int | float):
        if _NUMBER.fullmatch(value) is None or not math.isfinite(actual):
            return None
        return _ordered(float(actual), operator, float(value))
    if isinstance(actual, str):
        return _compare_text(actual, operator, value)
    return None


def _compare_text(actual: str, operator: str, value: str) -> bool:
    if operator == "=":
        if "*" not in value:
            return actual == value
        pattern = ".*".join(re.escape(part) for part in value.split("*"))
        return re.fullmatch(pattern, actual, re.DOTALL) is not None
    if _VERSION.fullmatch(actual) and _VERSION.fullmatch(value):
        return _ordered(_version(actual), operator, _version(value))
    return _ordered(actual, operator, value)


def _version(text: str) -> tuple[list[int], bool]:
    release, separator, _ = re.split(r"([-+]|$)", text, maxsplit=1)
    numbers = [int(part) for part in release.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers, separator != "-"  # a pre-release comes before its release


def _ordered(left: Any, operator: str, right: Any) -> bool:
    match operator:
        case "=":
            return bool(left == right)
        case ">=":
            return bool(left >= right)
        case "<=":
            return bool(left <= right)
        case ">":
            return bool(left > right)
        case _:
            return bool(left < right)
