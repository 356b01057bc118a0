"""Reads a config file into a `RunConfig`, or says everything that is wrong with it at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from requestor.config.complaints import complaints
from requestor.config.documents import (
    Document,
    Dumper,
    apply_overrides,
    parse_yaml,
    read_document,
)
from requestor.config.model import RunConfig
from requestor.config.secret_values import secrets_in
from requestor.errors import ConfigError


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML or TOML file and write `key.sub=value` overrides over it.

    Paths (`golem.fleet`, `golem.manifest`) are relative to the file, in an override to the
    current directory; the result has them as absolute paths.

    Raises ConfigError with one line for each problem: what, at which key and line, and the fix.
    """
    path = Path(path)
    return _checked(read_document(path), overrides, path.parent)


def parse_config(text: str, overrides: Sequence[str] = (), *, source: str = "config") -> RunConfig:
    """As `load_config`, from YAML text; paths are relative to the current directory."""
    return _checked(parse_yaml(text, source), overrides, Path())


def default_fleet() -> Path:
    """The fleet of four mock providers that comes with DeRL."""
    package = Path(__file__).resolve().parents[1]
    for configs in (package.parent / "configs", package / "configs"):
        if (configs / "fleets" / "four.yaml").is_file():
            return configs / "fleets" / "four.yaml"
    raise ConfigError("the fleet four.yaml that comes with DeRL is missing", fix="set golem.fleet")


def resolved_yaml(config: RunConfig) -> str:
    """The whole config as YAML, defaults included; loading it gives an equal config."""
    data = config.model_dump(mode="python")
    return yaml.dump(
        _writable(data, config.model_dump(mode="json")),
        Dumper=_Dumper,
        sort_keys=False,
        width=100,
    )


class _Dumper(Dumper):
    pass


def _amount(dumper: yaml.SafeDumper, amount: Decimal) -> yaml.Node:
    """A plain number where that reads back exactly, else text."""
    text = f"{amount:f}"
    if "." not in text:
        return dumper.represent_scalar("tag:yaml.org,2002:int", text)
    if Decimal(repr(float(text))) == amount:
        return dumper.represent_scalar("tag:yaml.org,2002:float", text)
    return dumper.represent_str(text)


_Dumper.add_representer(Decimal, _amount)


def _writable(data: Any, json: Any) -> Any:
    """`json` with the exact amounts of `data` put back in."""
    if isinstance(data, Decimal):
        return data
    if isinstance(json, dict) and isinstance(data, dict):
        return {key: _writable(data.get(key), value) for key, value in json.items()}
    return json


def _checked(document: Document, overrides: Sequence[str], folder: Path) -> RunConfig:
    secrets = secrets_in(document, overrides)
    if secrets:
        # nothing else is said: other complaints quote values
        raise ConfigError(f"{document.source}: secrets in the config", problems=tuple(secrets))
    _anchor(document.data, folder)
    before = {key: value for key, (_, value) in _paths(document.data).items()}
    problems = apply_overrides(document, overrides)
    _anchor(document.data, Path(), unless=before)
    try:
        config = RunConfig.model_validate(document.data)
    except ValidationError as error:
        problems += complaints(error, document)
        config = None
    if config is None or problems:
        count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
        raise ConfigError(f"{document.source}: {count}", problems=tuple(problems))
    config = _with_fleet(config, document)
    _require_files(config, document)
    return config


_PATHS: tuple[tuple[str, ...], ...] = (
    ("fleet",),
    ("manifest",),
    ("manifest", "path"),
    ("manifest", "signature"),
    ("manifest", "certificate"),
    ("manifest", "node_descriptor"),
)
"""Keys of `golem` that name a file."""


def _paths(data: dict[str, Any]) -> dict[tuple[str, ...], tuple[dict[str, Any], str]]:
    """Return the paths that the config gives, each with the section that holds it."""
    found: dict[tuple[str, ...], tuple[dict[str, Any], str]] = {}
    for key in _PATHS:
        section: Any = data.get("golem")
        for name in key[:-1]:
            section = section.get(name) if isinstance(section, dict) else None
        if isinstance(section, dict) and isinstance(text := section.get(key[-1]), str):
            found[key] = (section, text)
    return found


def _anchor(
    data: dict[str, Any], folder: Path, unless: Mapping[tuple[str, ...], str] | None = None
) -> None:
    """Make paths absolute from `folder`, except those that are still as in `unless`."""
    for key, (section, text) in _paths(data).items():
        if unless is None or unless.get(key) != text:
            section[key[-1]] = str((folder / Path(text).expanduser()).resolve())


def _with_fleet(config: RunConfig, document: Document) -> RunConfig:
    if config.golem.mode == "yagna":
        return config
    fleet = config.golem.fleet or default_fleet()
    _require_file(fleet, ("golem", "fleet"), document)
    golem = config.golem.model_copy(update={"fleet": fleet})
    return config.model_copy(update={"golem": golem})


def _require_files(config: RunConfig, document: Document) -> None:
    manifest = config.golem.manifest
    if manifest is None:
        return
    for name in ("path", "signature", "certificate", "node_descriptor"):
        if (path := getattr(manifest, name)) is not None:
            _require_file(path, ("golem", "manifest", name), document)


def _require_file(path: Path, location: tuple[str, ...], document: Document) -> None:
    if not path.is_file():
        origin = document.origin(location)
        place = ".".join(location) + (f" ({origin})" if origin else "")
        problem = f"no such file: {path} @ {place}"
        raise ConfigError(f"{document.source}: 1 problem", problems=(problem,))
