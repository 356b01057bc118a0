"""How the guest agent is started: inside bubblewrap, or as a plain process."""

from __future__ import annotations

import functools
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from requestor.mock_golem.exe_unit.spec import CommandFailed, ContainerSpec, IsolationError
from requestor.mock_golem.guest.network import TUN_DEVICE
from requestor.mock_golem.trial_run import trial_run_problem

ROOT_BYTES = 128 << 20  # what a real VM gives to files outside its volumes
IMAGE_FOLDER = "/run/image"  # from where the agent lays the image over the root
PROBE_SECONDS = 20.0
_PACKAGE_ROOT = Path(__file__).resolve().parents[3]
_AGENT_FOLDER = Path(__file__).resolve().parents[1]
AGENT_PROGRAM = (
    f"import sys; sys.path.append({os.fspath(_AGENT_FOLDER)!r}); "
    "from guest.agent import main; main(sys.argv[1:])"
)
_SETTINGS = tuple(f"/proc/{name}" for name in ("sys", "sysrq-trigger", "fs", "acpi", "scsi"))
# Not taken from the host: made anew, or empty (sockets in /run would lead out of the sandbox).
_HIDDEN = ("/proc", "/dev", "/tmp", "/run")

ActiveIsolation = Literal["bubblewrap", "process"]


@dataclass(frozen=True)
class Sandbox:
    """How an agent is started, and where things lie for the commands it starts."""

    command: tuple[str, ...]
    config: Mapping[str, Any]
    working_dir: str
    environment: dict[str, str]

    def argv(self, **more: Any) -> list[str]:
        """The command line; `more` is added to the agent's config."""
        return [*self.command, json.dumps({**self.config, **more})]


def choose_isolation(wanted: str, *, own_root: bool = False) -> ActiveIsolation:
    """Decide between bubblewrap and plain processes; `auto` takes bubblewrap where it works.

    With `own_root`, an image's own root file system, nothing else does. Raises `IsolationError`
    where bubblewrap is demanded and does not work. Blocks for up to some tenths of a second on its
    first call.
    """
    if wanted == "process" and own_root:
        raise IsolationError("an image's own root needs bubblewrap; the isolation is `process`")
    if wanted == "process":
        return "process"
    problem = bubblewrap_problem()
    if problem is None:
        return "bubblewrap"
    if own_root:
        raise IsolationError(
            f"an image's own root needs bubblewrap, but {problem}; apt install bubblewrap"
        )
    if wanted == "bubblewrap":
        raise IsolationError(
            f"isolation is set to bubblewrap, but {problem}; "
            "repair that, or set the isolation to `process` or `auto`"
        )
    return "process"


@functools.cache
def bubblewrap_problem() -> str | None:
    """Why bubblewrap cannot be used here; None if it can. The answer is kept."""
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is None:
        return "there is no `bwrap` program on PATH (package bubblewrap)"
    with tempfile.TemporaryDirectory() as scratch:
        spec = ContainerSpec(directory=Path(scratch) / "activity")
        volume = Path(scratch) / "volume"
        volume.mkdir()
        options = _bubblewrap_options(bubblewrap, spec, [("/golem/work", volume)])
        return trial_run_problem(options, PROBE_SECONDS)


def build_sandbox(
    isolation: ActiveIsolation,
    spec: ContainerSpec,
    volumes: Sequence[tuple[str, Path]],
    *,
    with_devices: bool = False,
) -> Sandbox:
    """The agent's command line for one activity; `with_devices` lets it make network devices.

    Raises `CommandFailed` if the image needs an isolation other than this.
    """
    agent = (sys.executable, "-I", "-S", "-c", AGENT_PROGRAM)
    config = agent_config(isolation, spec, volumes)
    if isolation == "bubblewrap":
        options = _bubblewrap_options(shutil.which("bwrap") or "bwrap", spec, volumes)
        if with_devices:
            device = ("--dev-bind", TUN_DEVICE, TUN_DEVICE)
            options[-1:] = [*device, "--cap-add", "CAP_NET_ADMIN", "--"]
        return Sandbox((*options, *agent), config, spec.working_dir, dict(spec.environment))
    if spec.root is not None:
        raise CommandFailed("Runtime error: an image with a root folder needs bubblewrap")
    outside_volumes = os.fspath(spec.directory / "root") + spec.working_dir
    working_dir = _to_host(spec.working_dir, volumes) or outside_volumes
    os.makedirs(working_dir, exist_ok=True)
    # Settings that name a place in a volume (HOME=/golem/work) would lead nowhere on the host.
    environment = {
        name: _to_host(value, volumes) or value for name, value in spec.environment.items()
    }
    return Sandbox(agent, config, working_dir, environment)


def agent_config(
    isolation: ActiveIsolation, spec: ContainerSpec, volumes: Sequence[tuple[str, Path]]
) -> dict[str, Any]:
    """What every agent is told, see `guest/agent.py`."""
    return {
        "is_init": isolation == "bubblewrap",
        "pace": spec.pace,
        "memory_bytes": spec.memory_bytes,
        "output_limit_bytes": spec.output_limit_bytes,
        "memory_folders": ["/", "/tmp", "/dev", "/dev/shm"] if isolation == "bubblewrap" else [],
        "image": None if spec.root is None else IMAGE_FOLDER,
        "volumes": [path for path, _ in volumes],
    }


def temporary_bytes(spec: ContainerSpec) -> int:
    """How much `/tmp` and `/dev/shm` hold, each."""
    return max((spec.memory_bytes or 2 << 30) // 2, 1 << 20)


def devices_problem(isolation: ActiveIsolation) -> str | None:
    """Why guests can have no network devices of their own here; None if they can."""
    if isolation != "bubblewrap":
        return "without bubblewrap there is no network of a guest's own"
    if not os.access(TUN_DEVICE, os.R_OK | os.W_OK):
        return f"{TUN_DEVICE} is not there or may not be opened"
    return None


def _to_host(path: str, volumes: Iterable[tuple[str, Path]]) -> str | None:
    """Host path of a container path in a volume (longest prefix), else None."""
    for container, folder in sorted(volumes, reverse=True):
        if path == container or path.startswith(container + "/"):
            return os.fspath(folder) + path[len(container) :]
    return None


def _bubblewrap_options(
    bubblewrap: str, spec: ContainerSpec, volumes: Sequence[tuple[str, Path]]
) -> list[str]:
    options = [bubblewrap, "--die-with-parent", "--as-pid-1"]
    options += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    options += ["--hostname", "golem", "--cap-drop", "ALL"]
    # In its own network a guest may listen where it likes, as root in a VM does.
    options += ["--cap-add", "CAP_NET_BIND_SERVICE"]
    if os.geteuid() != 0:
        options += ["--unshare-user", "--uid", "0", "--gid", "0"]
    options += ["--size", str(ROOT_BYTES), "--tmpfs", "/"]
    laid = [] if spec.root is None else _laid_over(spec.root)
    options += _show_folder("/", [*(path for path, _ in volumes), *laid])
    options += [*proc_options(), "--dev", "/dev", "--dir", "/run"]
    for folder in ("/tmp", "/dev/shm"):
        options += ["--size", str(temporary_bytes(spec)), "--tmpfs", folder]
    needed = _needed_folders(spec)
    for path in needed:
        if _is_hidden(path):
            options += ["--ro-bind", path, path]
    # The folder in which this and other activities lie, where it would be seen now.
    siblings = os.path.realpath(spec.directory.parent)
    is_seen = not _is_hidden(siblings) or any(_is_below(siblings, path) for path in needed)
    if is_seen and not any(_is_below(path, siblings) for path in needed):
        options += ["--tmpfs", siblings]
    if spec.root is not None:
        options += ["--ro-bind", os.fspath(spec.root), IMAGE_FOLDER]
    for volume, source in volumes:
        options += ["--bind", os.fspath(source), volume]
    if spec.shared_folder is not None:
        options += ["--bind", os.fspath(spec.shared_folder), os.fspath(spec.shared_folder)]
    options += ["--dir", spec.working_dir, "--chdir", "/", "--"]
    return options


def proc_options() -> list[str]:
    """Options for a `/proc` in which the machine's own settings cannot be changed.

    Many of its files ask for no right but the machine's root user, as which commands run then.
    """
    if os.geteuid() != 0:
        return ["--proc", "/proc"]
    covered = [word for path in _SETTINGS for word in ("--ro-bind-try", path, path)]
    return ["--proc", "/proc", *covered]


def _show_folder(folder: str, volumes: Sequence[str]) -> Iterator[str]:
    """Options that show a host folder's entries read-only, with room for volumes among them.

    A folder that will contain a volume is not bound itself but entry by entry, since nothing
    could be mounted at a name that does not exist in it.
    """
    for entry in sorted(os.listdir(folder)):
        path = os.path.join(folder, entry)
        if path in _HIDDEN or path in volumes:
            continue
        try:
            mode = os.lstat(path).st_mode
        except OSError:
            continue
        if stat.S_ISLNK(mode):
            yield from ("--symlink", os.readlink(path), path)
        elif stat.S_ISDIR(mode) and any(_is_below(volume, path) for volume in volumes):
            yield from ("--dir", path)
            yield from _show_folder(path, volumes)
        elif stat.S_ISDIR(mode) or stat.S_ISREG(mode):
            yield from ("--ro-bind-try", path, path)


def _laid_over(root: Path) -> list[str]:
    """Places in the container that an image's files take from the host's.

    Of each file the highest folder that the host does not have, else the file itself, its folder's
    links resolved.
    """
    found = set()
    for parent, folders, files in os.walk(root):
        place = os.path.realpath("/" + os.path.relpath(parent, root))
        names = [*files, *(name for name in folders if os.path.islink(f"{parent}/{name}"))]
        for name in (*names, *folders):
            path = os.path.join(place, name)
            if name in names or not os.path.isdir(path):
                found.add(path)
        folders[:] = [name for name in folders if os.path.isdir(os.path.join(place, name))]
    return sorted(found)


def _needed_folders(spec: ContainerSpec) -> list[str]:
    """Host folders without which agent and commands cannot run: the Python environment."""
    candidates = [sys.prefix, sys.base_prefix, os.fspath(_PACKAGE_ROOT), *sys.path]
    for name in ("PATH", "PYTHONPATH"):
        candidates += spec.environment.get(name, "").split(os.pathsep)
    candidates += map(os.fspath, spec.visible_folders)
    found: list[str] = []
    for candidate in candidates:
        if not candidate.startswith("/") or not os.path.isdir(candidate):
            continue
        parent = os.path.dirname(candidate.rstrip("/"))
        if os.path.isfile(os.path.join(parent, "pyvenv.cfg")):
            candidate = parent  # the `bin` folder of a virtual environment: show all of it
        for folder in (os.path.normpath(candidate), os.path.realpath(candidate)):
            if folder not in found and folder not in (*_HIDDEN, "/"):
                found.append(folder)
    return sorted(found)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _is_hidden(path: str) -> bool:
    return any(_is_below(path, folder) for folder in _HIDDEN)
