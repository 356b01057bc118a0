"""The image registry alone, without a daemon."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.typedefs import Handler

from requestor.mock_golem.answers import Refusal
from requestor.mock_golem.images.registry import RegistryApi

HOST = "127.0.0.1"
_GRACE_SECONDS = 0.5
_log = logging.getLogger(__name__)


class RegistryServer:
    """An image registry on loopback. Use `start` and `stop`, in one event loop.

    Args:
        api: what it answers.
        port: 0 takes a free one.
    """

    def __init__(self, api: RegistryApi, port: int = 0) -> None:
        self._api = api
        self._port = port
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen; return the URL.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application(middlewares=[_answer])
        app.add_routes(self._api.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE_SECONDS)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self._port).start()
        return f"http://{HOST}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Cut connections and close the port."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


@web.middleware
async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        return refusal.response()
    except web.HTTPException as error:
        return web.Response(status=error.status)
    except Exception as error:
        _log.exception("%s %s failed", request.method, request.path)
        return web.Response(status=500, text=f"mock-golem failed: {error!r}")
