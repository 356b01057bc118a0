"""Making the locks anew: apt and pip say what the newest fitting packages are, and their hashes.

For developers of DeRL, on a Debian or Ubuntu machine with a network; who builds an image needs only
the locks.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from gvmi.errors import MachineUnfit
from gvmi.packages.downloads import MIRROR, pip_options, quiet_pip
from gvmi.packages.package_locks import (
    DEBIAN_LOCK,
    DebianLock,
    DebianPackage,
    PythonPackage,
    read_debian_lock,
    write_debian_lock,
    write_python_lock,
)
from gvmi.packages.purposes import DEBIAN_PURPOSES, PYTHON_PURPOSES

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_URI = re.compile(r"'(\S+)' (\S+) (\d+) SHA256:([0-9a-f]{64})")


def lock_debian(purposes: Iterable[str], today: datetime | None = None) -> DebianLock:
    """Lock the Debian packages of these purposes anew and return the whole lock.

    Raises:
        MachineUnfit: there is no apt, no keyring or no network.
    """
    if not KEYRING.exists():
        raise MachineUnfit(
            f"{KEYRING} is not there, so nothing from Debian could be trusted",
            fix="sudo apt install debian-archive-keyring (on Debian or Ubuntu)",
        )
    sections = dict(read_debian_lock().sections) if DEBIAN_LOCK.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        known: dict[tuple[str, ...], _IsolatedApt] = {}
        for purpose in purposes:
            wanted = DEBIAN_PURPOSES[purpose]
            if wanted.sources not in known:
                folder = Path(scratch) / str(len(known))
                known[wanted.sources] = _IsolatedApt(folder, wanted.sources)
            apt = known[wanted.sources]
            rows = apt.closure(wanted.packages) if wanted.closed else apt.exactly(wanted.packages)
            rows += wanted.fixed
            sections[purpose] = tuple(sorted(rows, key=lambda one: one.name))
    # at the day's end the archive, too, has what the mirror has now
    end = (today or datetime.now(UTC)) + timedelta(days=1)
    lock = DebianLock(end.strftime("%Y%m%dT000000Z"), sections)
    write_debian_lock(lock)
    return lock


def lock_python(purpose: str) -> tuple[PythonPackage, ...]:
    """Lock the Python packages of a purpose anew and return them.

    Raises:
        MachineUnfit: pip finds no fitting packages.
    """
    wanted = PYTHON_PURPOSES[purpose]
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        options = ("--dry-run", "--ignore-installed", "--target", scratch, "--report", str(report))
        quiet_pip("install", *options, *pip_options(), *wanted.packages)
        found: Any = json.loads(report.read_text())["install"]
    packages = tuple(
        PythonPackage(
            row["metadata"]["name"],
            row["metadata"]["version"],
            row["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for row in found
        if row["metadata"]["name"] not in wanted.without
    )
    write_python_lock(purpose, packages)
    return packages


class _IsolatedApt:
    """An apt that knows nothing of this machine's packages and settings."""

    def __init__(self, folder: Path, lines: Sequence[str]) -> None:
        for name in ("state/lists/partial", "cache/archives/partial", "none"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        sources = folder / "sources.list"
        sources.write_text(
            "".join(
                f"deb [signed-by={KEYRING}] {MIRROR}/{archive} {suite} {section}\n"
                for archive, suite, section in (line.split() for line in lines)
            )
        )
        settings = {
            "Dir::State": folder / "state",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::sourcelist": sources,
            "Dir::Etc::sourceparts": folder / "none",
            "Dir::Etc::preferences": folder / "nothing",
            "Dir::Etc::preferencesparts": folder / "none",
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            "APT::Sandbox::User": "",
        }
        self._options = [f"-o{name}={value}" for name, value in settings.items()]
        self._run("update")

    def closure(self, names: Sequence[str]) -> list[DebianPackage]:
        """Return these packages and all they need."""
        said = self._run("-y", "--no-install-recommends", "install", "--print-uris", *names)
        files = [unquote(line.split()[1]) for line in said.splitlines() if line.startswith("'")]
        return self.exactly(["=".join(file.rsplit("_", 2)[:2]) for file in files])

    def exactly(self, names: Sequence[str]) -> list[DebianPackage]:
        """Return these packages and nothing else."""
        said = self._run("download", "--print-uris", *names)
        found = [_package(*one) for one in _URI.findall(said)]
        if len(found) != len(names):
            raise MachineUnfit(
                f"apt-get told the SHA-256 of {len(found)} of {len(names)} packages",
                fix="use the apt of Debian 12, or one that prints SHA256 with --print-uris",
            )
        return found

    def _run(self, *arguments: str) -> str:
        try:
            done = subprocess.run(
                ["apt-get", "-qq", *self._options, *arguments],
                capture_output=True,
                text=True,
                check=True,
            )
        except FileNotFoundError as error:
            raise MachineUnfit(
                "there is no apt-get here", fix="make locks on a Debian or Ubuntu machine"
            ) from error
        except subprocess.CalledProcessError as error:
            said = (error.stderr or "").strip().splitlines()
            raise MachineUnfit(
                f"apt-get {arguments[0]} failed: {said[-1] if said else error.returncode}",
                fix="look at the network",
            ) from error
        return done.stdout


def _package(url: str, file: str, size: str, sha256: str) -> DebianPackage:
    name, version, _ = unquote(file).rsplit("_", 2)
    path = urlsplit(url).path.removeprefix("/")
    return DebianPackage(name, version, path, int(size), sha256)
