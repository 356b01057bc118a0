"""Turns pydantic's findings into lines a user can act on: `what @ path (line); fix`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from requestor.config.algorithms import ALGORITHMS, REFUSED, Algorithm
from requestor.config.contradiction import Contradiction
from requestor.config.documents import Document, Location
from requestor.config.model import RunConfig

_LIMITS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}
_KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "dict_type": "a section with keys",
    "model_type": "a section with keys",
    "model_attributes_type": "a section with keys",
    "tuple_type": "a list",
    "list_type": "a list",
    "decimal_parsing": "a number of GLM",
    "decimal_type": "a number of GLM",
    "string_pattern_mismatch": "made of A-Z a-z 0-9 . _ - only",
}


def complaints(error: ValidationError, document: Document) -> list[str]:
    """One line for each thing wrong, in the order of the config."""
    return [line for details in error.errors() for line in _lines(details, document)]


def _lines(details: ErrorDetails, document: Document) -> Iterator[str]:
    if details["type"] == "across_sections":
        for found in details["ctx"]["found"]:
            yield _contradiction(found, document)
        return
    location = _without_tag(details["loc"])
    what, fix = _what(details, location)
    yield _line(what, location, fix, document)


def _contradiction(found: Contradiction, document: Document) -> str:
    return _line(found.what, tuple(found.path.split(".")), found.fix, document)


def _line(what: str, location: Location, fix: str, document: Document) -> str:
    origin = document.origin(location)
    place = path_text(location) + (f" ({origin})" if origin else "")
    return f"{what} @ {place}" + (f"; {fix}" if fix else "")


def path_text(location: Location) -> str:
    """`("env", "wrappers", 0, "name")` as `env.wrappers[0].name`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or "the file"


def _without_tag(location: Location) -> Location:
    """Pydantic puts the algorithm's name behind `algo`; the file has no such level."""
    if len(location) > 1 and location[0] == "algo" and location[1] in ALGORITHMS:
        return ("algo", *location[2:])
    return location


def _what(details: ErrorDetails, location: Location) -> tuple[str, str]:
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(details["loc"], location)
    if kind == "missing":
        return "is missing", ""
    if kind in _LIMITS:
        words, key = _LIMITS[kind]
        return f"must be {words} {context[key]}, is {_shown(value)}", ""
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}, is {_shown(value)}", ""
    if kind == "literal_error":
        return _unknown_choice(_choices(context["expected"]), value)
    if kind == "union_tag_invalid":
        what, fix = _unknown_choice(list(ALGORITHMS), value.get("name"))
        return f"name {what}", fix
    if kind == "union_tag_not_found":
        return f"name is missing; must be one of {', '.join(ALGORITHMS)}", ""
    if kind == "value_error":
        return str(context["error"]), ""
    message = details["msg"]
    return f"{message[0].lower()}{message[1:]}, is {_shown(value)}", ""


def _shown(value: Any) -> str:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    text = "null" if value is None else text
    return text if len(text) <= 60 else text[:57] + "..."


def _choices(expected: str) -> list[str]:
    return [part.strip("' ") for part in expected.replace(" or ", ",").split(",")]


def _unknown_choice(choices: Iterable[str], value: Any) -> tuple[str, str]:
    names = list(choices)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    return (
        f"must be one of {', '.join(names)}, is {_shown(value)}",
        f"did you mean {near[0]!r}?" if near else "",
    )


def _unknown_key(raw: Location, location: Location) -> tuple[str, str]:
    key = str(location[-1])
    if location[0] == "algo" and len(location) == 2 and key in REFUSED:
        return f"{key!r} cannot be set", REFUSED[key]
    names = list(_model_at(raw[:-1]).model_fields)
    elsewhere = [path for path in _all_paths() if path.rpartition(".")[2] == key]
    near = elsewhere or [repr(name) for name in difflib.get_close_matches(key, names, n=1)]
    if near:
        return f"unknown key {key!r}", f"did you mean {' or '.join(near)}?"
    return f"unknown key {key!r}", f"known are {', '.join(names)}"


def _model_at(raw: Location) -> type[BaseModel]:
    """The section that a location of pydantic's, tags included, leads to."""
    model: type[BaseModel] = RunConfig
    for part in raw:
        if model is RunConfig and part == "algo":
            continue
        if isinstance(part, str) and part in ALGORITHMS and model is RunConfig:
            model = ALGORITHMS[part]
        elif isinstance(part, str):
            model = _sections_in(model.model_fields[part].annotation)[0]
    return model


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _sections_in(part)]


def _all_paths(model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        path = f"{prefix}{name}"
        yield path
        sections = _sections_in(info.annotation)
        if len(sections) == 1 and not issubclass(sections[0], Algorithm):
            yield from _all_paths(sections[0], f"{path}.")
