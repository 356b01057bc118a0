"""Config files and `key=value` overrides as plain nested mappings, with the line of every key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from requestor.errors import ConfigError

MAX_CONFIG_BYTES = 1 << 20
Location: TypeAlias = tuple[str | int, ...]


@dataclass
class Document:
    """A config before it is checked, and where each of its keys came from."""

    source: str
    data: dict[str, Any]
    origins: dict[Location, str] = field(default_factory=dict)

    def origin(self, location: Location) -> str:
        """Where a key stands, like `line 7` or `override`; empty if that is not known."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.origins:
                return self.origins[location[:length]]
        return ""


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 3e-4 is a number, as in YAML 1.2, and no key can be given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.value == "<<":
                continue
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


class Dumper(yaml.SafeDumper):
    """Writes YAML that reads back here as what it was."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        return True


for _handler in (_Loader, Dumper):
    # what YAML 1.1 takes for text and everybody else for a number, as in `1e-3`: read as a
    # number, and text that looks like it is quoted when written
    _handler.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+\Z"),
        list("-+0123456789"),
    )


def read_document(path: Path) -> Document:
    """Read a YAML or TOML file.

    Raises ConfigError if there is none, if it is too large, or if it cannot be parsed.
    """
    source = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
        if len(raw) > MAX_CONFIG_BYTES:
            raise ConfigError(f"{source}: larger than {MAX_CONFIG_BYTES} bytes")
        text = raw.decode()
    except FileNotFoundError:
        raise ConfigError(
            f"{source}: no such file", fix="name a config, or write one with `derl-request init`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: cannot be read: {error}") from None
    if path.suffix.lower() == ".toml":
        return Document(source, _parse_toml(text, source))
    if path.suffix.lower() in (".yaml", ".yml"):
        return parse_yaml(text, source)
    raise ConfigError(f"{source}: unknown kind of file", fix="name it .yaml, .yml or .toml")


def parse_yaml(text: str, source: str) -> Document:
    """Read YAML text; ConfigError if it cannot be parsed or is not a mapping."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        data = loader.construct_document(node) if node is not None else {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not valid YAML: {_yaml_complaint(error)}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: must hold sections like `env:`, is {type(data).__name__}")
    document = Document(source, data)
    if node is not None:
        _note_lines(node, (), document.origins)
    return document


def _parse_toml(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from None


def _yaml_complaint(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{error.problem} (line {mark.line + 1}, column {mark.column + 1})"
    return str(error)


def _note_lines(node: yaml.Node, location: Location, origins: dict[Location, str]) -> None:
    if location in origins or len(location) > 20:
        return
    if location:
        origins[location] = f"line {node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                below = (*location, key.value)
                _note_lines(value, below, origins)
                origins[below] = f"line {key.start_mark.line + 1}"
    elif isinstance(node, yaml.SequenceNode):
        for index, entry in enumerate(node.value):
            _note_lines(entry, (*location, index), origins)


def apply_overrides(document: Document, overrides: Sequence[str]) -> list[str]:
    """Write each `key.sub=value` into the document; return what is wrong with them, one by one."""
    problems = []
    for override in overrides:
        key, equals, text = override.partition("=")
        names = tuple(key.strip().split("."))
        if not equals or not all(names):
            problems.append(f"override {override!r} must be key=value, like federation.rounds=3")
            continue
        try:
            value = yaml.load(text, _Loader)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            problems.append(f"override {override!r} is not valid YAML: {_yaml_complaint(error)}")
            continue
        obstacle = _write(document.data, names, value)
        if obstacle:
            problems.append(f"override {override!r} cannot be applied: {obstacle}")
            continue
        for known in [place for place in document.origins if place[: len(names)] == names]:
            del document.origins[known]
        document.origins[names] = "override"
    return problems


def _write(data: dict[str, Any], names: tuple[str, ...], value: Any) -> str:
    """Set data[names] = value, making sections on the way; return what stands in the way."""
    section = data
    for depth, name in enumerate(names[:-1], start=1):
        below = section.setdefault(name, {})
        if below is None:
            below = section[name] = {}
        if not isinstance(below, Mapping):
            return f"{'.'.join(names[:depth])} is {below!r}, which has no keys"
        section[name] = section = dict(below)
    section[names[-1]] = value
    return ""
