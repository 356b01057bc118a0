"""Runs unmodified `gvmkit-build`, which sends images to a registry.

It reads `.env` files and credentials that it has stored, and leaves a descriptor beside the
image; so it works in an empty folder of its own, with an environment of its own, on a link.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gvmi.gvmkit_program import find_gvmkit_build
from gvmi.registry.registry_account import Credentials, Target
from requestor.mock_golem.images.descriptor import (
    MAX_CHUNKS,
    MAX_DESCRIPTOR_BYTES,
    Descriptor,
    DescriptorError,
    parse_descriptor,
)

POLL_SECONDS = 2.0
_MAX_LINE = 1 << 16
_SHOWN = 500
_LAST_LINES = 20
_MAX_ANSWER_BYTES = 64 << 10
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@dataclass(frozen=True)
class Listener:
    """Who is told how a push goes: lines of the program, and chunks there of all chunks."""

    line: Callable[[str], None]
    chunks: Callable[[int, int], None]


@dataclass(frozen=True)
class Ending:
    """How the program ended, and its last lines."""

    code: int
    said: tuple[str, ...]


def run_gvmkit_build(
    image: Path,
    target: Target,
    account: Credentials | None,
    listener: Listener,
    poll_seconds: float = POLL_SECONDS,
) -> Ending:
    """Push an image; it is ended with us, and nothing of it is left behind."""
    program = find_gvmkit_build()
    with tempfile.TemporaryDirectory(prefix="derl-push-") as name:
        folder = Path(name)
        link = folder / "image.gvmi"
        link.symlink_to(image.resolve())
        # it looks for this file in all folders above, too; the first one ends the search
        (folder / ".env").touch()
        what = ["--push-to", target.tag] if target.tag else ["--push", "--nologin"]
        process = subprocess.Popen(
            [program, "--hide-progress", "--direct-file-upload", str(link), *what],
            cwd=folder,
            env=_environment(os.environ, folder, target, account),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with _ended(process):
            hear = _Hearing(process.stdout, account, listener)
            progress = _Progress(folder / "image.gvmi.descr.bin", target, listener)
            while True:
                try:
                    code = process.wait(poll_seconds)
                    break
                except subprocess.TimeoutExpired:
                    progress.look()
            return Ending(code, hear.last())


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _environment(
    own: Mapping[str, str], folder: Path, target: Target, account: Credentials | None
) -> dict[str, str]:
    names = (*_PASSED_ON, *_PROXIES, *(name.upper() for name in _PROXIES))
    passed = {name: own[name] for name in names if name in own}
    homes = ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR")
    passed |= dict.fromkeys(homes, str(folder))
    passed["REGISTRY_URL"] = target.registry_url
    if account is not None:
        passed |= {"REGISTRY_USER": account.user, "REGISTRY_TOKEN": account.token}
    return passed


class _Hearing:
    """Reads what the program says, in a thread; what a registry said may be in it."""

    def __init__(
        self, stream: IO[bytes] | None, account: Credentials | None, listener: Listener
    ) -> None:
        assert stream is not None
        self._stream, self._account, self._listener = stream, account, listener
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def last(self) -> tuple[str, ...]:
        """Return the last lines, once the program has ended."""
        self._thread.join(10)
        return tuple(self._lines)

    def _read(self) -> None:
        is_new = True
        while piece := self._stream.readline(_MAX_LINE):
            if is_new:
                self._hear(piece.decode(errors="replace"))
            is_new = piece.endswith(b"\n")
        self._stream.close()

    def _hear(self, text: str) -> None:
        shown = text if self._account is None else self._account.redact(text)
        line = "".join(letter for letter in shown if letter.isprintable())[:_SHOWN].strip()
        if line:
            self._lines = [*self._lines, line][-_LAST_LINES:]
            self._listener.line(line)


class _Progress:
    """Asks the registry which chunks it has, as the program itself does before it sends."""

    def __init__(self, descriptor: Path, target: Target, listener: Listener) -> None:
        self._path, self._url, self._listener = descriptor, target.registry_url, listener
        self._descriptor: Descriptor | None = None
        self._told = -1

    def look(self) -> None:
        """Tell how many chunks are there, if that can be had and has changed."""
        if self._descriptor is None:
            with contextlib.suppress(OSError, DescriptorError), self._path.open("rb") as file:
                self._descriptor = parse_descriptor(file.read(MAX_DESCRIPTOR_BYTES + 1))
        if self._descriptor is None:
            return
        done = _chunks_there(f"{self._url}/v1/image/descr/{self._descriptor.sha256}")
        if done is not None and done != self._told:
            self._told = done
            self._listener.chunks(done, len(self._descriptor.chunks))


def _chunks_there(url: str) -> int | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            raw = answer.read(_MAX_ANSWER_BYTES + 1)
        found: Any = json.loads(raw) if len(raw) <= _MAX_ANSWER_BYTES else None
    except (OSError, ValueError, RecursionError):  # the program itself says what goes wrong
        return None
    chunks = found.get("chunks") if isinstance(found, dict) else None
    if not isinstance(chunks, list) or len(chunks) > MAX_CHUNKS:
        return None
    return sum(1 for one in chunks if one == 1)
