"""One connection to a daemon's service bus: calls out, and calls in below an address of ours."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from requestor.mock_golem.testnet.packets import (
    BAD_REQUEST,
    OK,
    SERVICE_FAILURE,
    CallReply,
    CallRequest,
    Hello,
    Packet,
    PacketError,
    PacketReader,
    Ping,
    Pong,
    RegisterReply,
    RegisterRequest,
    encode,
)

CALL_SECONDS = 5.0
MAX_CALLS_AT_ONCE = 64
_READ_BYTES = 1 << 16
_CLIENT = ("mock-golem", "1.0")

_log = logging.getLogger(__name__)


class BusError(Exception):
    """The bus is not there, went away, or refused; the message says which."""


class CallRefused(Exception):
    """A call from the bus that makes no sense here; the caller is told the text."""


class StreamedReply:
    """The answer to a call in several parts."""

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        self.parts = parts


_Reply = TypeVar("_Reply", CallReply, RegisterReply)
CallHandler = Callable[[str, bytes], Coroutine[Any, Any, "bytes | StreamedReply"]]


class BusConnection:
    """A connection; made by `open`. Nothing it started is left after `close`.

    `handler` gets the method (the last part of the address called) and the data of each call that
    comes in, and returns the answer; what it raises is told to the caller as a failure.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: CallHandler
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._packets = PacketReader()
        self._waiting: dict[str, asyncio.Future[CallReply]] = {}
        self._registering: asyncio.Future[RegisterReply] | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Task[None] | None = None
        self._closed = asyncio.Event()

    @classmethod
    async def open(cls, address: Path, handler: CallHandler) -> "BusConnection":
        """Connect and say hello.

        Args:
            address: the bus' unix socket.
            handler: answers calls.

        Raises:
            BusError: nobody listens there.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(address)
        except OSError as error:
            raise BusError(f"no service bus at {address}: {error.strerror}") from error
        connection = cls(reader, writer, handler)
        name, version = _CLIENT
        connection._send(Hello(name, version, secrets.token_bytes(16)))
        connection._listening = asyncio.get_running_loop().create_task(connection._listen())
        return connection

    async def register(self, service_id: str) -> None:
        """Ask for all calls below an address, for example `/public/exeunit/…`.

        Raises:
            BusError: refused, or the bus is gone.
        """
        self._check_open()
        future: asyncio.Future[RegisterReply] = asyncio.get_running_loop().create_future()
        self._registering = future
        self._send(RegisterRequest(service_id))
        reply = await self._answer_to(future)
        if reply.code != OK:
            raise BusError(f"{service_id} cannot be registered: {reply.code} {reply.message}")

    async def call(self, address: str, data: bytes) -> bytes:
        """Call somebody and return the answer.

        Raises:
            BusError: refused, no answer within `CALL_SECONDS`, or the bus is gone.
        """
        self._check_open()
        request_id = secrets.token_hex(16)
        future: asyncio.Future[CallReply] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        try:
            self._send(CallRequest("", address, request_id, data))
            reply = await self._answer_to(future)
        finally:
            self._waiting.pop(request_id, None)
        if reply.code != OK:
            reason = reply.data[:300].decode(errors="replace")
            raise BusError(f"{address} answers {reply.code}: {reason}")
        return reply.data

    async def wait_closed(self) -> None:
        """Return once the connection is gone, whoever ended it."""
        await self._closed.wait()

    async def close(self) -> None:
        """End the connection; calls that wait for our answer are cancelled by the bus."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await asyncio.gather(*self._answering, return_exceptions=True)

    # ------------------------------------------------------------------ traffic

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise BusError("the service bus has gone away")

    def _send(self, packet: Packet) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode(packet))

    async def _answer_to(self, future: "asyncio.Future[_Reply]") -> _Reply:
        try:
            return await asyncio.wait_for(future, CALL_SECONDS)
        except TimeoutError as error:
            raise BusError(f"the service bus is silent for {CALL_SECONDS:g} s") from error

    async def _listen(self) -> None:
        try:
            while data := await self._reader.read(_READ_BYTES):
                for packet in self._packets.feed(data):
                    self._take(packet)
        except (OSError, PacketError):
            pass  # the same to us as a connection that ended
        finally:
            self._end()

    def _end(self) -> None:
        self._closed.set()
        self._writer.close()
        gone = BusError("the service bus has gone away")
        waiting: list[asyncio.Future[Any]] = [*self._waiting.values()]
        if self._registering is not None:
            waiting.append(self._registering)
        for future in waiting:
            if not future.done():
                future.set_exception(gone)
                future.exception()  # whoever waited may have been cancelled
        for task in self._answering:
            task.cancel()

    def _take(self, packet: Packet) -> None:
        match packet:
            case Ping():
                self._send(Pong())
            case RegisterReply() if self._registering is not None:
                if not self._registering.done():
                    self._registering.set_result(packet)
            case CallReply(request_id=request_id, partial=False):
                future = self._waiting.get(request_id)
                if future is not None and not future.done():
                    future.set_result(packet)
            case CallRequest():
                self._answer_soon(packet)

    def _answer_soon(self, request: CallRequest) -> None:
        if len(self._answering) >= MAX_CALLS_AT_ONCE:
            self._send(_failure(request, SERVICE_FAILURE, "too many calls at once"))
            return
        task = asyncio.get_running_loop().create_task(self._answer(request))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, request: CallRequest) -> None:
        method = request.address.rpartition("/")[2]
        try:
            answer = await self._handler(method, request.data)
            if isinstance(answer, StreamedReply):
                async for part in answer.parts:
                    await self._reply(CallReply(request.request_id, partial=True, data=part))
                answer = b""
            if not request.no_reply:
                await self._reply(CallReply(request.request_id, data=answer))
        except CallRefused as error:
            self._send(_failure(request, BAD_REQUEST, str(error)))
        except PacketError as error:
            self._send(_failure(request, SERVICE_FAILURE, str(error)))
        except OSError:
            pass  # the connection has ended, which `_listen` sees too
        except Exception as error:
            _log.exception("%s failed", request.address)
            self._send(_failure(request, SERVICE_FAILURE, repr(error)))

    async def _reply(self, reply: CallReply) -> None:
        self._send(reply)
        await self._writer.drain()


def _failure(request: CallRequest, code: int, text: str) -> CallReply:
    return CallReply(request.request_id, code, data=text.encode())
