"""The local network: a real daemon, a chain on which its payments settle, and our providers."""

import asyncio
import logging
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from requestor.mock_golem.clock import Clock, SystemClock
from requestor.mock_golem.daemon import DaemonAddress
from requestor.mock_golem.faults import DaemonRestart
from requestor.mock_golem.fleet import Fleet
from requestor.mock_golem.gftp import GftpStore, write_launcher
from requestor.mock_golem.images.library import ImageLibrary
from requestor.mock_golem.images.registry import fleet_registry
from requestor.mock_golem.images.registry_server import RegistryServer
from requestor.mock_golem.surroundings import RefusalListener, TaskSet, check_runtime
from requestor.mock_golem.testnet.agent import AgentSettings, ProviderAgent
from requestor.mock_golem.testnet.chain_ledger import ChainLedger
from requestor.mock_golem.testnet.chain_networks import NETWORKS, Paces
from requestor.mock_golem.testnet.chain_rpc import ChainRpc
from requestor.mock_golem.testnet.chain_server import ChainServer
from requestor.mock_golem.testnet.fault_notes import fault_notes
from requestor.mock_golem.testnet.wire_proxy import WireProxy
from requestor.mock_golem.testnet.yagna import Yagna, YagnaError, YagnaSettings, find_yagna
from requestor.mock_golem.wire_log import WireLog

GAS_FUNDS = 10 * 10**18  # 1e-18 units of the chain's currency, for thousands of payments
RESTART_SECONDS = 1.0
_UNITS_PER_GLM = 10**18

_log = logging.getLogger(__name__)

__all__ = ["Testnet", "TestnetSettings"]


@dataclass(frozen=True)
class TestnetSettings:
    """What a local network is started with.

    `port` 0 takes a free one; `app_key` None keeps the state's own, or makes one up;
    `state_directory` None keeps everything in a temporary folder that is removed at the end;
    `binary` None looks for the yagna program; `refused` is called with a provider's name and its
    reason whenever it refuses a demand's terms; `restart_seconds`: a daemon that ends by itself is
    started again after so long, None: it is not. `paces`: how soon payments go out.
    """

    __test__ = False  # the name is not pytest's

    fleet: Fleet
    port: int = 0
    app_key: str | None = None
    state_directory: Path | None = None
    wire_log: Path | None = None
    clock: Clock = field(default_factory=SystemClock)
    binary: Path | None = None
    refused: RefusalListener | None = None
    restart_seconds: float | None = RESTART_SECONDS
    may_confine: bool = True
    paces: Paces = field(default_factory=Paces)


class Testnet:
    """A local Golem network on the real yagna.

    Use `start` and `stop`, in one event loop. Nothing it started is left after `stop`, nor when
    our process dies.
    """

    __test__ = False

    def __init__(self, settings: TestnetSettings) -> None:
        self._settings = settings
        self._tasks = TaskSet()
        self._temporary: Path | None = None
        self._ledger: ChainLedger | None = None
        self._chain: ChainServer | None = None
        self._yagna: Yagna | None = None
        self._proxy: WireProxy | None = None
        self._registry = RegistryServer(fleet_registry(settings.fleet))
        self._wire_log: WireLog | None = None
        self._library: ImageLibrary | None = None
        self._agents: list[ProviderAgent] = []
        self._changing = asyncio.Lock()
        self._is_meant_to_run = False

    @property
    def yagna(self) -> Yagna:
        """The daemon, once it is started."""
        assert self._yagna is not None, "not started"
        return self._yagna

    @property
    def chain(self) -> ChainLedger:
        """The chain's books, once it is started."""
        assert self._ledger is not None, "not started"
        return self._ledger

    @property
    def agents(self) -> list[ProviderAgent]:
        """The providers at work, in the fleet's order."""
        return self._agents

    async def start(self) -> DaemonAddress:
        """Start chain, daemon and providers; return where the daemon is.

        Raises:
            YagnaError: there is no real daemon, it does not start, or the fleet does not suit it.
            IsolationError: the fleet's activities cannot run on this machine.
            JournalError: the state directory cannot be used.
            ChainError: the state directory holds another network's chain.
            OSError: the port is taken, or a file cannot be written.
        """
        try:
            return await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Let the providers say good-bye, then end the daemon and the chain."""
        self._is_meant_to_run = False
        await self._tasks.cancel_all()
        self._agents = []
        await self._registry.stop()
        if self._library is not None:
            await self._library.close()
        if self._proxy is not None:
            await self._proxy.stop()
        if self._yagna is not None:
            await self._yagna.stop()
        if self._chain is not None:
            await self._chain.stop()
        if self._ledger is not None:
            self._ledger.close()
        if self._wire_log is not None:
            self._wire_log.close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
        self._proxy = self._yagna = self._chain = self._ledger = None
        self._wire_log = self._temporary = None

    async def kill_yagna(self) -> None:
        """Kill the daemon (SIGKILL) and leave it dead; chain and providers live on."""
        async with self._changing:
            self._is_meant_to_run = False
            await self.yagna.kill()
            if self._proxy is not None:
                await self._proxy.close()

    async def start_yagna(self) -> None:
        """Start the killed daemon again, with its data, at the same address.

        Raises:
            YagnaError: it does not start.
        """
        async with self._changing:
            await self.yagna.start_again()
            if self._proxy is not None:
                await self._proxy.open()
            self._is_meant_to_run = True
        self._tasks.spawn(self._watch())

    async def _start(self) -> DaemonAddress:
        settings = self._settings
        _check(settings.fleet)
        await check_runtime(settings.fleet)
        for note in fault_notes(settings.fleet):
            _log.warning("%s", note)
        binary = settings.binary or find_yagna()
        work = settings.state_directory
        if work is None:
            work = self._temporary = Path(tempfile.mkdtemp(prefix="mock-golem-"))
        work.mkdir(parents=True, exist_ok=True)
        work = work.resolve()
        if settings.wire_log is not None:
            self._wire_log = WireLog(settings.wire_log, settings.clock)
        await self._start_chain(work)
        yagna = await self._start_yagna(work, binary)
        url = await self._start_proxy(yagna)
        store = GftpStore(work / "gftp" / "store")
        store.directory.mkdir(parents=True, exist_ok=True)
        store.remove_dead_servers()
        gftp_directory = work / "gftp" / "bin"
        write_launcher(gftp_directory, store.directory, yagna.requestor.node_id)
        self._library = ImageLibrary(work / "images")
        self._start_agents(yagna, work / "providers", store)
        self._is_meant_to_run = True
        self._tasks.spawn(self._watch())
        self._schedule_restarts()
        return DaemonAddress(
            url=url,
            app_key=yagna.requestor.app_key,
            gftp_directory=gftp_directory,
            identity=yagna.requestor.node_id,
            registry_url=await self._registry.start(),
        )

    async def _start_chain(self, work: Path) -> None:
        network = NETWORKS[self._settings.fleet.payment.network]
        clock = self._settings.clock
        self._ledger = ChainLedger(network, work / "chain", lambda: clock.now().timestamp())
        self._chain = ChainServer(ChainRpc(self._ledger))
        await self._chain.start()

    async def _start_yagna(self, work: Path, binary: Path) -> Yagna:
        settings = self._settings
        assert self._chain is not None and self._ledger is not None
        yagna_settings = YagnaSettings(
            directory=work / "yagna",
            providers=tuple(model.name for model in settings.fleet.expanded()),
            binary=binary,
            port=settings.port if self._wire_log is None else 0,
            app_key=settings.app_key,
            network=settings.fleet.payment.network,
            unconfined_chain_port=self._chain.port,
            may_confine=settings.may_confine,
            paces=settings.paces,
        )
        self._yagna = yagna = Yagna(yagna_settings, self._chain.listen)
        await yagna.start()
        funds = int(settings.fleet.requestor.funds_glm * _UNITS_PER_GLM)
        self._ledger.fund(yagna.requestor.node_id.lower(), funds, GAS_FUNDS)
        return yagna

    async def _start_proxy(self, yagna: Yagna) -> str:
        if self._wire_log is None:
            return yagna.url
        self._proxy = WireProxy(yagna.url, self._settings.port, self._wire_log)
        await self._proxy.start()
        return self._proxy.url

    def _start_agents(self, yagna: Yagna, directory: Path, store: GftpStore) -> None:
        settings = self._settings
        shared = AgentSettings(
            url=yagna.url,
            bus_address=yagna.bus_address,
            fleet=settings.fleet,
            directory=directory,
            store=store,
            clock=settings.clock,
            refused=settings.refused,
            library=self._library,
        )
        for model in settings.fleet.expanded():
            agent = ProviderAgent(yagna.providers[model.name], model, shared)
            self._agents.append(agent)
            self._tasks.spawn(agent.run())

    # ------------------------------------------------------------------ restarts

    async def _watch(self) -> None:
        """Start the daemon again if it ends and nobody meant it to."""
        while True:
            await self.yagna.ended()
            async with self._changing:
                if not self._is_meant_to_run:
                    return
                if not self.yagna.is_running:
                    await self._come_back(self._settings.restart_seconds)

    async def _come_back(self, down_seconds: float | None) -> None:
        if self._proxy is not None:
            await self._proxy.close()
        if down_seconds is None:
            self._is_meant_to_run = False
            return
        _log.warning("yagna ended; starting it again in %g s", down_seconds)
        await self._settings.clock.sleep(down_seconds)
        try:
            await self.yagna.start_again()
        except YagnaError as error:
            _log.error("%s", error)  # `_watch` tries again
            return
        if self._proxy is not None:
            await self._proxy.open()

    def _schedule_restarts(self) -> None:
        for fault in self._settings.fleet.daemon_faults:
            if isinstance(fault, DaemonRestart) and fault.after_seconds is not None:
                self._tasks.spawn(self._restart_by_time(fault, fault.after_seconds))

    async def _restart_by_time(self, fault: DaemonRestart, interval_seconds: float) -> None:
        restarts = 0
        while fault.times is None or restarts < fault.times:
            await self._settings.clock.sleep(interval_seconds)
            restarts += 1
            async with self._changing:
                if self._is_meant_to_run:
                    await self.yagna.kill()
                    await self._come_back(fault.down_seconds)


def _check(fleet: Fleet) -> None:
    """Refuse what the real daemon cannot be made to do.

    Raises:
        YagnaError: with the fix.
    """
    payment = fleet.payment
    if payment.driver != "erc20" or payment.network not in NETWORKS:
        raise YagnaError(
            f"the real daemon pays by erc20 on {', '.join(NETWORKS)}, not by {payment.driver} on "
            f"{payment.network}; fix: change `payment` in the fleet file"
        )
    for fault in fleet.daemon_faults:
        if not isinstance(fault, DaemonRestart) or fault.after_seconds is None:
            raise YagnaError(
                f"the daemon fault {fault.kind} cannot be played on the real daemon, only "
                "daemon_restart with after_seconds can; fix: take it out of the fleet's "
                "`daemon_faults`, or use `mock-golem serve`"
            )
