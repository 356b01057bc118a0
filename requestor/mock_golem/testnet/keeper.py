"""Keeps one daemon alive, and no longer than its owner; a program of its own.

    python keeper.py CONTROL LISTENER REST_PORT CHAIN_PORT PROGRAM [ARGUMENT…]

It may run inside a network namespace of the daemon's. CONTROL is a unix socket to the owner: when
the owner goes, the daemon is killed. LISTENER is a TCP socket of the owner's network, bound but
not yet listening: once the daemon answers on REST_PORT, connections to it are carried there, and
when the daemon dies nobody listens any more. For CHAIN_PORT the owner gets a listening socket in
the daemon's network. LISTENER -1 and CHAIN_PORT 0: neither is needed.

It imports the standard library only and little of it: its start is part of the daemon's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.02
STOP_SECONDS = 8.0
_BLOCK_BYTES = 1 << 16
_PR_SET_PDEATHSIG = 1


class Keeper:
    """One daemon's keeper.

    Args:
        control: the socket to the owner.
        rest_port: where the daemon will answer `GET /version/get`.
    """

    def __init__(self, control: socket.socket, rest_port: int) -> None:
        self._control = control
        self._rest_port = rest_port
        self._carried: set[asyncio.Task[None]] = set()

    async def keep(self, command: list[str], listener: socket.socket | None) -> int:
        """Run the daemon until it ends or the owner goes; return its exit code."""
        daemon = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, preexec_fn=die_with(os.getpid())
        )
        self.tell(event="started", pid=daemon.pid)
        ended = asyncio.ensure_future(daemon.wait())
        owner = asyncio.ensure_future(self._obey(daemon))
        ready = asyncio.ensure_future(self._open(listener))
        try:
            await asyncio.wait({ended, ready}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
            code = await ended
        finally:
            for task in (owner, ready, *self._carried):
                task.cancel()
            with contextlib.suppress(ProcessLookupError):
                daemon.kill()
        self.tell(event="ended", code=code)
        return code

    def tell(self, file: socket.socket | None = None, **message: Any) -> None:
        """Send one JSON line to the owner, with an open file if one is given."""
        line = json.dumps(message).encode() + b"\n"
        with contextlib.suppress(OSError):
            self._control.setblocking(True)
            if file is None:
                self._control.sendall(line)
            else:
                socket.send_fds(self._control, [line], [file.fileno()])
        self._control.setblocking(False)

    async def _obey(self, daemon: asyncio.subprocess.Process) -> None:
        """Stop the daemon when told so; kill it when the owner is gone."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            if await loop.sock_recv(self._control, _BLOCK_BYTES):
                with contextlib.suppress(ProcessLookupError):
                    daemon.terminate()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(
                        loop.sock_recv(self._control, _BLOCK_BYTES), STOP_SECONDS
                    )
        with contextlib.suppress(ProcessLookupError):
            daemon.kill()

    async def _open(self, listener: socket.socket | None) -> None:
        """Let connections in as soon as the daemon answers."""
        while not await self._answers():
            await asyncio.sleep(POLL_SECONDS)
        if listener is not None:
            await asyncio.start_server(self._carry, sock=listener)
        self.tell(event="ready")

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, self._rest_port)
        except OSError:
            return False
        try:
            writer.write(b"GET /version/get HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return b" 200 " in await reader.readline()
        except OSError:
            return False
        finally:
            writer.transport.abort()

    async def _carry(
        self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carried.add(task)
        task.add_done_callback(self._carried.discard)
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, self._rest_port)
        except OSError:
            client_writer.transport.abort()
            return
        try:
            await asyncio.gather(_pump(client_reader, writer), _pump(reader, client_writer))
        except OSError:
            pass
        finally:
            writer.transport.abort()
            client_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(_BLOCK_BYTES):
        writer.write(block)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def die_with(parent: int) -> Callable[[], None]:
    """Return what a child runs first, so that the kernel kills it when `parent` dies."""
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return prepare


def main(arguments: list[str]) -> int:
    """Run as the module's docstring says; return the daemon's exit code."""
    control = socket.socket(fileno=int(arguments[0]))
    listener = socket.socket(fileno=int(arguments[1])) if int(arguments[1]) >= 0 else None
    rest_port, chain_port = int(arguments[2]), int(arguments[3])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # the owner decides; SIG_IGN would be inherited
    keeper = Keeper(control, rest_port)
    if chain_port:
        with socket.create_server((LOOPBACK, chain_port), backlog=64) as chain:
            keeper.tell(chain, event="chain")
    code = asyncio.run(keeper.keep(arguments[4:], listener))
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
