"""The image registry alone, without a daemon."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from requestor.mock_golem.answers import Refusal
from requestor.mock_golem.images.registry import RegistryApi
from requestor.mock_golem.images.registry_push import PushApi
from requestor.mock_golem.images.store import ImageStore

HOST = "127.0.0.1"
_GRACE_SECONDS = 0.5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RegistrySettings:
    """What a registry is started with: `accounts` are tokens by user, None lets everybody in."""

    store: Path
    port: int = 0
    accounts: Mapping[str, str] | None = None


class RegistryServer:
    """An image registry on loopback. Use `start` and `stop`, in one event loop."""

    def __init__(self, settings: RegistrySettings) -> None:
        settings.store.mkdir(parents=True, exist_ok=True)
        self.store = ImageStore(settings.store)
        self._settings = settings
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen; return the URL.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application(middlewares=[_answer])
        api = RegistryApi(store=self.store, push=PushApi(self.store, self._settings.accounts))
        app.add_routes(api.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE_SECONDS)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self._settings.port).start()
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
