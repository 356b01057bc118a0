"""The init process of an activity: starts commands, passes on their output, ends everything.

Usage: `agent.py CONFIG`, CONFIG being a JSON object: `is_init` (true as PID 1 of an own PID
namespace, false as a plain process, which then becomes a child-subreaper), `pace`, `memory_bytes`
(or null), `output_limit_bytes`, `memory_folders`, `image` (a folder to lay over the root, or null)
and `volumes` (where nothing of it is laid), `own_root` (an image's own root to move into, see
`own_root.py`, or null), `door` (descriptor of a Unix socket) and `networks` (`[{"address",
"netmask"}]`: a device is made for each and passed through the door).

One JSON object per line. Requests on stdin: `{"run": number, "entry_point", "args", "cwd",
"environment", "stdout": capture or null, "stderr": capture or null}`, and `{"socket": name}`: a TCP
socket comes through the door with that name. The end of stdin ends all.
Replies on stdout: `{"ready": pid, "devices": how many came}`, `{"run", "started": pid}`,
`{"run", "failed": [errno, text]}`, `{"run", "stdout" | "stderr": base64}`, `{"run", "exit": code}`,
`{"socket", "failed": [errno, text]}`, and last of all `{"end": "closed" | "memory",
"cpu_seconds"}`.

Whoever dies, nothing survives: without the exe-unit stdin ends; as PID 1 the agent takes its
namespace along; as a plain process it is watched by a guard, its parent, to which its children
fall when it dies, and which tells it by a signal when the guard itself dies.
"""

from __future__ import annotations

import binascii
import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any, NoReturn

from . import mounting, own_root
from .capture import Capture
from .image import lay_over
from .network import hand_over_devices, hand_over_socket
from .pacing import MemoryGuard, Pacer
from .processes import kill_descendants

NETWORK_RIGHTS = (mounting.NET_BIND_SERVICE,)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
STDIN, STDOUT, STDERR = 0, 1, 2
BLOCK_BYTES = 1 << 16
LAST_WORDS_BYTES = 1 << 20  # what is still read of a command's pipe after its end


class Output:
    """One output pipe of a command, read by the agent."""

    def __init__(self, run: int, name: str, descriptor: int, capture: Capture) -> None:
        self.run = run
        self.name = name
        self.descriptor = descriptor
        self.capture: Capture | None = capture  # None once the command ended: read and forget


class Agent:
    """The event loop of the agent."""

    def __init__(self, config: dict[str, Any], user: own_root.User | None = None) -> None:
        self._limit_bytes: int = config["output_limit_bytes"]
        self._user = user
        self._door: int | None = config.get("door")
        self._devices = 0
        if self._door is not None:
            os.set_inheritable(self._door, False)
            if config.get("networks"):
                kept = own_root.KEPT_CAPABILITIES if config.get("own_root") else NETWORK_RIGHTS
                self._devices = hand_over_devices(self._door, config["networks"], kept)
        self._poll = select.poll()
        self._outputs: dict[int, Output] = {}
        self._running: dict[int, int] = {}  # process id -> number of the run
        self._requests = bytearray()
        self._pacer = Pacer(config["pace"], os.getpid())
        self._memory = MemoryGuard(
            config["memory_bytes"], os.getpid(), config.get("memory_folders", [])
        )
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        os.set_blocking(self._wake_reader, False)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_end_signal)
        self._is_ending = False
        self._poll.register(STDIN, select.POLLIN)
        self._poll.register(self._wake_reader, select.POLLIN)

    def serve(self) -> None:
        """Work until stdin ends, a signal asks to stop, or the memory limit is passed."""
        reason = "closed"
        try:
            _send({"ready": os.getpid(), "devices": self._devices})
            while not self._is_ending:
                self._handle_events()
                self._collect()
                now = time.monotonic()
                if self._pacer.next_step is not None and now >= self._pacer.next_step:
                    self._pacer.step(now)
                if self._memory.next_step is None or now < self._memory.next_step:
                    continue
                if self._memory.is_exceeded(now):
                    reason = "memory"
                    break
        finally:
            kill_descendants(os.getpid(), reap=_reap_all)
            _reap_all()
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        _send({"end": reason, "cpu_seconds": usage.ru_utime + usage.ru_stime})

    def _on_end_signal(self, number: int, frame: object) -> None:
        self._is_ending = True

    def _handle_events(self) -> None:
        steps = [
            step for step in (self._pacer.next_step, self._memory.next_step) if step is not None
        ]
        wait = max(0.0, min(steps) - time.monotonic()) * 1000 if steps else None
        for descriptor, _ in self._poll.poll(wait):
            if descriptor == STDIN:
                self._read_requests()
            elif descriptor == self._wake_reader:
                with contextlib.suppress(BlockingIOError):
                    while len(os.read(self._wake_reader, BLOCK_BYTES)) == BLOCK_BYTES:
                        pass
            elif descriptor in self._outputs:
                self._read_output(self._outputs[descriptor])

    def _read_requests(self) -> None:
        data = os.read(STDIN, BLOCK_BYTES)
        if not data:
            self._is_ending = True
            return
        self._requests += data
        while (end := self._requests.find(b"\n")) >= 0:
            request = json.loads(bytes(self._requests[:end]))
            del self._requests[: end + 1]
            if "socket" in request:
                self._make_socket(request["socket"])
            else:
                self._start(request)

    def _make_socket(self, name: str) -> None:
        try:
            if self._door is None:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            hand_over_socket(self._door, name)
        except OSError as error:
            _send({"socket": name, "failed": [error.errno, error.strerror]})

    def _start(self, request: dict[str, Any]) -> None:
        number: int = request["run"]
        pipes = [os.pipe() for _ in range(3)]  # stdout, stderr, and what went wrong before exec
        (stdout, _), (stderr, _), (failure, _) = pipes
        try:
            pid = os.fork()
        except OSError as error:  # too many processes
            for descriptor in (end for pipe in pipes for end in pipe):
                os.close(descriptor)
            _send({"run": number, "failed": [error.errno, error.strerror]})
            return
        if pid == 0:
            _become(request, self._user, *(writer for _, writer in pipes))
        for _, writer in pipes:
            os.close(writer)
        problem = os.read(failure, BLOCK_BYTES)
        os.close(failure)
        if problem:
            os.close(stdout)
            os.close(stderr)
            os.waitpid(pid, 0)
            code, _, text = problem.decode().partition(" ")
            _send({"run": number, "failed": [int(code), text]})
            return
        for name, descriptor in (("stdout", stdout), ("stderr", stderr)):
            capture = Capture(request[name], self._limit_bytes)
            os.set_blocking(descriptor, False)
            self._outputs[descriptor] = Output(number, name, descriptor, capture)
            self._poll.register(descriptor, select.POLLIN)
        self._running[pid] = number
        _send({"run": number, "started": pid})
        now = time.monotonic()
        self._pacer.wake(now)
        self._memory.wake(now)

    def _read_output(self, output: Output) -> int:
        """Read once; returns the number of bytes, 0 at the end of the pipe, -1 if none wait."""
        try:
            data = os.read(output.descriptor, BLOCK_BYTES)
        except BlockingIOError:
            return -1
        if not data:
            self._poll.unregister(output.descriptor)
            os.close(output.descriptor)
            del self._outputs[output.descriptor]
        if output.capture is not None:
            self._forward(output, output.capture.write(data))
            if not data:
                self._forward(output, output.capture.finish())
        return len(data)

    def _forward(self, output: Output, data: bytes) -> None:
        for start in range(0, len(data), BLOCK_BYTES):
            text = binascii.b2a_base64(data[start : start + BLOCK_BYTES], newline=False)
            _send({"run": output.run, output.name: text.decode("ascii")})

    def _collect(self) -> None:
        """Reap the dead: commands, and orphans that have fallen to the agent."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self._running.pop(pid, None)
            if number is not None:
                self._finish(number, status)

    def _finish(self, number: int, status: int) -> None:
        for output in [output for output in self._outputs.values() if output.run == number]:
            unread_bytes = LAST_WORDS_BYTES
            while unread_bytes > 0 and (size := self._read_output(output)) > 0:
                unread_bytes -= size
            if output.capture is not None:
                self._forward(output, output.capture.finish())
            output.capture = None
        code = os.waitstatus_to_exitcode(status)
        _send({"run": number, "exit": code if code >= 0 else 128 - code})


def main(arguments: list[str]) -> None:
    """Entry of the agent's process; `arguments` is the config alone."""
    config = json.loads(arguments[0])
    os.umask(0o022)
    if not config["is_init"]:
        _stand_guard()
    if config.get("image") is not None:
        lay_over(config["image"], "/", config["volumes"])
    user = None
    if config.get("own_root") is not None:
        user = _enter_own_root(config)
    elif config["is_init"]:
        mounting.forbid_what_has_no_namespace()
    agent = Agent(config, user)
    with contextlib.suppress(BrokenPipeError):
        agent.serve()


def _enter_own_root(config: dict[str, Any]) -> own_root.User | None:
    try:
        user = own_root.enter(config["own_root"])
    except (OSError, ValueError) as error:
        sys.exit(f"the image cannot be entered: {error}")
    own_root.close_the_door_behind((mounting.NET_ADMIN,) if config.get("networks") else ())
    null = os.open(os.devnull, os.O_WRONLY)  # the log is a file of the machine's
    os.dup2(null, STDERR)
    os.close(null)
    return user


def _stand_guard() -> None:
    """Fork. The child returns and becomes the agent; the parent waits for its end, kills what it
    left behind, and ends too."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    _check(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    guard = os.getpid()
    agent = os.fork()
    if agent == 0:
        _check(prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0))
        _check(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
        if os.getppid() != guard:
            os._exit(1)
        return
    os.close(STDIN)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == agent:
            kill_descendants(guard, reap=_reap_all)
            _reap_all()
            os._exit(abs(os.waitstatus_to_exitcode(status)) & 0xFF)


def _become(
    request: dict[str, Any],
    user: own_root.User | None,
    stdout: int,
    stderr: int,
    failure: int,
) -> NoReturn:
    """In the forked child: turn into the command, or report why not."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (*range(1, 32),):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, STDIN)
        os.dup2(stdout, STDOUT)
        os.dup2(stderr, STDERR)
        if user is not None:
            os.setgroups(user.groups)
            os.setgid(user.gid)
            os.setuid(user.uid)
        os.chdir(request["cwd"])
        path: str = request["entry_point"]
        if "/" not in path:
            raise FileNotFoundError(2, "No such file or directory")
        os.execve(path, [os.path.basename(path), *request["args"]], request["environment"])
    except (OSError, ValueError) as error:
        code = getattr(error, "errno", None) or 22
        os.write(failure, f"{code} {getattr(error, 'strerror', None) or error}".encode())
    finally:
        os._exit(127)


def _send(message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(STDOUT, data) :]


def _reap_all() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


if __name__ == "__main__":
    main(sys.argv[1:])
