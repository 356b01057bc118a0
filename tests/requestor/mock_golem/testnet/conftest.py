"""Stand-ins for a real daemon: its service bus and the provider's side of its REST."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiohttp import web

from requestor.mock_golem.testnet.packets import (
    CallReply,
    CallRequest,
    Hello,
    Packet,
    PacketReader,
    RegisterReply,
    RegisterRequest,
    encode,
)
from requestor.mock_golem.testnet.values import dump, load

PATIENCE_SECONDS = 30.0


class Changes:
    """Lets tests wait until something holds, looked at whenever something has happened."""

    def __init__(self) -> None:
        self._happened = asyncio.Event()

    def happened(self) -> None:
        """Have everybody look again."""
        self._happened.set()
        self._happened = asyncio.Event()

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Return the first true value of `condition`."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (found := condition()):
                await self._happened.wait()
            return found


class BusStandIn:
    """A service bus that does what a test tells it."""

    def __init__(self, address: Path) -> None:
        self.address = address
        self.changes = Changes()
        self.heard: list[Packet] = []
        self.services: dict[str, asyncio.StreamWriter] = {}
        self.register_code = 0
        self.answer: Callable[[CallRequest], list[CallReply]] = lambda call: [
            CallReply(call.request_id, data=dump({"Ok": None}))
        ]
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, self.address)

    async def stop(self) -> None:
        """Go away: nobody listens, connections are cut, what was registered is forgotten."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self.address.unlink(missing_ok=True)
        self.cut()

    def cut(self) -> None:
        """Cut all connections."""
        for writer in list(self._writers):
            writer.transport.abort()

    def send(self, service: str, packet: Packet | bytes) -> None:
        """Send something to whoever registered a service."""
        data = packet if isinstance(packet, bytes) else encode(packet)
        self.services[service].write(data)

    async def call(self, address: str, value: Any, request_id: str = "r1") -> list[CallReply]:
        """Call a registered service; return its replies, the last of which is full."""
        await self.call_raw(address, dump(value), request_id)
        replies = self._replies(request_id)
        await self.changes.until(lambda: replies() and not replies()[-1].partial)
        return replies()

    async def call_raw(self, address: str, data: bytes, request_id: str) -> None:
        """Send a call to a registered service."""
        service = address.rpartition("/")[0]
        await self.changes.until(lambda: service in self.services)
        self.send(service, CallRequest("0xrequestor", address, request_id, data))

    def calls(self, method: str) -> list[Any]:
        """Return the values of all calls of a method that were heard."""
        return [
            load(packet.data)
            for packet in self.heard
            if isinstance(packet, CallRequest) and packet.address.endswith(f"/{method}")
        ]

    def _replies(self, request_id: str) -> Callable[[], list[CallReply]]:
        def found() -> list[CallReply]:
            replies = [packet for packet in self.heard if isinstance(packet, CallReply)]
            return [reply for reply in replies if reply.request_id == request_id]

        return found

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        packets = PacketReader()
        try:
            writer.write(encode(Hello("stand-in", "1", bytes(16))))
            while data := await reader.read(1 << 16):
                for packet in packets.feed(data):
                    self._take(packet, writer)
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            for service in [name for name, one in self.services.items() if one is writer]:
                del self.services[service]
            writer.close()
            self.changes.happened()

    def _take(self, packet: Packet, writer: asyncio.StreamWriter) -> None:
        self.heard.append(packet)
        if isinstance(packet, RegisterRequest):
            if self.register_code == 0:
                self.services[packet.service_id] = writer
            writer.write(encode(RegisterReply(self.register_code, "as told")))
        elif isinstance(packet, CallRequest):
            for reply in self.answer(packet):
                writer.write(encode(reply))
        self.changes.happened()


class RestStandIn:
    """The provider's side of a daemon's REST: notes all calls, hands out events as told."""

    def __init__(self) -> None:
        self.changes = Changes()
        self.calls: list[tuple[str, str, Any]] = []
        self.queries: list[dict[str, str]] = []
        self.statuses: dict[str, list[int]] = defaultdict(list)
        self.answers: dict[str, Any] = {}
        self.url = ""
        self._events: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._offers = 0
        self._bills = 0
        self._port = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen, on the same port as before."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Go away, cutting all connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def tell(self, feed: str, event: dict[str, Any]) -> None:
        """Put an event into a feed: `offers`, `events` (of activities), `agreementEvents`, …"""
        self._events[feed].append(event)
        self.changes.happened()

    def called(self, method: str, end: str) -> list[Any]:
        """Return the bodies of all calls of this method whose path ends so."""
        return [
            body for verb, path, body in self.calls if verb == method and path.endswith(end)
        ]

    async def wait_call(self, method: str, end: str, count: int = 1) -> Any:
        """Return the body of the `count`-th call of this kind once it has come."""
        await self.changes.until(lambda: len(self.called(method, end)) >= count)
        return self.called(method, end)[count - 1]

    async def _handle(self, request: web.Request) -> web.Response:
        path, text = request.path, await request.text()
        body = json.loads(text) if text else None
        self.calls.append((request.method, path, body))
        self.queries.append(dict(request.query))
        self.changes.happened()
        for end, statuses in self.statuses.items():
            if path.endswith(end) and statuses:
                status = statuses.pop(0)
                if status >= 400:
                    return web.json_response({"message": "as told"}, status=status)
        if request.method == "GET" and "timeout" in request.query:
            return web.json_response(await self._poll(path))
        if request.method == "POST" and path.endswith("/offers"):
            self._offers += 1
            return web.json_response(f"offer{self._offers}", status=201)
        if request.method == "POST" and path.endswith(("/debitNotes", "/invoices")):
            self._bills += 1
            name = "debitNoteId" if path.endswith("/debitNotes") else "invoiceId"
            return web.json_response({name: f"bill{self._bills}"}, status=201)
        for end, answer in self.answers.items():
            if path.endswith(end):
                return web.json_response(answer)
        return web.json_response([] if request.method == "GET" else None)

    async def _poll(self, path: str) -> list[dict[str, Any]]:
        feed = "offers" if "/offers/" in path else path.rpartition("/")[2]
        await self.changes.until(lambda: self._events[feed])
        events, self._events[feed] = self._events[feed], []
        return events


@pytest_asyncio.fixture
async def bus(tmp_path: Path) -> AsyncIterator[BusStandIn]:
    """A service bus."""
    stand_in = BusStandIn(tmp_path / "gsb.sock")
    await stand_in.start()
    yield stand_in
    await stand_in.stop()


@pytest_asyncio.fixture
async def rest() -> AsyncIterator[RestStandIn]:
    """A daemon's REST."""
    stand_in = RestStandIn()
    await stand_in.start()
    yield stand_in
    await stand_in.stop()
