"""Exe-scripts: JSON commands checked and turned into data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from requestor.mock_golem.exe_unit.progress import DEFAULT_INTERVAL_SECONDS, parse_duration
from requestor.mock_golem.exe_unit.spec import ExeScriptError
from requestor.mock_golem.exe_unit.vpn import Membership

CaptureMode = dict[str, Any]
MOST_NETWORKS = 8


@dataclass(frozen=True)
class Deploy:
    """Make the container: volumes and networks."""

    volumes: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    networks: tuple[Membership, ...] = ()
    progress_seconds: float | None = None  # between two reports; None: none is wanted
    name = "deploy"


@dataclass(frozen=True)
class Start:
    """Start the runtime in the container."""

    args: tuple[str, ...] = ()
    name = "start"


@dataclass(frozen=True)
class Run:
    """Run a program to its end, with what is to be captured of its output."""

    entry_point: str
    args: tuple[str, ...] = ()
    stdout: CaptureMode | None = None
    stderr: CaptureMode | None = None
    name = "run"


@dataclass(frozen=True)
class Transfer:
    """Copy a file into or out of a volume."""

    source: str
    target: str
    progress_seconds: float | None = None

    @property
    def name(self) -> str:
        """As fault triggers know it: `transfer_in` or `transfer_out`."""
        return "transfer_in" if self.target.startswith("container:") else "transfer_out"


@dataclass(frozen=True)
class Terminate:
    """End the runtime."""

    name = "terminate"


@dataclass(frozen=True)
class Sign:
    """Sign the results so far; not supported."""

    name = "sign"


Command = Deploy | Start | Run | Transfer | Terminate | Sign


@dataclass(frozen=True)
class ScriptLine:
    """A command and how runtime events spell it (all fields, defaults filled in)."""

    command: Command
    json: dict[str, Any]


def parse_script(commands: list[dict[str, Any]]) -> list[ScriptLine]:
    """Check a whole script before anything of it runs; raises `ExeScriptError`."""
    if not isinstance(commands, list):
        raise ExeScriptError("invalid type: expected a sequence of commands")
    return [_parse_line(index, entry) for index, entry in enumerate(commands)]


def _parse_line(index: int, entry: Any) -> ScriptLine:
    where = f"command {index}"
    if not isinstance(entry, dict) or len(entry) != 1:
        raise ExeScriptError(f"{where}: expected an object with exactly one key, the command")
    ((kind, body),) = entry.items()
    if kind not in _PARSERS:
        known = ", ".join(f"`{name}`" for name in _PARSERS)
        raise ExeScriptError(f"{where}: unknown variant `{kind}`, expected one of {known}")
    if not isinstance(body, dict):
        raise ExeScriptError(f"{where}: `{kind}` must be an object")
    command, spelled = _PARSERS[kind](f"{where}: `{kind}`", body)
    return ScriptLine(command, {kind: spelled})


def _deploy(where: str, body: dict[str, Any]) -> tuple[Command, dict[str, Any]]:
    volumes = body.get("volumes") or []
    if isinstance(volumes, dict):
        volumes = list(volumes)
    if not _is_texts(volumes):
        raise ExeScriptError(f"{where}: volumes must be a list of paths or a map from paths")
    environment = body.get("env") or {}
    if not isinstance(environment, dict) or not _is_texts(list(environment.values())):
        raise ExeScriptError(f"{where}: env must be a map of texts")
    defaults: dict[str, Any] = {
        "net": [],
        "hosts": {},
        "hostname": None,
        "env": {},
        "progress": None,
    }
    networks = _networks(where, body.get("net") or [])
    interval = _progress(where, body.get("progress"))
    return Deploy(tuple(volumes), environment, networks, interval), {**defaults, **body}


def _progress(where: str, arguments: Any) -> float | None:
    """Seconds between two reports, None if none are wanted."""
    if arguments is None:
        return None
    if not isinstance(arguments, dict):
        raise ExeScriptError(f"{where}: progress must be an object")
    interval = arguments.get("updateInterval")
    if interval is None:
        return DEFAULT_INTERVAL_SECONDS
    if not isinstance(interval, str):
        raise ExeScriptError(f"{where}: updateInterval must be a text")
    try:
        return parse_duration(interval)
    except ValueError as error:
        raise ExeScriptError(f"{where}: {error}") from error


def _networks(where: str, listed: Any) -> tuple[Membership, ...]:
    if not isinstance(listed, list) or len(listed) > MOST_NETWORKS:
        raise ExeScriptError(f"{where}: net must be a list of at most {MOST_NETWORKS} networks")
    found = []
    for network in listed:
        if not isinstance(network, dict):
            raise ExeScriptError(f"{where}: a network must be an object")
        names = {key: _text(where, network, key) for key in ("id", "ip", "nodeIp")}
        mask = network.get("mask")
        whole = names["ip"] if "/" in names["ip"] or mask is None else f"{names['ip']}/{mask}"
        try:
            netmask = str(IPv4Network(whole, strict=False).netmask)
            address = str(IPv4Address(names["nodeIp"]))
        except ValueError as error:
            raise ExeScriptError(f"{where}: {error}") from error
        found.append(Membership(names["id"], address, netmask))
    return tuple(found)


def _start(where: str, body: dict[str, Any]) -> tuple[Command, dict[str, Any]]:
    args = _args(where, body)
    return Start(args), {**body, "args": list(args)}


def _run(where: str, body: dict[str, Any]) -> tuple[Command, dict[str, Any]]:
    entry_point = _text(where, body, "entry_point")
    args = _args(where, body)
    if "\0" in entry_point or any("\0" in arg for arg in args):
        raise ExeScriptError(f"{where}: arguments must not contain null characters")
    capture = body.get("capture") or {}
    if not isinstance(capture, dict):
        raise ExeScriptError(f"{where}: capture must be an object")
    stdout, stderr = (_capture(where, capture, name) for name in ("stdout", "stderr"))
    return Run(entry_point, args, stdout, stderr), {**body, "args": list(args)}


def _transfer(where: str, body: dict[str, Any]) -> tuple[Command, dict[str, Any]]:
    interval = _progress(where, body.get("progress"))
    command = Transfer(_text(where, body, "from"), _text(where, body, "to"), interval)
    defaults = {"format": None, "depth": None, "fileset": None, "progress": None}
    return command, {"from": command.source, "to": command.target, **defaults, **body}


def _terminate(where: str, body: dict[str, Any]) -> tuple[Command, dict[str, Any]]:
    return Terminate(), body


def _sign(where: str, body: dict[str, Any]) -> tuple[Command, dict[str, Any]]:
    return Sign(), body


_PARSERS: dict[str, Callable[[str, dict[str, Any]], tuple[Command, dict[str, Any]]]] = {
    "sign": _sign,
    "deploy": _deploy,
    "start": _start,
    "run": _run,
    "transfer": _transfer,
    "terminate": _terminate,
}


def _text(where: str, body: dict[str, Any], key: str) -> str:
    if key not in body:
        raise ExeScriptError(f"{where}: missing field `{key}`")
    value = body[key]
    if not isinstance(value, str):
        raise ExeScriptError(f"{where}: {key} must be a text")
    return value


def _args(where: str, body: dict[str, Any]) -> tuple[str, ...]:
    args = body.get("args", [])
    if not _is_texts(args):
        raise ExeScriptError(f"{where}: args must be a list of texts")
    return tuple(args)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _capture(where: str, capture: dict[str, Any], name: str) -> CaptureMode | None:
    mode = capture.get(name)
    if mode is None:
        return None
    if not isinstance(mode, dict) or len(mode) != 1 or not {"stream", "atEnd"} & set(mode):
        raise ExeScriptError(f"{where}: capture of {name} must be `stream` or `atEnd`")
    ((kind, options),) = mode.items()
    options = {} if options is None else options
    sizes = ("limit",) if kind == "stream" else ("head", "tail", "headTail")
    if not isinstance(options, dict) or not set(options) <= {*sizes, "format"}:
        raise ExeScriptError(f"{where}: capture of {name} knows {', '.join(sizes)} and format")
    for size in sizes:
        value = options.get(size)
        if value is not None and (type(value) is not int or value < 0):
            raise ExeScriptError(f"{where}: capture {size} of {name} must be a number of bytes")
    if options.get("format", "str") not in ("str", "bin"):
        raise ExeScriptError(f"{where}: capture format of {name} must be `str` or `bin`")
    return {kind: {key: value for key, value in options.items() if value is not None}}
