"""Where a local worker runs: in a bubblewrap of its own, or, where there is none, without.

Inside there are the system's and Python's files, read-only, the folder of the worker, and a
private /tmp: no network, no home, no other process, nothing of a run but what an order brings.
Whatever hides in a model's file, or goes wrong in a learner, stays there. `limits.py` bounds what
it may take; without bubblewrap that, and an environment without secrets, is all.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from requestor.errors import PreflightError, UsageError

JAIL_VARIABLE = "DERL_JAIL"
READ_VARIABLE = "DERL_JAIL_READ"
JailKind = Literal["bubblewrap", "none"]
FIX = "apt install bubblewrap"
PROBE_SECONDS = 20.0
TEMPORARY_BYTES = 1 << 30

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
_SETTINGS = (
    *("alternatives", "group", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime"),
    *("nsswitch.conf", "os-release", "passwd", "timezone"),
)
_MACHINE = ("/sys/devices/system",)
_PROC = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version")
_APART = ("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--cap-drop", "ALL")
_NAMESPACES = (("--unshare-user", "--disable-userns"), ("--unshare-user",), ())
_SEALED = ("--remount-ro", "/dev", "--remount-ro", "/")


@dataclass(frozen=True)
class Jail:
    """How a worker is confined; `problem` says why it is not by bubblewrap, if it is not."""

    kind: JailKind
    problem: str | None = None
    options: tuple[str, ...] = ()

    @property
    def notice(self) -> str | None:
        """What the user should know; nothing if all is well, or as was asked for."""
        if self.problem is None:
            return None
        return (
            f"models are judged without a jail: {self.problem}. Limits and an environment without "
            f"secrets are all that guards this machine from them; `{FIX}` mends that"
        )

    def command(
        self, folder: Path, program: Sequence[str], environment: Mapping[str, str]
    ) -> list[str]:
        """Return the command line that runs `program` in `folder`, the one place it can write."""
        if self.kind == "none":
            return list(program)
        words = [*self.options, *_filled(folder.absolute(), environment), *_SEALED]
        return [*words, "--chdir", os.fspath(folder.absolute()), "--", *program]

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the variables for inside: places that are there, and paths from the root on."""
        inside = dict(environment)
        if paths := inside.get("PYTHONPATH"):
            inside["PYTHONPATH"] = os.pathsep.join(
                os.path.abspath(path) for path in paths.split(os.pathsep) if path
            )
        if self.kind == "bubblewrap":
            inside |= {"HOME": "/tmp", "TMPDIR": "/tmp"}
        return inside


def choose_jail(environment: Mapping[str, str]) -> Jail:
    """Return the jail that `DERL_JAIL` asks for: auto (bubblewrap if it works), bubblewrap, none.

    Takes some hundredths of a second when it is asked first.

    Raises:
        UsageError: it asks for something else.
        PreflightError: it asks for bubblewrap, which does not work here.
    """
    wanted = environment.get(JAIL_VARIABLE) or "auto"
    if wanted == "none":
        return Jail("none")
    if wanted not in ("auto", "bubblewrap"):
        raise UsageError(
            f"{JAIL_VARIABLE} is {wanted!r}", fix="set it to auto, bubblewrap or none, or unset it"
        )
    found = _bubblewrap(shutil.which("bwrap", path=environment.get("PATH")))
    if wanted == "bubblewrap" and found.problem is not None:
        raise PreflightError(
            f"{JAIL_VARIABLE} is bubblewrap, but {found.problem}",
            fix=f"{FIX}, or set it to auto",
        )
    return found


@functools.cache
def _bubblewrap(program: str | None) -> Jail:
    """The first way of confining that works: hosts forbid namespaces, and mounts of /proc."""
    if program is None:
        return Jail("none", "there is no `bwrap` program on PATH")
    said = ""
    for proc in (("--proc", "/proc"), tuple(_bound(_PROC))):
        for namespaces in _NAMESPACES:
            options = (program, "--die-with-parent", *namespaces, *_APART, *proc)
            try:
                tried = subprocess.run(
                    [*options, *_system(), *_devices(), *_SEALED, "--", "/bin/sh", "-c", ":"],
                    capture_output=True,
                    timeout=PROBE_SECONDS,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                return Jail("none", f"bubblewrap does not run ({error})")
            if tried.returncode == 0:
                return Jail("bubblewrap", None, options)
            said = said or " ".join(tried.stderr.decode(errors="replace").split())[:200]
    return Jail("none", f"bubblewrap does not work here ({said or 'it says nothing'})")


def _filled(folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Options that put into an empty root what a worker in `folder` needs."""
    words = [*_system(), *_devices()]
    shown: list[str] = [*_SYSTEM]
    for place in _needed(environment):
        if not any(_is_seen(place, one) for one in shown):
            words += _show(place, folder)
            shown.append(place)
    parent = os.fspath(folder.parent)
    if any(_is_below(parent, place) for place in _SYSTEM):  # shown whole, with the run's files
        words += ["--tmpfs", parent]
    return [*words, "--bind", os.fspath(folder), os.fspath(folder)]


def _system() -> list[str]:
    words: list[str] = []
    for place in _SYSTEM:
        if os.path.islink(place):
            words += ["--symlink", os.readlink(place), place]
        else:
            words += _bound((place,))
    return [*words, *_bound(f"/etc/{name}" for name in _SETTINGS), *_bound(_MACHINE)]


def _devices() -> list[str]:
    words = ["--dev", "/dev"]
    for place in ("/dev/shm", "/tmp"):
        words += ["--size", str(TEMPORARY_BYTES), "--tmpfs", place]
    return words


def _bound(places: Sequence[str] | Iterator[str]) -> list[str]:
    return [word for place in places for word in ("--ro-bind-try", place, place)]


def _needed(environment: Mapping[str, str]) -> list[str]:
    """Folders of Python, of what it imports and of what the user names; those above others first.

    The folder from which this process was started is not among them, unless PYTHONPATH says so.
    """
    own = sys.path if sys.flags.safe_path else sys.path[1:]
    candidates = [sys.prefix, sys.base_prefix, sys.exec_prefix, *own, *_editable()]
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH", READ_VARIABLE):
        candidates += [os.path.abspath(p) for p in environment.get(name, "").split(":") if p]
    link = sys.executable
    while os.path.islink(link):
        link = os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link)))
        candidates.append(os.path.dirname(link))
    found = set()
    for candidate in filter(os.path.exists, filter(os.path.isabs, candidates)):
        found |= {os.path.normpath(candidate), os.path.realpath(candidate)}
    return sorted(found - {"/"})


@functools.cache
def _editable() -> tuple[str, ...]:
    """Folders of packages that are installed as links to their sources."""
    found = []
    for distribution in distributions():
        text = distribution.read_text("direct_url.json") or ""
        if '"editable"' in text and "true" in text:
            found.append(unquote(urlsplit(str(json.loads(text).get("url", ""))).path))
    return tuple(found)


def _show(place: str, folder: Path) -> Iterator[str]:
    """Options that show a folder read-only, without hidden files, and without runs."""
    names = sorted(os.listdir(place)) if os.path.isdir(place) else []
    if not any(name.startswith(".") or _holds(place, name, folder) for name in names):
        yield from ("--ro-bind-try", place, place)
        return
    for name in names:
        path = os.path.join(place, name)
        if name.startswith("."):
            continue
        if os.path.islink(path):
            yield from ("--symlink", os.readlink(path), path)
        elif not _holds(place, name, folder):
            yield from ("--ro-bind-try", path, path)
        elif os.path.isfile(os.path.join(path, "__init__.py")):
            yield from _show(path, folder)


def _holds(place: str, name: str, folder: Path) -> bool:
    """Say whether an entry of a folder holds runs: ours, or others'."""
    path = Path(place, name)
    if folder.is_relative_to(path):
        return True
    is_package = (path / "__init__.py").is_file()
    return path.is_dir() and not is_package and next(path.glob("*/*/run.json"), None) is not None


def _is_seen(path: str, place: str) -> bool:
    """Say whether a path is shown with a folder that is: none of the names up to it is hidden."""
    return _is_below(path, place) and not any(
        name.startswith(".") for name in path[len(place) :].split("/")
    )


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
