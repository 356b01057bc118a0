"""What an exe-unit is given, what it tells, and its errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from requestor.mock_golem.images.package import Package

Isolation = Literal["auto", "bubblewrap", "process"]
TamperKind = Literal[
    "truncate", "corrupt", "nan", "wrong_shape", "pickle", "huge", "empty", "not_json"
]


@dataclass(frozen=True)
class ContainerSpec:
    """The container of one activity.

    `environment` is the whole environment of commands: nothing is inherited. `visible_folders`
    are host folders that commands can read even where they lie below a folder that bubblewrap
    hides (the machine's `/tmp`, other activities); `shared_folder` is one that they can write, too,
    with other containers. `root` is a folder whose files are laid over
    the container's root; it needs bubblewrap.

    With `image` commands see nothing of the machine, but the image's own root file system: a GVMI
    on disk, or a package that `deploy` downloads if it has at most `storage_bytes`. Volumes,
    working directory and user are then the image's, and `environment` comes on top of its own.
    It needs bubblewrap.
    """

    directory: Path
    root: Path | None = None
    image: Path | Package | None = None
    storage_bytes: int = 20 << 30
    volumes: tuple[str, ...] = ("/golem/work",)
    working_dir: str = "/golem/work"
    environment: Mapping[str, str] = field(default_factory=dict)
    isolation: Isolation = "auto"
    pace: float = 1.0
    memory_bytes: int | None = None
    output_limit_bytes: int = 1 << 20
    visible_folders: tuple[Path, ...] = ()
    shared_folder: Path | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.pace <= 1.0:
            raise ValueError(f"pace is {self.pace}; it must be above 0 and at most 1 (full speed)")
        if self.image is not None and self.root is not None:
            raise ValueError("a container has either an `image` or a `root`")
        for path in (*self.volumes, self.working_dir):
            is_root = path == "/" and (self.image is None or path in self.volumes)
            if not path.startswith("/") or is_root or ".." in path.split("/"):
                raise ValueError(f"{path!r} is no absolute path below / in the container")


@dataclass(frozen=True)
class Tamper:
    """How a result is falsified; the same `seed` falsifies the same file in the same way.

    `consistent=False`: what a transfer out of the container sends differs from the file.
    `consistent=True`: when a `run` ends, files it wrote whose SHA-256 hex digest it printed are
    falsified in the volume and the digest in its output is replaced: a liar whose checksums agree.
    """

    kind: TamperKind
    seed: int = 0
    huge_bytes: int = 1 << 30
    consistent: bool = False


@dataclass(frozen=True)
class CommandFaults:
    """What goes wrong with one command."""

    hang: bool = False
    exit_code: int | None = None
    die: bool = False
    die_after_seconds: float = 0.0
    tamper: Tamper | None = None


@dataclass(frozen=True)
class Usage:
    """What an activity has used so far; neither number ever falls."""

    cpu_seconds: float
    duration_seconds: float


class ExeUnitGone(Exception):
    """The exe-unit no longer answers. The text is how a service bus would say it."""


class ExeScriptError(ValueError):
    """A script that no exe-unit would accept."""


class UnknownBatch(LookupError):
    """No batch of this id was ever executed here."""


class IsolationError(RuntimeError):
    """The demanded isolation does not work on this machine."""


class CommandFailed(Exception):
    """A command ended badly; `return_code` as runtime events report it."""

    def __init__(self, message: str, return_code: int = -1) -> None:
        super().__init__(message)
        self.return_code = return_code
