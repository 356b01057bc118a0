"""Which packages an image is made of: names, versions and SHA-256 of each, in `locks`.

`debian.lock.yaml` has a section for each purpose, `python-<purpose>.txt` are requirement files as
pip takes them, with one hash for each package, so that one wheel alone fits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gvmi.errors import BadImage

LOCKS_FOLDER = Path(__file__).parent / "locks"
DEBIAN_LOCK = LOCKS_FOLDER / "debian.lock.yaml"
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_VERSION = re.compile(r"[A-Za-z0-9.+:~-]+")
_DATE = re.compile(r"\d{8}T\d{6}Z")
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.+!_-]+) --hash=sha256:([0-9a-f]{64})")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_POOL_PATH = re.compile(r"(debian|debian-security|ubuntu)/pool/[A-Za-z0-9+._~%/-]+\.deb")


@dataclass(frozen=True)
class DebianPackage:
    """One `.deb`; `path` is where it lies on every mirror, from the archive's name on."""

    name: str
    version: str
    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class DebianLock:
    """All locked Debian packages by purpose, and the `date` (`20261120T000000Z`) they are of."""

    date: str
    sections: dict[str, tuple[DebianPackage, ...]]

    def section(self, name: str) -> tuple[DebianPackage, ...]:
        """Return the packages for one purpose.

        Raises:
            BadImage: none are locked for it.
        """
        found = self.sections.get(name)
        if not found:
            raise BadImage(
                f"no Debian packages are locked for {name!r}",
                fix=f"lock them: derl-image lock {name}",
            )
        return found


@dataclass(frozen=True)
class PythonPackage:
    """One wheel: a version can say more than the index's (`2.13.0+cpu`)."""

    name: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        """The line of a requirement file."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}"


def read_debian_lock(path: Path = DEBIAN_LOCK) -> DebianLock:
    """Read the lock of Debian packages.

    Raises:
        BadImage: it is none.
    """
    try:
        found: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        date, sections = str(found["date"]), found["sections"]
        lock = DebianLock(
            date,
            {
                str(name): tuple(
                    DebianPackage(
                        row["name"], row["version"], row["path"], row["size"], row["sha256"]
                    )
                    for row in rows
                )
                for name, rows in sections.items()
            },
        )
    except (
        OSError,
        UnicodeDecodeError,
        yaml.YAMLError,
        RecursionError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        raise _damaged(path, repr(error)) from error
    if not _DATE.fullmatch(date):
        raise _damaged(path, f"the date {date[:40]!r}")
    for package in (one for rows in lock.sections.values() for one in rows):
        if not (
            all(isinstance(text, str) for text in (package.name, package.version))
            and _NAME.fullmatch(package.name)
            and _VERSION.fullmatch(package.version)
            and _POOL_PATH.fullmatch(str(package.path))
            and ".." not in package.path
            and _SHA256.fullmatch(str(package.sha256))
            and type(package.size_bytes) is int
            and package.size_bytes > 0
        ):
            raise _damaged(path, f"the row of {str(package.name)[:60]!r}")
    return lock


def write_debian_lock(lock: DebianLock, path: Path = DEBIAN_LOCK) -> None:
    """Write the lock of Debian packages."""
    rows = {
        name: [
            {
                "name": one.name,
                "version": one.version,
                "path": one.path,
                "size": one.size_bytes,
                "sha256": one.sha256,
            }
            for one in packages
        ]
        for name, packages in sorted(lock.sections.items())
    }
    text = yaml.safe_dump({"date": lock.date, "sections": rows}, sort_keys=False, width=1000)
    path.write_text("# Written by `derl-image lock`.\n" + text, encoding="utf-8")


def python_lock_file(purpose: str) -> Path:
    """Return the requirement file of a purpose, written or not."""
    return LOCKS_FOLDER / f"python-{purpose}.txt"


def read_python_lock(purpose: str) -> tuple[PythonPackage, ...]:
    """Return the locked wheels of a purpose.

    Raises:
        BadImage: there is no such lock, or a line of it is no locked package.
    """
    path = python_lock_file(purpose)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise _damaged(path, "it is no text") from error
    except OSError as error:
        raise BadImage(
            f"no Python packages are locked for {purpose!r}",
            fix=f"lock them: derl-image lock {purpose}",
        ) from error
    found = []
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        match = _REQUIREMENT.fullmatch(line.strip())
        if match is None:
            raise _damaged(path, f"the line {line[:60]!r}")
        found.append(PythonPackage(*match.groups()))
    return tuple(found)


def write_python_lock(purpose: str, packages: tuple[PythonPackage, ...]) -> None:
    """Write the locked wheels of a purpose."""
    lines = sorted((one.requirement for one in packages), key=str.lower)
    text = "\n".join(["# Written by `derl-image lock`.", *lines, ""])
    python_lock_file(purpose).write_text(text, encoding="utf-8")


def _damaged(path: Path, what: str) -> BadImage:
    return BadImage(f"{path}: not a lock: {what}", fix="take it from git again")
