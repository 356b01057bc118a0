"""`derl-worker`: the program that a provider starts; it talks to the worker, and starts it.

Only light modules of the standard library are imported here, because this program is started
once per order and the interpreter's start is all it may cost. The worker itself is
`worker_server.py`; read it next. All files are in the current directory.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence

SOCKET_NAME = "worker.sock"
LOCK_NAME = "worker.lock"
LOG_NAME = "worker.log"
RESERVED_NAMES = frozenset({SOCKET_NAME, LOCK_NAME, LOG_NAME})

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_ORDER_FAILED = 3
EXIT_NO_WORKER = 4

_USAGE = """\
usage: derl-worker start [--learner native|sb3] [--bits HEX]
                                    start the worker in the background, wait until it is ready
       derl-worker work ORDER.json  have it execute an order, wait for the result
       derl-worker stop             end it
       derl-worker serve [--learner native|sb3] [--bits HEX] [--stop-on-stdin-eof]
                                    be the worker, in the foreground
--learner says which learner to have in memory beforehand (default sb3); either is loaded when an
order needs it. With --bits the worker does not start unless its kernels are the version of that
name: work is compared bit for bit, and another version's would differ.
All files lie in the current directory. Exit codes: 0 done, 1 the worker does not start,
2 usage, 3 the order was refused or failed, 4 no worker is running."""
_LOG_TAIL_BYTES = 2000
_ARITHMETIC = (
    *("ATEN_", "MKL_", "ONEDNN_", "DNNL_", "NPY_", "OPENBLAS_", "OMP_", "KMP_", "GOMP_"),
    *("NUMEXPR_", "TORCH_", "GLIBC_TUNABLES", "PYTHONHASHSEED"),
)
_AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    # NumPy's own names of what lies above; those that a processor has not are passed over
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
"""Holds torch's own kernels, its convolutions, and NumPy's matrices and functions to AVX2."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    match given:
        case ["start", *options] if _are_options(options, ()):
            return _start(options)
        case ["work", order_name]:
            return _work(order_name)
        case ["stop"]:
            return _stop()
        case ["serve", *options] if _are_options(options, ("--stop-on-stdin-eof",)):
            command = _server_command([*options, "--ready-fd", "1"])
            os.execve(command[0], command, worker_environment(os.environ))
        case ["--help"] | ["-h"] | ["help"]:
            print(_USAGE)
            return EXIT_OK
    print(_USAGE, file=sys.stderr)
    return EXIT_USAGE


def _are_options(given: Sequence[str], flags: Sequence[str]) -> bool:
    match given:
        case []:
            return True
        case ["--learner", "native" | "sb3", *rest]:
            return _are_options(rest, flags)
        case ["--bits", name, *rest] if name.isalnum():
            return _are_options(rest, flags)
        case [flag, *rest] if flag in flags:
            return _are_options(rest, flags)
    return False


def worker_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The worker's environment variables: the determinism profile (FORMAT.md, section 11).

    One thread, no display, and the instructions of AVX2 machines on all that have them: newer ones
    would give other bits. What is inherited and could change arithmetic is left out.
    """
    environment = {
        name: value for name, value in inherited.items() if not name.startswith(_ARITHMETIC)
    }
    environment |= {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}
    environment |= {
        "MKL_CBWR": "COMPATIBLE",
        "PYTHONHASHSEED": "0",
        "CUDA_VISIBLE_DEVICES": "",
        "SDL_VIDEODRIVER": "dummy",
        "SDL_AUDIODRIVER": "dummy",
        "PYGAME_HIDE_SUPPORT_PROMPT": "1",
    }
    return environment | (_AVX2 if _has_avx2() else {"ATEN_CPU_CAPABILITY": "default"})


def _start(options: Sequence[str]) -> int:
    directory = os.open(".", os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)  # two starts at once become one after the other
    running = _running_worker()
    if running is not None:
        return _report_ready(running[1])
    return _report_ready(_spawn_and_wait(options))


def _report_ready(ready_line: str) -> int:
    if ready_line:
        print(ready_line)
        return EXIT_OK
    print(f"derl-worker: the worker did not start: {_log_tail()}", file=sys.stderr)
    return EXIT_FAILED


def _spawn_and_wait(options: Sequence[str]) -> str:
    """Start the worker in a session of its own; its ready line, or nothing if it failed."""
    import subprocess

    read_end, write_end = os.pipe()
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    log = os.open(LOG_NAME, flags, 0o644)
    subprocess.Popen(
        _server_command([*options, "--ready-fd", str(write_end)]),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=worker_environment(os.environ),
        pass_fds=[write_end],
        start_new_session=True,
    )
    os.close(write_end)
    with open(read_end, encoding="utf-8") as ready:
        return ready.readline().strip()


def _server_command(options: Sequence[str]) -> list[str]:
    return [sys.executable, "-P", "-m", "provider_image.worker_server", *options]


def _work(order_name: str) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(SOCKET_NAME)
        except OSError as error:
            return _fail(EXIT_NO_WORKER, f"no worker is running here ({error.strerror}); start it")
        try:
            connection.sendall(json.dumps({"order": order_name}).encode() + b"\n")
            with connection.makefile("rb") as stream:
                answer = stream.readline()
        except OSError:
            answer = b""
    if not answer.endswith(b"\n"):
        return _fail(EXIT_NO_WORKER, f"the worker died executing {order_name}: {_log_tail()}")
    reply = json.loads(answer)
    if "error" in reply:
        return _fail(EXIT_ORDER_FAILED, f"{order_name}: {reply['error']}")
    print(json.dumps(reply, sort_keys=True))
    return EXIT_OK


def _stop() -> int:
    running = _running_worker()
    if running is None:
        return EXIT_OK
    try:
        process = os.pidfd_open(running[0])
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except ProcessLookupError:
        return EXIT_OK
    select.select([process], [], [])  # readable once the process is gone
    return EXIT_OK


def _running_worker() -> tuple[int, str] | None:
    """Process id and ready line (empty while it loads) of the worker in this directory."""
    try:
        descriptor = os.open(LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with open(descriptor, encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            process_id, _, ready_line = lock.read().partition("\n")
            return int(process_id), ready_line.strip()
    return None


def _fail(exit_code: int, message: str) -> int:
    print(f"derl-worker: {' '.join(message.split())}", file=sys.stderr)
    return exit_code


def _log_tail() -> str:
    try:
        with open(LOG_NAME, "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").split("\n")
    except OSError:
        lines = []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else f"it left nothing in {LOG_NAME}"


def _has_avx2() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as cpuinfo:
            return any(" avx2 " in f"{line.rstrip()} " for line in cpuinfo if "flags" in line)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
