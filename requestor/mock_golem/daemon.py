"""The daemon: fleet, books and REST put together, started, restarted and stopped."""

import asyncio
import hmac
import logging
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from requestor.mock_golem.activity import ActivityApi
from requestor.mock_golem.allocations import AllocationsApi
from requestor.mock_golem.answers import Refusal, TextRefusal, has_gone, json_answer
from requestor.mock_golem.balance import BalanceApi
from requestor.mock_golem.books import Books, end_lost_activities
from requestor.mock_golem.clock import Clock, SystemClock
from requestor.mock_golem.faults import DaemonRestart, FaultSchedule, WrongKey
from requestor.mock_golem.fleet import Fleet
from requestor.mock_golem.gftp import GftpStore, write_launcher
from requestor.mock_golem.identifiers import node_id
from requestor.mock_golem.images.library import ImageLibrary
from requestor.mock_golem.images.registry import RegistryApi, fleet_registry
from requestor.mock_golem.journal import Journal
from requestor.mock_golem.market import MarketApi
from requestor.mock_golem.negotiation import DemandBoard
from requestor.mock_golem.net import NetApi
from requestor.mock_golem.payment import PaymentApi
from requestor.mock_golem.provider import Provider
from requestor.mock_golem.records import Agreement, Record
from requestor.mock_golem.surroundings import (
    ExeUnitLauncher,
    RefusalListener,
    Surroundings,
    TaskSet,
    check_runtime,
    command_environment,
    exe_unit_launcher,
    log_refusal,
)
from requestor.mock_golem.virtual_network import VirtualNetworks
from requestor.mock_golem.wire_log import WireLog

HOST = "127.0.0.1"
VERSION = "0.17.6"
MAX_BODY_BYTES = 4 << 20
_GRACE_SECONDS = 0.02  # 0 would mean "without limit"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DaemonSettings:
    """What a daemon is started with.

    `port` 0 takes a free one; `app_key` None makes one up; `state_directory` None keeps the books
    in a temporary folder that is removed at the end; `launch` None runs real exe-units;
    `refused` is called with a provider's name and its reason whenever it refuses a demand's terms.
    """

    fleet: Fleet
    port: int = 0
    app_key: str | None = None
    state_directory: Path | None = None
    wire_log: Path | None = None
    clock: Clock = field(default_factory=SystemClock)
    launch: ExeUnitLauncher | None = None
    refused: RefusalListener | None = None


@dataclass(frozen=True)
class DaemonAddress:
    """Where a running daemon is found; `gftp_directory` belongs at the front of PATH.

    `registry_url` is where its image registry is.
    """

    url: str
    app_key: str
    gftp_directory: Path
    identity: str
    registry_url: str


class MockDaemon:
    """A Golem daemon with simulated providers.

    Use `start` and `stop`, in one event loop. Nothing it started is left after `stop`.
    """

    def __init__(self, settings: DaemonSettings) -> None:
        self._settings = settings
        self._app_key = settings.app_key or secrets.token_hex(16)
        self._port = settings.port
        self._tasks = TaskSet()
        self._requests = 0
        self._temporary: Path | None = None
        self._journal: Journal | None = None
        self._wire_log: WireLog | None = None
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._providers: dict[str, Provider] = {}
        self._faults = FaultSchedule(settings.fleet.daemon_faults, settings.fleet.seed, "daemon")
        self._virtual = VirtualNetworks()
        self._net = NetApi(self._virtual, self._providers)
        self._board = DemandBoard(
            settings.clock, lambda counter: self._providers[counter.provider_id].countered(counter)
        )
        self._around: Surroundings
        self._library: ImageLibrary | None = None

    @property
    def books(self) -> Books:
        """The daemon's books, once it is started."""
        return self._around.books

    @property
    def providers(self) -> Mapping[str, Provider]:
        """The providers at work, by node id."""
        return self._providers

    async def start(self) -> DaemonAddress:
        """Open the books, put the providers to work and listen.

        Raises:
            JournalError: the state directory cannot be used.
            IsolationError: the fleet's activities cannot run on this machine.
            OSError: the port is taken, or a file cannot be written.
        """
        try:
            return await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End all activities and their processes, cut connections, close the books."""
        await self._tasks.cancel_all()
        await self._cut_connections()
        await asyncio.gather(*(provider.stop() for provider in self._providers.values()))
        if self._library is not None:
            await self._library.close()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._journal is not None:
            self._journal.close()
        if self._wire_log is not None:
            self._wire_log.close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
        self._providers.clear()
        self._site = self._runner = self._journal = self._wire_log = self._temporary = None
        self._library = None

    async def _start(self) -> DaemonAddress:
        settings = self._settings
        await check_runtime(settings.fleet)
        work = settings.state_directory
        if work is None:
            work = self._temporary = Path(tempfile.mkdtemp(prefix="mock-golem-"))
        self._journal = Journal(work)
        work = work.resolve()
        if settings.wire_log is not None:
            self._wire_log = WireLog(settings.wire_log, settings.clock)
        books = Books(settings.clock, self._journal, self._heard)
        books.restore()
        end_lost_activities(books)
        shutil.rmtree(work / "activities", ignore_errors=True)
        store = GftpStore(work / "gftp" / "store")
        store.directory.mkdir(parents=True, exist_ok=True)
        store.remove_dead_servers()
        self._around = self._surroundings(books, store, work)
        gftp_directory = work / "gftp" / "bin"
        write_launcher(gftp_directory, store.directory, self._around.requestor_id)
        for model in settings.fleet.expanded():
            provider = Provider(model, self._around)
            self._providers[provider.node_id] = provider
        self._runner = web.AppRunner(
            self._application(), access_log=None, shutdown_timeout=_GRACE_SECONDS
        )
        await self._runner.setup()
        await self._listen()
        for provider in self._providers.values():
            provider.resume()
        self._schedule_restarts()
        return DaemonAddress(
            url=f"http://{HOST}:{self._port}",
            app_key=self._app_key,
            gftp_directory=gftp_directory,
            identity=self._around.requestor_id,
            registry_url=f"http://{HOST}:{self._port}",
        )

    def _heard(self, before: Record | None, record: Record) -> None:
        """Have a provider offered again to the demand of an agreement that has ended."""
        if not (isinstance(before, Agreement) and isinstance(record, Agreement)):
            return
        if before.state == "Approved" and record.state == "Terminated":
            self._board.offer_again(str(record.demand["demandId"]), record.provider_id)

    def _surroundings(self, books: Books, store: GftpStore, work: Path) -> Surroundings:
        fleet = self._settings.fleet
        self._library = ImageLibrary(work / "images")
        launch = exe_unit_launcher(store, self._settings.clock, self._virtual, self._library)
        return Surroundings(
            fleet=fleet,
            clock=self._settings.clock,
            books=books,
            market=self._board,
            requestor_id=node_id(fleet.seed, "requestor"),
            launch=self._settings.launch or launch,
            refused=self._settings.refused or log_refusal,
            activities_directory=work / "activities",
            command_environment=command_environment(fleet),
        )

    def _application(self) -> web.Application:
        @web.middleware
        async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._handle(request, handler)

        app = web.Application(middlewares=[handle], client_max_size=MAX_BODY_BYTES)
        app.add_routes([web.get("/me", self._me), web.get("/version/get", self._version)])
        for api in (
            MarketApi(self._around, self._board, self._providers, self._faults),
            ActivityApi(self._around, self._providers),
            AllocationsApi(self._around, self._faults),
            BalanceApi(self._around),
            PaymentApi(self._around),
            self._net,
            fleet_registry(self._around.fleet),
        ):
            app.add_routes(api.routes())
        return app

    async def _listen(self) -> None:
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, HOST, self._port, reuse_address=True)
        await self._site.start()
        address = self._runner.addresses[0]
        self._port = address[1]

    # ------------------------------------------------------------------ requests

    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Log, count and answer one request; every refusal becomes an answer here."""
        started = None if self._wire_log is None else self._wire_log.start()
        response: web.StreamResponse | None = None
        try:
            fault = self._count_request()
            response = await self._answer(request, handler)
            if fault is not None:
                response = None
                self._tasks.spawn(self._restart(fault))
                await asyncio.Event().wait()  # until the restart cuts this connection
            assert response is not None
            return response
        finally:
            if self._wire_log is not None and started is not None:
                if has_gone(request):
                    response = None  # nobody hears it
                await self._wire_log.record(started, request, response)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._check_key(request)
            return await handler(request)
        except Refusal as refusal:
            return refusal.response()
        except web.HTTPMethodNotAllowed:
            return web.Response(status=404)  # yagna knows no such route
        except web.HTTPException as error:  # unknown route, body too large
            return web.Response(status=error.status)
        except Exception as error:
            _log.exception("%s %s failed", request.method, request.path)
            return json_answer({"message": f"mock-golem failed: {error!r}"}, 500)

    def _check_key(self, request: web.Request) -> None:
        if request.path == "/version/get" or RegistryApi.serves(request.path):
            return
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if not scheme:  # who cannot set headers, such as a browser's websocket
            scheme, key = "bearer", request.query.get("authToken", "")
        if scheme.lower() != "bearer" or not key:
            raise TextRefusal(401, "Missing application key")
        right = hmac.compare_digest(key.strip().encode(), self._app_key.encode())
        if not right or self._faults.fires(WrongKey) is not None:
            raise TextRefusal(401, "Invalid application key")

    async def _me(self, request: web.Request) -> web.Response:
        shown = {
            "identity": self._around.requestor_id,
            "name": "mock-golem",
            "role": "manager",
        }
        return json_answer(shown)

    async def _version(self, request: web.Request) -> web.Response:
        current = {
            "version": VERSION,
            "name": "mock-golem",
            "seen": True,
            "releaseTs": "2026-03-13T00:00:00",
            "insertionTs": "2026-03-13T00:00:00",
            "updateTs": "2026-03-13T00:00:00",
        }
        return json_answer({"current": current, "pending": None})

    # ------------------------------------------------------------------ restarts

    def _schedule_restarts(self) -> None:
        for fault in self._faults.configured(DaemonRestart):
            if fault.after_seconds is not None:
                self._tasks.spawn(self._restart_by_time(fault, fault.after_seconds))

    async def _restart_by_time(self, fault: DaemonRestart, interval_seconds: float) -> None:
        restarts = 0
        while fault.times is None or restarts < fault.times:
            await self._settings.clock.sleep(interval_seconds)
            if self._fires(fault):
                restarts += 1
                await self._restart(fault)

    def _count_request(self) -> DaemonRestart | None:
        """Return the restart that this request sets off, if any."""
        self._requests += 1
        for fault in self._faults.configured(DaemonRestart):
            every = fault.after_requests
            if every is not None and self._requests % every == 0 and self._fires(fault):
                return fault
        return None

    def _fires(self, fault: DaemonRestart) -> bool:
        return self._faults.fires(DaemonRestart, lambda one: one is fault) is not None

    async def _restart(self, fault: DaemonRestart) -> None:
        """Be away for a while, and know afterwards only what the journal says."""
        _log.warning("restarting: away for %g s", fault.down_seconds)
        await self._cut_connections()
        self._board.forget_all()
        await self._net.forget_all()
        await self._settings.clock.sleep(fault.down_seconds)
        self._around.books.restore()
        await self._listen()

    async def _cut_connections(self) -> None:
        if self._site is not None:
            await self._site.stop()
            self._site = None
        if self._runner is not None and self._runner.server is not None:
            await self._runner.server.shutdown(_GRACE_SECONDS)
