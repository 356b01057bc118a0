"""A door in front of the daemon that writes down every request and answer."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping

import aiohttp
from aiohttp import web

from requestor.mock_golem.testnet.daemon_process import bound_socket
from requestor.mock_golem.wire_log import WireLog

MAX_BODY_BYTES = 64 << 20
_BLOCK_BYTES = 1 << 16
_GRACE_SECONDS = 0.02
# they speak of one connection, and ours to the daemon is another
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "content-length", "host"}

_log = logging.getLogger(__name__)


class WireProxy:
    """Passes requests on to `upstream` and records them. Use `start` and `stop`, in one event loop.

    Args:
        upstream: the daemon's URL.
        port: where to listen on loopback; 0 takes a free one.
        wire_log: takes the lines; it stays open.
    """

    def __init__(self, upstream: str, port: int, wire_log: WireLog) -> None:
        self._upstream = upstream
        self._wire_log = wire_log
        self._port = bound_socket(port)
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._site: web.BaseSite | None = None

    @property
    def url(self) -> str:
        """Where it is reached."""
        host, port = self._port.getsockname()
        return f"http://{host}:{port}"

    async def start(self) -> None:
        """Get ready, and listen."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None),
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=False,
        )
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.add_routes([web.route("*", "/{path:.*}", self._handle)])
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=_GRACE_SECONDS, handler_cancellation=True
        )
        await self._runner.setup()
        await self.open()

    async def open(self) -> None:
        """Let connections in."""
        if self._site is None and self._runner is not None:
            self._site = web.SockSite(self._runner, bound_socket(self._port.getsockname()[1]))
            await self._site.start()

    async def close(self) -> None:
        """Refuse connections, and cut those that there are."""
        site, self._site = self._site, None
        if site is not None:
            await site.stop()
        if self._runner is not None and self._runner.server is not None:
            await self._runner.server.shutdown(_GRACE_SECONDS)

    async def stop(self) -> None:
        """Close everything."""
        await self.close()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()
        self._port.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        started = self._wire_log.start()
        response: web.StreamResponse | None = None
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                # whoever hangs up cancels us, and that is how it usually ends
                response = near = web.WebSocketResponse()
                await self._carry_socket(request, near)
            else:
                response = await self._pass_on(request)
            return response
        except (aiohttp.ClientError, ConnectionError) as error:
            _log.debug("%s %s: %s", request.method, request.path, error)
            response = None
            if request.transport is not None:
                request.transport.abort()  # as if the daemon's own connection had broken
            raise asyncio.CancelledError from error
        finally:
            await self._wire_log.record(started, request, response)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        async with self._session.request(
            request.method,
            self._upstream + request.raw_path,
            data=await request.read() if request.body_exists else None,
            headers=_end_to_end(request.headers),
            allow_redirects=False,
        ) as answer:
            headers = _end_to_end(answer.headers)
            if answer.content_type != "text/event-stream":
                return web.Response(
                    status=answer.status, headers=headers, body=await answer.read()
                )
            stream = web.StreamResponse(status=answer.status, headers=headers)
            await stream.prepare(request)
            async for block in answer.content.iter_chunked(_BLOCK_BYTES):
                await stream.write(block)
            await stream.write_eof()
            return stream

    async def _carry_socket(self, request: web.Request, near: web.WebSocketResponse) -> None:
        assert self._session is not None
        headers = [
            (name, value)
            for name, value in _end_to_end(request.headers)
            if not name.lower().startswith("sec-websocket")
        ]
        async with self._session.ws_connect(
            self._upstream + request.raw_path, headers=headers
        ) as far:
            await near.prepare(request)
            ways = [asyncio.ensure_future(way) for way in (_copy(near, far), _copy(far, near))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                with contextlib.suppress(ConnectionError):
                    await near.close()


_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _copy(source: _Socket, target: _Socket) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.BINARY:
            await target.send_bytes(message.data)
        elif message.type is aiohttp.WSMsgType.TEXT:
            await target.send_str(message.data)


def _end_to_end(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP]
