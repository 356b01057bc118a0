"""The worker: a long-lived process that has a learner in memory and executes orders one by one.

It listens on `worker.sock` in its current directory. A client sends one JSON line,
`{"order": "<file>"}`, and gets one back: `{"order_sha256", "files"}` or `{"error"}`. An order
that fails leaves the worker as it was. It is started by `worker_cli.py`, which sets the
environment variables that must stand before NumPy and torch are imported.
"""

from __future__ import annotations

import _thread
import contextlib
import fcntl
import gc
import importlib
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from provider_image.worker_cli import LOCK_NAME, RESERVED_NAMES, SOCKET_NAME

if TYPE_CHECKING:
    from provider_image.wire import LearnerName

_REQUEST_LIMIT_BYTES = 4096
_NEW_SOCKET = f".{SOCKET_NAME}.new"
_ERROR_LETTERS = 2000
_REQUEST_TIMEOUT_SECONDS = 10.0
_ORDER_NAME = re.compile(r"\A[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\Z")


def main() -> int:
    """Load what learners need, announce it, and serve until killed or told to stop."""
    options = _options(sys.argv[1:])
    gc.disable()  # until all is imported: collecting then finds nothing and takes its time
    lock = _take_lock()
    if lock is None:
        print("a worker is already running in this directory", file=sys.stderr)
        return 1
    if options.stop_on_stdin_eof:
        # Whoever holds our stdin decides when we end, not the terminal that both may share.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _thread.start_new_thread(_exit_when_stdin_ends, ())
    if options.bits:
        _check_bits(options.bits)
    ready_line = json.dumps(_load(options.learner), sort_keys=True) + "\n"
    if options.learner == "sb3":
        gc.collect()
    gc.freeze()  # what stands in memory now is never looked at again
    gc.enable()
    with _listening_socket() as listener:
        os.write(lock, ready_line.encode())
        _announce(options.ready_fd, ready_line)
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_REQUEST_TIMEOUT_SECONDS)
                _serve(connection, Path())


class _Options(NamedTuple):
    ready_fd: int = 1
    learner: LearnerName = "sb3"
    bits: str = ""
    stop_on_stdin_eof: bool = False


def _options(given: list[str]) -> _Options:
    """What `worker_cli` puts together; argparse would take longer than all that is read here."""
    match given:
        case []:
            return _Options()
        case ["--ready-fd", number, *rest]:
            return _options(rest)._replace(ready_fd=int(number))
        case ["--bits", name, *rest]:
            return _options(rest)._replace(bits=name)
        case ["--learner", "native" | "sb3" as name, *rest]:
            return _options(rest)._replace(learner="native" if name == "native" else "sb3")
        case ["--stop-on-stdin-eof", *rest]:
            return _options(rest)._replace(stop_on_stdin_eof=True)
    raise SystemExit(f"unknown option {given[0]}; start the worker by derl-worker")


def _serve(connection: socket.socket, directory: Path) -> None:
    """Answer one client; a client that says nothing or goes away raises OSError."""
    with connection.makefile("rb") as stream:
        line = stream.readline(_REQUEST_LIMIT_BYTES)
    try:
        request = json.loads(line)
        name = request["order"] if isinstance(request, dict) else None
    except (ValueError, KeyError, RecursionError):
        name = None
    if not isinstance(name, str) or not _ORDER_NAME.match(name):
        answer: dict[str, Any] = {"error": "the order must be a file name without a folder"}
    else:
        answer = execute_file(name, directory)
    connection.settimeout(None)
    connection.sendall(json.dumps(answer).encode() + b"\n")


def execute_file(name: str, directory: Path) -> dict[str, Any]:
    """Execute the order in file `name`: its digest and the outputs' hashes, or the error."""
    from provider_image import round_runner
    from provider_image.wire import (
        MAX_ORDER_BYTES,
        WireError,
        decode_order,
        order_digest,
        read_file,
    )

    try:
        order = decode_order(bytes(read_file(directory / name, MAX_ORDER_BYTES)))
        for output in _outputs(order):
            if output in RESERVED_NAMES or output == name:
                raise WireError(f"output {output} is the name of a file that is in use")
        files = round_runner.execute(order, directory)
        return {"order_sha256": order_digest(order), "files": files}
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return {"error": _one_line(error)}
    finally:
        gc.collect()


def _outputs(order: Any) -> list[str]:
    fields = ("output", "client_state_output", "normalizer_output")
    return [name for field in fields if (name := getattr(order, field, None)) is not None]


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    ours = type(error).__module__.startswith("provider_image.")
    return (text if ours and text else f"{type(error).__name__}: {text}")[:_ERROR_LETTERS]


def _load(name: LearnerName) -> dict[str, Any]:
    """Import what the learner's orders need; whatever else one needs is imported when it comes."""
    # SB3 imports TensorBoard where it finds it; a worker writes none and saves the time.
    cast(dict[str, Any], sys.modules).setdefault("torch.utils.tensorboard", None)
    _import_msgspec()
    from provider_image import round_runner  # noqa: F401
    from provider_image.learners import load_learner
    from provider_image.wire import FORMAT_VERSION

    packages = load_learner("ppo", name).packages()
    if name == "native":
        _check_kernels()
    return {"format": FORMAT_VERSION, "learner": name, "packages": packages, "threads": 1}


def _import_msgspec() -> None:
    """Without typing_extensions, which it prefers to typing where both have what it needs."""
    modules = cast(dict[str, Any], sys.modules)
    if "typing_extensions" in modules:
        return
    modules["typing_extensions"] = None
    try:
        importlib.import_module("msgspec")
    finally:
        del modules["typing_extensions"]


def _check_bits(wanted: str) -> None:
    from native_kernels.canary import BITS

    if wanted != BITS:
        raise SystemExit(
            f"these kernels give the bits {BITS}, wanted are {wanted}: image and requestor are of "
            "different versions of DeRL"
        )


def _check_kernels() -> None:
    """Raise if rounds have other bits here than they must: then no work is taken on."""
    from native_kernels.canary import check_rounds

    check_rounds()


def _take_lock() -> int | None:
    """Hold `worker.lock` for the life of this process; it has its id and then the ready line."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(LOCK_NAME, flags, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _listening_socket() -> socket.socket:
    """Listen; the socket has its name only when it can be connected to."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_NEW_SOCKET)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(_NEW_SOCKET)
    listener.listen(16)
    os.replace(_NEW_SOCKET, SOCKET_NAME)
    return listener


def _announce(descriptor: int, ready_line: str) -> None:
    os.write(descriptor, ready_line.encode())
    if descriptor > 2:
        os.close(descriptor)
    else:
        os.dup2(2, descriptor)  # what an environment prints must not fill a pipe nobody reads


def _exit_when_stdin_ends() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
