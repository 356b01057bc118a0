"""The recording door: what goes through unchanged, what is written down, and when it is shut."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from requestor.mock_golem.clock import SystemClock
from requestor.mock_golem.testnet.daemon_process import bound_socket
from requestor.mock_golem.testnet.wire_proxy import WireProxy
from requestor.mock_golem.wire_log import WireLog


class Upstream:
    """A daemon of a few routes."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hung_up = asyncio.Event()
        self.runner: web.AppRunner
        self.url = ""

    async def start(self) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.post("/echo/{rest:.*}", self._echo),
                web.get("/never", self._never),
                web.get("/stream", self._stream),
                web.get("/socket", self._socket),
            ]
        )
        self.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.02)
        await self.runner.setup()
        listener = bound_socket(0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        await web.SockSite(self.runner, listener).start()

    async def _echo(self, request: web.Request) -> web.Response:
        body = {
            "path": request.raw_path,
            "key": request.headers.get("Authorization"),
            "body": await request.json(),
        }
        return web.json_response(body, status=201, headers={"X-Own": "1"})

    async def _never(self, request: web.Request) -> web.Response:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.hung_up.set()
        raise AssertionError

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"event: runtime\ndata: 1\n\n")
        await self.asked.wait()  # the first part must be there before the second is sent
        await response.write(b"event: runtime\ndata: 2\n\n")
        return response

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        async for message in response:
            await response.send_bytes(message.data[::-1])
        return response


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A running daemon."""
    daemon = Upstream()
    await daemon.start()
    yield daemon
    await daemon.runner.cleanup()


@pytest_asyncio.fixture
async def proxy(upstream: Upstream, tmp_path: Path) -> AsyncIterator[WireProxy]:
    """A door in front of it that writes to `wire.jsonl`."""
    log = WireLog(tmp_path / "wire.jsonl", SystemClock())
    door = WireProxy(upstream.url, 0, log)
    await door.start()
    yield door
    await door.stop()
    log.close()


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client."""
    async with aiohttp.ClientSession() as client:
        yield client


async def lines(folder: Path, count: int) -> list[dict[str, Any]]:
    """The wire log's lines, once there are so many."""
    async with asyncio.timeout(20):
        while True:
            found = (folder / "wire.jsonl").read_text().splitlines()
            if len(found) >= count:
                return [json.loads(line) for line in found]
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_a_call_goes_through_unchanged(
    proxy: WireProxy, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    path = "/echo/a%20b?afterTimestamp=2026-11-20T07:00:00%2B00:00&authToken=secret"
    headers = {"Authorization": "Bearer secret"}
    async with session.post(proxy.url + path, json={"x": [1]}, headers=headers) as answer:
        assert (answer.status, answer.headers["X-Own"]) == (201, "1")
        body = await answer.json()

    assert body == {"path": path, "key": "Bearer secret", "body": {"x": [1]}}
    (line,) = await lines(tmp_path, 1)
    assert (line["method"], line["path"], line["status"]) == ("POST", "/echo/a b", 201)
    assert line["body"] == {"x": [1]}
    assert line["response"]["body"] == {"x": [1]}
    assert line["query"]["authToken"] == "(hidden)"


@pytest.mark.asyncio
async def test_a_caller_that_hangs_up_is_noticed(
    proxy: WireProxy, upstream: Upstream, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    call = asyncio.ensure_future(session.get(f"{proxy.url}/never"))
    await asyncio.wait_for(upstream.asked.wait(), 20)
    call.cancel()
    await asyncio.wait_for(upstream.hung_up.wait(), 20)
    (line,) = await lines(tmp_path, 1)
    assert (line["status"], line["cut"]) == (None, True)


@pytest.mark.asyncio
async def test_events_come_one_by_one(
    proxy: WireProxy, upstream: Upstream, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with session.get(f"{proxy.url}/stream") as answer:
        assert await answer.content.readuntil(b"\n\n") == b"event: runtime\ndata: 1\n\n"
        upstream.asked.set()
        assert await answer.content.readuntil(b"\n\n") == b"event: runtime\ndata: 2\n\n"
    (line,) = await lines(tmp_path, 1)
    assert line["response"] == "(event stream)"


@pytest.mark.asyncio
async def test_a_websocket_goes_both_ways(
    proxy: WireProxy, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with session.ws_connect(f"{proxy.url}/socket") as socket:
        await socket.send_bytes(b"abc")
        assert await socket.receive_bytes(timeout=20) == b"cba"
    (line,) = await lines(tmp_path, 1)
    assert (line["path"], line["status"]) == ("/socket", 101)


@pytest.mark.asyncio
async def test_a_dead_daemon_looks_dead(
    proxy: WireProxy, upstream: Upstream, session: aiohttp.ClientSession
) -> None:
    waiting = asyncio.ensure_future(session.get(f"{proxy.url}/never"))
    await asyncio.wait_for(upstream.asked.wait(), 20)
    await upstream.runner.cleanup()
    with pytest.raises(aiohttp.ClientConnectionError):
        await asyncio.wait_for(waiting, 20)
    # it is not asked again with the daemon gone: there is nobody to carry the call to
    with pytest.raises(aiohttp.ClientConnectionError):
        await session.get(f"{proxy.url}/never")

    await proxy.close()
    with pytest.raises(aiohttp.ClientConnectorError):
        await session.get(f"{proxy.url}/never")
    await proxy.open()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await session.get(f"{proxy.url}/never")
