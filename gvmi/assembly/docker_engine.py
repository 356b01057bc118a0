"""The Docker engine, by its own program `docker`: is it there, and what it is asked to do."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gvmi.errors import ImageToolError, MachineUnfit
from gvmi.packages.downloads import Progress

DEFAULT_BASE = "debian:bookworm-slim"
IMPORTED_BASE = "derl-base:bookworm"
_ASK_SECONDS = 30.0
_LAST_LINES = 30
_OTHER_WAY = "without Docker: derl-image build VARIANT --with bubblewrap"


@dataclass(frozen=True)
class ImageBuild:
    """One `docker build`: a stage of a Dockerfile in a folder with its context."""

    context: Path
    stage: str
    tag: str
    base: str
    labels: Mapping[str, str] = field(default_factory=dict)


def why_no_engine() -> str | None:
    """Return why no Docker engine answers here, or None if one does."""
    if shutil.which("docker") is None:
        return "the program docker is not installed"
    try:
        done = _docker("info", "--format", "{{.ServerVersion}}", seconds=_ASK_SECONDS)
    except subprocess.TimeoutExpired:
        return f"the engine did not answer in {_ASK_SECONDS:.0f} s"
    if done.returncode or not done.stdout.strip():
        said = done.stderr.strip().splitlines() or ["docker info said nothing"]
        return said[-1][:300]
    return None


def require_engine() -> None:
    """Raise `MachineUnfit` where no Docker engine answers."""
    reason = why_no_engine()
    if reason is not None:
        raise MachineUnfit(
            f"no Docker engine answers: {reason}",
            fix="sudo apt install docker.io, sudo systemctl start docker, and membership in the "
            f"group docker (or DOCKER_HOST); {_OTHER_WAY}",
        )


def provide_base(base: str, progress: Progress) -> str:
    """Return the name of a base image that the engine has.

    Where the default one is neither there nor to be pulled, a Debian of the same release is made
    from Debian's mirror by mmdebstrap or debootstrap, and imported.

    Raises:
        MachineUnfit: there is no way to a base image here.
    """
    if _has(base):
        return base
    progress(f"pulling {base}")
    pulled = _docker("pull", "--quiet", base)
    if pulled.returncode == 0:
        return base
    said = (pulled.stderr.strip().splitlines() or ["docker pull said nothing"])[-1][:300]
    if base != DEFAULT_BASE:
        raise MachineUnfit(f"the base image {base} is not to be had: {said}", fix="docker pull it")
    if not _has(IMPORTED_BASE):
        progress(f"no registry ({said}); making a base image from Debian's mirror")
        _import_base()
    return IMPORTED_BASE


def build_image(what: ImageBuild) -> None:
    """Build one stage, without a network.

    Raises:
        ImageToolError: it failed; the last lines that were said are in the message.
    """
    command = ["build", "--network", "none", "--target", what.stage, "--tag", what.tag]
    command += ["--build-arg", f"BASE={what.base}"]
    for name, value in what.labels.items():
        command += ["--label", f"{name}={value}"]
    done = _docker(*command, str(what.context))
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:]
        raise ImageToolError("\n".join([f"docker build failed at {what.stage}:", *said]))


def image_bytes(tag: str) -> int:
    """Return the size that the engine tells of an image."""
    size = _docker("image", "inspect", "--format", "{{.Size}}", tag).stdout.strip()
    return int(size) if size.isdecimal() else 0


def remove_containers(tag: str) -> None:
    """Remove the containers of an image; gvmkit-build leaves some where it fails."""
    found = _docker("ps", "--all", "--quiet", "--filter", f"ancestor={tag}").stdout.split()
    if found:
        _docker("rm", "--force", *found)


def _import_base() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "base.tar"
        if shutil.which("mmdebstrap"):
            _run(["mmdebstrap", "--quiet", "--variant=essential", "bookworm", str(archive)])
        elif shutil.which("debootstrap"):
            root = str(Path(scratch) / "root")
            _run(["debootstrap", "--variant=minbase", "bookworm", root])
            _run(["tar", "-C", root, "--one-file-system", "-cf", str(archive), "."])
        else:
            raise MachineUnfit(
                f"{DEFAULT_BASE} is not to be had, and there is no mmdebstrap to make one",
                fix=f"sudo apt install mmdebstrap; {_OTHER_WAY}",
            )
        done = _docker("import", str(archive), IMPORTED_BASE)
        if done.returncode:
            raise ImageToolError(f"docker import failed: {done.stderr.strip()[:500]}")


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-_LAST_LINES:]
        raise MachineUnfit("\n".join([f"{command[0]} failed:", *said]), fix="look at the network")


def _has(image: str) -> bool:
    return _docker("image", "inspect", image).returncode == 0


def _docker(*arguments: str, seconds: float | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )
