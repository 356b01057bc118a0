"""How the guest agent is started for an activity in an image's own root file system."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from requestor.mock_golem.exe_unit.sandbox import (
    AGENT_PROGRAM,
    ROOT_BYTES,
    Sandbox,
    agent_config,
    proc_options,
    temporary_bytes,
)
from requestor.mock_golem.exe_unit.spec import CommandFailed, ContainerSpec
from requestor.mock_golem.guest.network import TUN_DEVICE
from requestor.mock_golem.images.mounts import MountedImage

_RIGHTS = (
    *("CAP_SYS_ADMIN", "CAP_SETPCAP"),  # given up once the agent is in the image
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL"),
    *("CAP_SETGID", "CAP_SETUID", "CAP_NET_BIND_SERVICE"),
)
_TAKEN = ("/proc", "/dev", "/sys")


def as_image_says(spec: ContainerSpec, mounted: MountedImage) -> ContainerSpec:
    """Return the container with the volumes and settings of its image. Raises `CommandFailed`."""
    settings = mounted.file.settings
    try:
        return replace(
            spec,
            volumes=settings.volumes,
            working_dir=settings.working_dir,
            environment={**settings.environment, **spec.environment},
        )
    except ValueError as error:
        raise CommandFailed(f"Runtime error: {error}") from error


def build_image_sandbox(
    spec: ContainerSpec,
    mounted: MountedImage,
    volumes: Sequence[tuple[str, Path]],
    *,
    with_devices: bool = False,
) -> Sandbox:
    """The agent's command line for one activity in an image; see `guest/own_root.py`.

    Raises `CommandFailed` if a volume hides what a container needs.
    """
    for path, _ in volumes:
        if any(path == taken or path.startswith(f"{taken}/") for taken in _TAKEN):
            raise CommandFailed(f"Runtime error: {path} cannot be a volume")
    stage = spec.directory / "stage"
    own_root = {
        "stage": os.fspath(stage),
        "volumes": [path for path, _ in volumes],
        "working_dir": spec.working_dir,
        "user": mounted.file.settings.user,
        "in_user_namespace": mounted.in_user_namespace,
    }
    config = {**agent_config("bubblewrap", spec, volumes), "own_root": own_root}
    command = [*mounted.starter, *_options(spec, mounted, volumes, stage, with_devices)]
    agent = (sys.executable, "-I", "-S", "-c", AGENT_PROGRAM)
    return Sandbox((*command, *agent), config, spec.working_dir, dict(spec.environment))


def _options(
    spec: ContainerSpec,
    mounted: MountedImage,
    volumes: Sequence[tuple[str, Path]],
    stage: Path,
    with_devices: bool,
) -> list[str]:
    """The words for bubblewrap: namespaces, and all that the agent takes with it on the stage."""
    words = [shutil.which("bwrap") or "bwrap", "--die-with-parent", "--as-pid-1"]
    words += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    words += ["--unshare-cgroup-try", "--hostname", "golem", "--cap-drop", "ALL"]
    rights = (*_RIGHTS, "CAP_NET_ADMIN") if with_devices else _RIGHTS
    words += [word for right in rights for word in ("--cap-add", right)]
    words += ["--dev-bind", "/", "/", *proc_options(), "--dev", "/dev"]
    if with_devices:
        words += ["--dev-bind", TUN_DEVICE, TUN_DEVICE]
    room = str(temporary_bytes(spec))
    words += ["--perms", "1777", "--size", room, "--tmpfs", "/dev/shm"]
    words += ["--size", str(ROOT_BYTES), "--tmpfs", f"{stage}"]
    words += ["--ro-bind", f"{mounted.folder}", f"{stage}/image"]
    words += [word for name in ("upper", "work", "root") for word in ("--dir", f"{stage}/{name}")]
    words += ["--perms", "1777", "--size", room, "--tmpfs", f"{stage}/tmp"]
    for number, (_, folder) in enumerate(volumes):
        words += ["--bind", f"{folder}", f"{stage}/volumes/{number}"]
    return [*words, "--chdir", "/", "--"]
