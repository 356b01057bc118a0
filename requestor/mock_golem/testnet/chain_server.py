"""The stand-in chain over HTTP, on whatever sockets it is given."""

import json
import logging
import socket
from typing import Any

from aiohttp import web

from requestor.mock_golem.testnet.chain_rpc import ChainRpc
from requestor.mock_golem.testnet.daemon_process import bound_socket

MAX_BODY_BYTES = 1 << 20
_GRACE_SECONDS = 0.02

_log = logging.getLogger(__name__)


class ChainServer:
    """Answers JSON-RPC posted to any path. Use `start` and `stop`, in one event loop."""

    def __init__(self, rpc: ChainRpc) -> None:
        self._rpc = rpc
        self._runner: web.AppRunner | None = None
        self._site: web.BaseSite | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen on our own loopback, on a free `port`."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.add_routes([web.post("/{path:.*}", self._answer)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE_SECONDS)
        await self._runner.setup()
        listener = bound_socket(0)
        self.port = listener.getsockname()[1]
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """Cut all connections and close all sockets."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = self._site = None

    async def listen(self, listener: socket.socket) -> None:
        """Answer on one more socket, which replaces the one given before."""
        assert self._runner is not None, "not started"
        if self._site is not None:
            await self._site.stop()
        self._site = web.SockSite(self._runner, listener)
        await self._site.start()

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            asked: Any = json.loads(await request.read())
        except (ValueError, RecursionError):
            return web.json_response(
                {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "parse error"}}
            )
        answer = self._rpc.answer(asked)
        _log.debug("%s -> %s", asked, answer)
        return web.json_response(answer)
