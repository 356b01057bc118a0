"""The build root: a folder with the locked compiler and tools, the same on every machine.

Commands run in it under bubblewrap, without a network and without anything of this machine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gvmi.errors import ImageToolError, MachineUnfit
from gvmi.packages.debian_packages import unpack
from gvmi.packages.downloads import Progress, cache_folder, fetch_debian, fetch_wheels
from gvmi.packages.package_locks import read_debian_lock, read_python_lock
from gvmi.packages.wheels import install_wheel

_LAST_LINES = 30


@dataclass(frozen=True)
class Jailed:
    """A command for `run_jailed`: `folders` maps places inside to folders here.

    They, and the root itself (`/`), are read-only unless among `writable`.
    """

    command: Sequence[str]
    folders: Mapping[str, Path] = field(default_factory=dict)
    writable: frozenset[str] = frozenset()
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None


def require_bubblewrap() -> str:
    """Return bubblewrap's path.

    Raises:
        MachineUnfit: it is not there.
    """
    found = shutil.which("bwrap")
    if found is None:
        raise MachineUnfit(
            "there is no bubblewrap, in which the image is built",
            fix="sudo apt install bubblewrap",
        )
    return found


def run_jailed(root: Path, jailed: Jailed) -> None:
    """Run a command with `root` as its whole world.

    Raises:
        ImageToolError: it failed; the last lines it said are in the message.
        MachineUnfit: bubblewrap is not there or does not work.
    """
    argv = [require_bubblewrap(), "--unshare-all", "--die-with-parent", "--clearenv"]
    argv += ["--uid", "0", "--gid", "0"] if os.geteuid() else []
    for place, folder in {"/": root, **jailed.folders}.items():
        argv += ["--bind" if place in jailed.writable else "--ro-bind", str(folder), place]
    argv += ["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--hostname", "derl"]
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp", **jailed.environment}
    for name, value in environment.items():
        argv += ["--setenv", name, value]
    done = subprocess.run(
        [*argv, "--chdir", "/", *jailed.command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        umask=0o022,
        check=False,
    )
    if jailed.log is not None:
        jailed.log.write_text(done.stdout)
    if done.returncode == 0:
        return
    said = done.stdout.rstrip().splitlines()
    if said and said[-1].startswith("bwrap: ") and not said[-1].startswith("bwrap: execvp "):
        raise MachineUnfit(
            f"bubblewrap does not work here: {said[-1]}",
            fix="allow user namespaces (kernel.unprivileged_userns_clone, AppArmor), or be root",
        )
    name = os.path.basename(jailed.command[0])
    raise ImageToolError("\n".join([f"{name} failed in the build root:", *said[-_LAST_LINES:]]))


def run_in_root(root: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a command with `root` as its whole world; raises as `run_jailed` does."""
    run_jailed(root, Jailed(command, writable=frozenset({"/"}), environment=environment))


def make_build_root(progress: Progress) -> Path:
    """Return the build root of the present locks, made if it is not kept yet."""
    lock = read_debian_lock()
    packages, wheels = lock.section("build"), read_python_lock("build")
    key = hashlib.sha256()
    for name in ("assembly/build_root.py", "packages/debian_packages.py", "packages/wheels.py"):
        key.update((Path(__file__).parents[1] / name).read_bytes())
    for sha256 in [*(one.sha256 for one in packages), *(one.sha256 for one in wheels)]:
        key.update(bytes.fromhex(sha256))
    folder = cache_folder() / "build-roots" / key.hexdigest()[:16]
    if folder.exists():
        return folder
    files = fetch_debian(packages, lock.date, progress)
    wheel_files = fetch_wheels(wheels, progress)
    progress("unpacking the compiler")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        draft.chmod(0o755)
        unpack(files, draft)
        for place in ("dev", "proc", "tmp", "src", "out", "image"):
            (draft / place).mkdir(exist_ok=True)
        for wheel in wheel_files:
            install_wheel(wheel, draft, "/usr/lib/python3/dist-packages", "/usr/bin/python3.11")
        os.rename(draft, folder)
    except OSError:
        if not folder.exists():  # if it does, another build was quicker
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # what was renamed is not there
    return folder
