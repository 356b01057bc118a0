"""Fetching locked packages, each held to its SHA-256; what was fetched once is kept.

Debian's come from its mirror, or, when the mirror has gone on to a newer version, from the archive
of all versions; wheels by pip, which heeds its own settings (`PIP_*`, pip.conf).
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from threading import Event

from gvmi.errors import MachineUnfit, NotToBeHad
from gvmi.packages.package_locks import DebianPackage, PythonPackage

MIRROR = os.environ.get("DERL_DEBIAN_MIRROR", "http://deb.debian.org").rstrip("/")
ARCHIVE = os.environ.get("DERL_DEBIAN_ARCHIVE", "https://snapshot.debian.org/archive").rstrip("/")
UBUNTU_MIRROR = os.environ.get("DERL_UBUNTU_MIRROR", "http://archive.ubuntu.com").rstrip("/")
UBUNTU_ARCHIVE = os.environ.get("DERL_UBUNTU_ARCHIVE", "https://snapshot.ubuntu.com").rstrip("/")
TIMEOUT_SECONDS = 30.0  # without a byte
_CONNECTIONS = 6
_BLOCK_BYTES = 1 << 16
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_GLIBC_MINORS = (36, 35, 34, 31, 28, 27, 26, 24, 17, 12, 5)  # of manylinux tags up to Debian 12's

Progress = Callable[[str], None]


def cache_folder() -> Path:
    """Return where downloads, wheels and build roots are kept (`$XDG_CACHE_HOME/derl`)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache")) / "derl"


def fetch_debian(packages: Sequence[DebianPackage], date: str, progress: Progress) -> list[Path]:
    """Return the files of these packages, fetched where they are not kept yet.

    Raises:
        NotToBeHad: neither mirror nor archive has one of them as locked.
    """
    folder = cache_folder() / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [one for one in packages if not _is_kept(folder / f"{one.sha256}.deb", one.sha256)]
    if missing:
        size = sum(one.size_bytes for one in missing) / 2**20
        progress(f"fetching {len(missing)} Debian packages, {size:.0f} MiB")
    stopped = Event()
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        try:
            list(pool.map(lambda one: _fetch(one, date, folder, stopped), missing))
        finally:
            stopped.set()
    return [folder / f"{one.sha256}.deb" for one in packages]


def fetch_wheels(packages: Sequence[PythonPackage], progress: Progress) -> list[Path]:
    """Return the wheels of these packages, fetched where they are not kept yet.

    Raises:
        NotToBeHad: pip cannot get one of them as locked.
    """
    folder = cache_folder() / "downloads" / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [one for one in packages if _kept_wheel(folder, one) is None]
    if missing:
        progress(f"fetching {len(missing)} Python packages")
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            lock = Path(scratch) / "lock.txt"
            lock.write_text("\n".join(one.requirement for one in missing))
            target = Path(scratch) / "wheels"
            options = ("--require-hashes", "--no-deps", "-r", str(lock), "-d", str(target))
            quiet_pip("download", *options, *pip_options())
            for wheel in sorted(target.iterdir()):
                kept = folder / _sha256(wheel)
                kept.mkdir(exist_ok=True)
                os.replace(wheel, kept / wheel.name)
    found = [(one, _kept_wheel(folder, one)) for one in packages]
    lacking = [one.name for one, path in found if path is None]
    if lacking:
        raise NotToBeHad(
            f"pip fetched something else for {', '.join(lacking)}",
            fix="look at pip's settings (pip config list)",
        )
    return [path for _, path in found if path is not None]


def pip_options() -> list[str]:
    """Return pip's options that choose wheels for the image's Python, whichever runs pip."""
    options = ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp"]
    options += [f"--abi={abi}" for abi in ("cp311", "abi3", "none")]
    options += [f"--platform=manylinux_2_{minor}_x86_64" for minor in _GLIBC_MINORS]
    options += [f"--platform=manylinux{year}_x86_64" for year in (2014, 2010, 1)]
    return options


def quiet_pip(*arguments: str) -> None:
    """Run pip; its words are shown only if it fails.

    Raises:
        NotToBeHad: it failed.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise MachineUnfit("this Python has no pip", fix=f"{sys.executable} -m ensurepip")
    said = [line for line in done.stderr.splitlines() if "ERROR" in line] or ["it said nothing"]
    raise NotToBeHad(
        f"pip {arguments[0]} failed: {said[-1].removeprefix('ERROR: ')[:500]}",
        fix="look at the network and at pip's settings; torch's build for processors needs "
        "PyTorch's CPU index (PIP_EXTRA_INDEX_URL), as the README says",
    )


def _kept_wheel(folder: Path, package: PythonPackage) -> Path | None:
    for wheel in (folder / package.sha256).glob("*.whl"):
        if _is_kept(wheel, package.sha256):
            return wheel
    return None


def _is_kept(path: Path, sha256: str) -> bool:
    try:
        return _sha256(path) == sha256
    except FileNotFoundError:
        return False


def _fetch(package: DebianPackage, date: str, folder: Path, stopped: Event) -> None:
    archive, _, rest = package.path.partition("/")
    is_ubuntu = archive == "ubuntu"
    mirror, keeper = (UBUNTU_MIRROR, UBUNTU_ARCHIVE) if is_ubuntu else (MIRROR, ARCHIVE)
    urls = (f"{mirror}/{package.path}", f"{keeper}/{archive}/{date}/{rest}")
    failures = []
    for url in urls:
        try:
            _fetch_from(url, package, folder / f"{package.sha256}.deb", stopped)
            return
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _NO_SPACE:
                raise
            failures.append(f"{url}: {error}")
    raise NotToBeHad(
        f"{package.name} {package.version} is not to be had: {'; '.join(failures)}",
        fix="look at the network (DERL_DEBIAN_MIRROR, DERL_UBUNTU_MIRROR name other mirrors); "
        "where Debian has a newer version by now, lock that: derl-image lock",
    )


def _fetch_from(url: str, package: DebianPackage, target: Path, stopped: Event) -> None:
    with (
        urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer,
        tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file,
    ):
        draft = Path(file.name)
        try:
            shutil.copyfileobj(_Bounded(answer, package.size_bytes, stopped), file, _BLOCK_BYTES)
            file.flush()
            if _sha256(draft) != package.sha256:
                raise ValueError("other content than locked")
            os.replace(draft, target)
        finally:
            draft.unlink(missing_ok=True)


class _Bounded:
    """Reads at most so many bytes, so that no server fills the disk, and none once stopped."""

    def __init__(self, source: HTTPResponse, size_bytes: int, stopped: Event) -> None:
        self._source = source
        self._left = size_bytes
        self._stopped = stopped

    def read(self, size: int = -1, /) -> bytes:
        """Read on; raises ValueError beyond the bound, or when stopped."""
        if self._stopped.is_set():
            raise ValueError("stopped")
        data = self._source.read1(size)  # what is there, so that a slow server can be stopped
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("more bytes than locked")
        return data


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
