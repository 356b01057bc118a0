"""One life of the daemon's process: started under a keeper, watched, stopped or killed."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from requestor.mock_golem.testnet import keeper
from requestor.mock_golem.testnet.confinement import namespace_command

START_SECONDS = 60.0
STOP_SECONDS = keeper.STOP_SECONDS + 4.0
_MESSAGE_BYTES = 4096

ChainListenerConsumer = Callable[[socket.socket], Awaitable[None]]


class DaemonError(Exception):
    """The daemon does not start; the message says what it said."""


@dataclass(frozen=True)
class DaemonCommand:
    """What to run and where it is reached.

    `port` is the TCP port on loopback by which we reach the daemon, and where nobody else listens.
    `rest_port` is the same as the daemon sees it; `chain_port` is where it looks for the chain (0:
    on our own loopback, nothing is to be done). With `is_confined` it runs in a network namespace.
    """

    argv: Sequence[str]
    environment: Mapping[str, str]
    port: int
    rest_port: int
    chain_port: int
    is_confined: bool


class DaemonProcess:
    """The process, from `start` on.

    Args:
        process: the keeper.
        control: our end of its control socket.
        on_chain: takes over the socket that listens for the chain in the daemon's network.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        control: socket.socket,
        on_chain: ChainListenerConsumer,
    ) -> None:
        self._process = process
        self._control = control
        self._on_chain = on_chain
        self._left = b""
        self._follow: asyncio.Task[None] | None = None
        self.pid = 0

    @classmethod
    async def start(
        cls, command: DaemonCommand, log: IO[bytes], on_chain: ChainListenerConsumer
    ) -> "DaemonProcess":
        """Start it and return once it answers; what it says is appended to `log`.

        Raises:
            DaemonError: it ended, or did not answer within `START_SECONDS`.
            OSError: the port is taken, or a program cannot be run.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs, contextlib.ExitStack() as stack:
            listener = -1
            if command.is_confined:
                listener = stack.enter_context(bound_socket(command.port)).fileno()
            argv = [*namespace_command()] if command.is_confined else []
            argv += [sys.executable, "-I", "-S", os.path.abspath(keeper.__file__)]
            argv += [str(theirs.fileno()), str(listener)]
            argv += [str(command.rest_port), str(command.chain_port), *command.argv]
            process = await asyncio.create_subprocess_exec(
                *argv,
                env=dict(command.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[number for number in (theirs.fileno(), listener) if number >= 0],
                start_new_session=True,
                preexec_fn=keeper.die_with(os.getpid()),
            )
        daemon = cls(process, ours, on_chain)
        try:
            await asyncio.wait_for(daemon._until_ready(), START_SECONDS)
        except BaseException as error:
            await daemon.kill()
            if isinstance(error, TimeoutError):
                raise DaemonError(
                    f"it does not answer within {START_SECONDS:.0f} s"
                ) from error
            raise
        daemon._follow = asyncio.ensure_future(daemon._until_end())
        return daemon

    @property
    def is_running(self) -> bool:
        """Whether it was last heard of alive."""
        return self._follow is not None and not self._follow.done()

    async def ended(self) -> None:
        """Return when the daemon has ended, by itself or not."""
        if self._follow is not None:
            await asyncio.wait({self._follow})
        await self._process.wait()

    async def stop(self) -> None:
        """Ask it to end, and kill it if it doesn't."""
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(self._control, b"stop\n")
        try:
            await asyncio.wait_for(asyncio.shield(self._process.wait()), STOP_SECONDS)
        except TimeoutError:
            pass
        finally:
            await self.kill()

    async def kill(self) -> None:
        """Kill it at once (SIGKILL), and return when it is gone."""
        if self.pid and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._process.wait()), 1.0)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        if self._follow is not None:
            self._follow.cancel()
        self._control.close()

    async def _until_ready(self) -> None:
        while (message := await self._message())["event"] != "ready":
            if message["event"] == "ended":
                raise DaemonError(f"it ended with code {message.get('code')}")
            if message["event"] == "started":
                self.pid = int(message["pid"])

    async def _until_end(self) -> None:
        with contextlib.suppress(DaemonError):
            while (await self._message())["event"] != "ended":
                pass

    async def _message(self) -> dict[str, Any]:
        """The keeper's next line; open files that come with it are taken over."""
        while b"\n" not in self._left:
            await _readable(self._control)
            data, files, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 1)
            for file in files:
                await self._on_chain(socket.socket(fileno=file))
            if not data:
                raise DaemonError("its keeper ended")
            self._left += data
        line, _, self._left = self._left.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


def bound_socket(port: int) -> socket.socket:
    """Return a TCP socket bound to a port on loopback (0: a free one), on which nobody listens yet.

    Several may be bound to the same port as long as none listens.

    Raises:
        OSError: somebody listens on that port.
    """
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((keeper.LOOPBACK, port))
    except BaseException:
        found.close()
        raise
    return found


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection, _done, ready)
    try:
        await ready
    finally:
        loop.remove_reader(connection)


def _done(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def log_tail(path: Path, characters: int = 1500) -> str:
    """The last characters of a daemon's log."""
    try:
        return path.read_bytes()[-4 * characters :].decode(errors="replace")[-characters:].strip()
    except OSError:
        return ""
