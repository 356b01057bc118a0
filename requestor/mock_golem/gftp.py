"""Stand-in for Golem's `gftp` program, and the folder through which it meets the exe-units.

The real `gftp` moves bytes over Golem's network. On one machine a shared folder is enough: each
`gftp server` owns a subfolder in which it notes what it publishes and where it wants to receive;
an exe-unit looks names up there (`GftpStore`). A note counts only while its server lives, which
a file lock tells, so a server that was killed leaves nothing that still works.

The module is also the program: `python gftp.py --store FOLDER server`. It imports the standard
library only and little of it, because requestors start it anew for every job.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import stat
import string
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

__all__ = ["GftpError", "GftpServer", "GftpStore", "main", "write_launcher"]

VERSION = "0.17.6 (mock)"
RECEIVE_NAME_LENGTH = 65

_ALPHABET = string.ascii_letters + string.digits
_URL = re.compile(r"gftp://(0x[0-9a-fA-F]{40})/([A-Za-z0-9]{1,128})")
_LOCK, _PUBLISHED, _RECEIVED = "lock", "published", "received"


class GftpError(LookupError):
    """A gftp URL that is malformed, unknown, or whose server is gone."""


class GftpStore:
    """What all live `gftp` servers of one store folder publish and want to receive."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open_source(self, url: str) -> Path:
        """Path from which the published bytes behind `url` can be read.

        It leads to the very file that was open when it was published, even if that has been
        renamed or deleted since. Raises `GftpError` when nobody publishes `url`.
        """
        name = _name_of(url)
        for server in self._live_servers():
            note = _read_note(server / _PUBLISHED / name)
            if note is None:
                continue
            path = Path(f"/proc/{note['pid']}/fd/{note['fd']}")
            with suppress(OSError):
                found = path.stat()
                if (found.st_dev, found.st_ino) == (note["device"], note["inode"]):
                    return path
        raise GftpError(f"{url} is not published by any running gftp server")

    def destination(self, url: str) -> Path:
        """Path of the file that waits to receive what is sent to `url`; `GftpError` if none."""
        name = _name_of(url)
        for server in self._live_servers():
            note = _read_note(server / _RECEIVED / name)
            if note is not None:
                return Path(note["path"])
        raise GftpError(f"no running gftp server waits to receive {url}")

    def remove_dead_servers(self) -> None:
        """Forget the notes of servers that ended without saying good-bye."""
        for folder in self._servers():
            if not _is_locked(folder / _LOCK):
                shutil.rmtree(folder, ignore_errors=True)

    def _servers(self) -> list[Path]:
        return sorted(self.directory.glob("[0-9a-f]*/"))

    def _live_servers(self) -> Iterator[Path]:
        return (folder for folder in self._servers() if _is_locked(folder / _LOCK))


class GftpServer:
    """One `gftp server`: answers JSON-RPC requests and keeps its notes in the store."""

    def __init__(self, store: Path, node_id: str) -> None:
        self._node_id = node_id
        self._open: dict[str, int] = {}  # name -> file descriptor
        self._versions: dict[str, tuple[int, int]] = {}  # name -> size and time when published
        store.mkdir(parents=True, exist_ok=True)
        GftpStore(store).remove_dead_servers()
        # The folder gets its final name only once its lock is held: no one may see it unlocked.
        self._folder = store / secrets.token_hex(8)
        draft = store / f".{self._folder.name}"
        for kind in (_PUBLISHED, _RECEIVED):
            (draft / kind).mkdir(parents=True)
        self._lock = os.open(draft / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        draft.rename(self._folder)

    def publish(self, files: list[str]) -> list[dict[str, str]]:
        """Offer files under URLs made of their content's SHA3-256."""
        return [{"file": file, "url": self._url(self._publish_one(file))} for file in files]

    def receive(self, output_file: str) -> dict[str, str]:
        """Create `output_file` (parents too, emptied if it exists) and a URL to send it to."""
        path = Path(os.path.abspath(output_file))
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644))
        name = "".join(secrets.choice(_ALPHABET) for _ in range(RECEIVE_NAME_LENGTH))
        _write_note(self._folder / _RECEIVED / name, {"path": os.fspath(path)})
        return {"file": output_file, "url": self._url(name)}

    def close(self, urls: list[str]) -> list[str]:
        """End the publication of each URL, however often this server published that content.

        Requestors count references themselves and close a URL once, after its last use; what
        other servers publish under the same URL is not touched.
        """
        return ["ok" if self._close_one(url) else "error" for url in urls]

    def shutdown(self) -> str:
        """Withdraw everything."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
        shutil.rmtree(self._folder, ignore_errors=True)
        return "ok"

    def _publish_one(self, file: str) -> str:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(f"{file} is not a regular file")
            name = _content_name(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        previous = self._open.get(name)
        if previous is not None and _version(previous) == self._versions[name]:
            # an exe-unit may be about to open what the note names: it must not go away now
            os.close(descriptor)
            return name
        note = {
            "pid": os.getpid(),
            "fd": descriptor,
            "device": status.st_dev,
            "inode": status.st_ino,
        }
        _write_note(self._folder / _PUBLISHED / name, note)
        self._open[name] = descriptor
        self._versions[name] = _version(descriptor)
        if previous is not None:
            os.close(previous)
        return name

    def _close_one(self, url: str) -> bool:
        try:
            name = _name_of(url)
        except GftpError:
            return False
        descriptor = self._open.pop(name, None)
        if descriptor is None:
            return False
        (self._folder / _PUBLISHED / name).unlink(missing_ok=True)
        os.close(descriptor)
        return True

    def _url(self, name: str) -> str:
        return f"gftp://{self._node_id}/{name}"


def write_launcher(bin_directory: Path, store: Path, node_id: str | None = None) -> Path:
    """Write an executable `gftp` script into `bin_directory` that serves `store`.

    `node_id` ("0x" and 40 hex digits) appears in the URLs; by default it is derived from the
    store's path. Put `bin_directory` on `PATH` for requestors to find it.
    """
    if node_id is None:
        node_id = "0x" + hashlib.sha3_256(os.fsencode(store.absolute())).hexdigest()[:40]
    bin_directory.mkdir(parents=True, exist_ok=True)
    program = shlex.join(
        [
            sys.executable,
            "-I",
            "-S",
            os.path.abspath(__file__),
            "--store",
            os.fspath(store.absolute()),
            "--node-id",
            node_id,
        ]
    )
    launcher = bin_directory / "gftp"
    launcher.write_text(f'#!/bin/sh\nexec {program} "$@"\n', encoding="utf-8")
    launcher.chmod(0o755)
    return launcher


def serve(server: GftpServer, requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer one JSON line per request line until `shutdown` or the end of `requests`."""
    try:
        for line in requests:
            reply, is_last = _answer(server, line)
            replies.write(json.dumps(reply).encode() + b"\n")
            replies.flush()
            if is_last:
                return
    except BrokenPipeError:
        return
    finally:
        server.shutdown()


def main(arguments: list[str] | None = None) -> int:
    """`gftp [--store FOLDER] [--node-id ID] server | version`."""
    rest = list(sys.argv[1:] if arguments is None else arguments)
    options = {"--store": "", "--node-id": "0x" + "0" * 40}
    while len(rest) >= 2 and rest[0] in options:
        options[rest[0]] = rest[1]
        del rest[:2]
    if rest in (["version"], ["--version"]):
        print(f"gftp {VERSION}")
        return 0
    if rest != ["server"] or not options["--store"]:
        print("usage: gftp --store FOLDER [--node-id 0x…] server", file=sys.stderr)
        return 2
    server = GftpServer(Path(options["--store"]), options["--node-id"])
    try:
        serve(server, sys.stdin.buffer, sys.stdout.buffer)
    except KeyboardInterrupt:
        return 130
    return 0


def _answer(server: GftpServer, line: bytes) -> tuple[dict[str, Any], bool]:
    try:
        request = json.loads(line)
    except ValueError as error:
        return _error(None, -32700, f"Parse error: {error}"), False
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        return _error(None, -32600, "Invalid request: expected an object with a method"), False
    identifier, method = request.get("id"), request["method"]
    call = _METHODS.get(method)
    if call is None:
        return _error(identifier, -32601, f"Method not found: {method}"), False
    try:
        result = call(server, request.get("params") or {})
    except _InvalidParams as error:
        return _error(identifier, -32602, f"Invalid params of {method}: {error}"), False
    except (OSError, ValueError) as error:
        return _error(identifier, -32000, f"{method} failed: {error}"), False
    return {"jsonrpc": "2.0", "id": identifier, "result": result}, method == "shutdown"


class _InvalidParams(Exception):
    pass


def _error(identifier: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "error": {"code": code, "message": message}}


def _text(params: Any, key: str) -> str:
    value = params.get(key) if isinstance(params, dict) else None
    if not isinstance(value, str) or not value:
        raise _InvalidParams(f"`{key}` must be a text that is not empty")
    return value


def _texts(params: Any, key: str) -> list[str]:
    values = params.get(key) if isinstance(params, dict) else None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise _InvalidParams(f"`{key}` must be a list of texts")
    return values


_METHODS: dict[str, Callable[[GftpServer, Any], Any]] = {
    "version": lambda server, params: VERSION,
    "publish": lambda server, params: server.publish(_texts(params, "files")),
    "receive": lambda server, params: server.receive(_text(params, "output_file")),
    "close": lambda server, params: server.close(_texts(params, "urls")),
    "shutdown": lambda server, params: server.shutdown(),
}


def _name_of(url: str) -> str:
    match = _URL.fullmatch(url)
    if match is None:
        raise GftpError(f"{url!r} is no gftp URL (gftp://0x<40 hex digits>/<letters and digits>)")
    return match.group(2)


def _version(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


def _content_name(descriptor: int) -> str:
    digest = hashlib.sha3_256()
    offset = 0
    while block := os.pread(descriptor, 1 << 20, offset):
        digest.update(block)
        offset += len(block)
    return digest.hexdigest()


def _write_note(path: Path, note: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(note), encoding="utf-8")
    draft.rename(path)


def _read_note(path: Path) -> dict[str, Any] | None:
    try:
        note: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return note


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


if __name__ == "__main__":
    sys.exit(main())
