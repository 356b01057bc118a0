"""One real yagna daemon with the identities of a whole local network."""

import contextlib
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from requestor.mock_golem.testnet.chain_networks import Paces, write_driver_config
from requestor.mock_golem.testnet.confinement import can_confine, namespace_problem
from requestor.mock_golem.testnet.daemon_process import (
    ChainListenerConsumer,
    DaemonCommand,
    DaemonError,
    DaemonProcess,
    bound_socket,
    log_tail,
)
from requestor.mock_golem.testnet.environment import (
    LOOPBACK,
    YagnaAddresses,
    chain_endpoints,
    yagna_environment,
)
from requestor.mock_golem.testnet.identities import (
    Identity,
    IdentityBook,
    IdentityError,
    IdentityMaker,
)

_CONFINED_REST_PORT = 7465  # nobody else is there, so that any port does
_CONFINED_CHAIN_PORT = 8545
_REQUESTOR = "requestor"
_BUS_PREFIX = "mock-golem-bus-"
_MAX_FOLDER_BYTES = 70  # a socket's path has at most 107

_log = logging.getLogger(__name__)

__all__ = ["Identity", "Yagna", "YagnaError", "YagnaSettings", "find_yagna"]


class YagnaError(Exception):
    """The real daemon cannot be had or does not start; the message names the fix."""


@dataclass(frozen=True)
class YagnaSettings:
    """What a daemon is started with.

    `directory` keeps all it must remember; `providers` are the names of the provider identities;
    `port` 0 takes a free one; `app_key` None makes one up, once per directory; `network` is the
    payment network; `unconfined_chain_port` is where the chain listens on our own loopback, for
    machines on which the daemon gets no network of its own; `may_confine` False forgoes that;
    `paces`: how soon payments go out.
    """

    directory: Path
    providers: tuple[str, ...]
    binary: Path
    port: int = 0
    app_key: str | None = None
    network: str = "hoodi"
    unconfined_chain_port: int = 9
    may_confine: bool = True
    paces: Paces = field(default_factory=Paces)


def find_yagna(environment: Mapping[str, str] | None = None) -> Path:
    """Return the yagna program: `DERL_YAGNA`, else the one beside this Python, else on `PATH`.

    Raises:
        YagnaError: there is none, or the named one cannot be run.
    """
    known = os.environ if environment is None else environment
    named = known.get("DERL_YAGNA")
    if named:
        if not os.access(named, os.X_OK) or os.path.isdir(named):
            raise YagnaError(f"DERL_YAGNA={named} is no program; name yagna's or unset it")
        return Path(named)
    beside = Path(sys.executable).parent / "yagna"
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("yagna", path=known.get("PATH"))
    if found is None:
        raise YagnaError(
            "there is no real yagna here; fix: ./scripts/setup dev in a clone of DeRL (or "
            "pip install golem-node==0.17.6; Linux on x86-64), or name one: "
            "DERL_YAGNA=/path/to/yagna"
        )
    return Path(found)


class Yagna:
    """A real daemon, its identities and its doors: REST at `url`, the service bus at `bus_address`.

    It cannot reach anything but loopback. Use `start` and `stop`, in one event loop; `kill` and
    `start_again` are for those who want to see what its death does. If our process dies in
    whatever way, it dies too.
    """

    def __init__(
        self, settings: YagnaSettings, on_chain: ChainListenerConsumer | None = None
    ) -> None:
        self._settings = settings
        self._on_chain = on_chain or _close_chain
        self._port: socket.socket | None = None
        self._bus_directory: Path | None = None
        self._process: DaemonProcess | None = None
        self._book: IdentityBook
        self._app_key = ""
        self._is_confined = False
        self.url = ""
        self.requestor: Identity
        self.providers: Mapping[str, Identity] = {}

    @property
    def bus_address(self) -> Path:
        """The unix socket of the service bus."""
        assert self._bus_directory is not None, "not started"
        return self._bus_directory / "gsb.sock"

    @property
    def pid(self) -> int:
        """The daemon's process id; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def is_running(self) -> bool:
        """Whether the daemon was last heard of alive."""
        return self._process is not None and self._process.is_running

    @property
    def is_confined(self) -> bool:
        """Whether it runs in a network of its own."""
        return self._is_confined

    @property
    def log(self) -> Path:
        """What the daemon says."""
        return self._settings.directory / "yagna.log"

    async def start(self) -> None:
        """Start the daemon, make the identities that are missing, and return once all is there.

        Raises:
            YagnaError: it does not start, or cannot make an identity.
            OSError: the port is taken, or a file cannot be written.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the daemon and give back port and bus; its data stays."""
        if self._process is not None:
            await self._process.stop()
            self._process = None
        if self._port is not None:
            self._port.close()
            self._port = None
        if self._bus_directory is not None:
            shutil.rmtree(self._bus_directory, ignore_errors=True)
            (self._settings.directory / "bus").unlink(missing_ok=True)
            self._bus_directory = None

    async def kill(self) -> None:
        """Kill the daemon (SIGKILL); from then on its port refuses connections."""
        if self._process is not None:
            await self._process.kill()
            self._process = None

    async def start_again(self) -> None:
        """Start the daemon with the same data on the same port and bus.

        Raises:
            YagnaError: it does not start.
        """
        if self._process is not None:
            await self._process.kill()
        await self._launch()
        try:
            await self._open_account()
        except BaseException:  # without it nothing could be paid
            await self.kill()
            raise

    async def ended(self) -> None:
        """Return when the daemon ends, in whatever way."""
        if self._process is not None:
            await self._process.ended()

    async def _start(self) -> None:
        settings = self._settings
        settings.directory.mkdir(parents=True, exist_ok=True)
        (settings.directory / "data").mkdir(mode=0o700, exist_ok=True)
        try:
            self._book = IdentityBook(settings.directory / "identities.json")
        except IdentityError as error:
            raise YagnaError(str(error)) from error
        self._app_key = settings.app_key or self._book.requestor_key or secrets.token_hex(16)
        self._book.requestor_key = self._app_key
        self._is_confined = settings.may_confine and await can_confine()
        if not self._is_confined:
            _log.warning("yagna runs in the common network, on loopback: %s", _why(settings))
        self._port = bound_socket(settings.port)
        self.url = f"http://{LOOPBACK}:{self._port.getsockname()[1]}"
        self._bus_directory = self._make_bus_directory()
        await self._launch()
        if self._book.missing(settings.providers):
            await self._make_identities()
        await self._open_account()
        self._book.save()
        self.requestor = Identity(_REQUESTOR, await self._requestor_id(), self._app_key)
        self.providers = {name: self._book.providers[name] for name in settings.providers}

    def _make_bus_directory(self) -> Path:
        """A short path, for sockets' sake; one that a killed process of ours left is removed."""
        folder = tempfile.gettempdir()
        if len(os.fsencode(folder)) > _MAX_FOLDER_BYTES:
            folder = "/tmp"
        note = self._settings.directory / "bus"
        with contextlib.suppress(OSError):
            left = Path(note.read_text(encoding="utf-8"))
            if left.parent == Path(folder) and left.name.startswith(_BUS_PREFIX):
                shutil.rmtree(left, ignore_errors=True)
        made = Path(tempfile.mkdtemp(prefix=_BUS_PREFIX, dir=folder))
        note.write_text(str(made), encoding="utf-8")
        return made

    async def _make_identities(self) -> None:
        """Make what is missing, then start anew.

        An identity that is younger than the daemon counts as one of another node, which it would
        look for in a network that is not there.
        """
        settings, maker = self._settings, self._maker()
        try:
            for name in self._book.missing(settings.providers):
                self._book.providers[name] = await maker.create(name)
            await maker.pay_every(settings.paces.sendout_seconds, settings.network)
        except IdentityError as error:
            raise YagnaError(f"{error}\n{log_tail(self.log)}") from error
        assert self._process is not None
        await self._process.stop()
        await self._launch()

    async def _open_account(self) -> None:
        try:
            await self._maker().open_account(self._settings.network)
        except IdentityError as error:
            raise YagnaError(f"{error}\n{log_tail(self.log)}") from error

    def _maker(self) -> IdentityMaker:
        return IdentityMaker(self._settings.binary, self._environment())

    async def _launch(self) -> None:
        assert self._port is not None
        port = self._port.getsockname()[1]
        addresses = self._addresses()
        endpoints = chain_endpoints(self._settings.network, addresses.chain_port)
        write_driver_config(addresses.data, endpoints, self._settings.paces)
        command = DaemonCommand(
            argv=[str(self._settings.binary), "service", "run", "--disable-metrics-push"],
            environment=self._environment(),
            port=port,
            rest_port=addresses.rest_port,
            chain_port=addresses.chain_port if self._is_confined else 0,
            is_confined=self._is_confined,
        )
        self.bus_address.unlink(missing_ok=True)  # a killed daemon leaves it behind
        try:
            with self.log.open("ab") as log:
                self._process = await DaemonProcess.start(command, log, self._on_chain)
        except DaemonError as error:
            raise YagnaError(f"yagna does not start: {error}\n{log_tail(self.log)}") from error

    def _addresses(self) -> YagnaAddresses:
        assert self._port is not None
        data = self._settings.directory.resolve() / "data"
        if self._is_confined:
            return YagnaAddresses(data, self.bus_address, _CONFINED_REST_PORT, _CONFINED_CHAIN_PORT)
        port = self._port.getsockname()[1]
        return YagnaAddresses(data, self.bus_address, port, self._settings.unconfined_chain_port)

    def _environment(self) -> dict[str, str]:
        return yagna_environment(
            self._addresses(), self._app_key, self._settings.network, os.environ
        )

    async def _requestor_id(self) -> str:
        headers = {"Authorization": f"Bearer {self._app_key}"}
        timeout = aiohttp.ClientTimeout(total=10.0)
        try:
            async with (
                aiohttp.ClientSession(headers=headers, timeout=timeout) as session,
                session.get(f"{self.url}/me") as answer,
            ):
                answer.raise_for_status()
                return str((await answer.json())["identity"])
        except (aiohttp.ClientError, TimeoutError, KeyError, ValueError) as error:
            raise YagnaError(f"yagna does not say who it is: {error}") from error


def _why(settings: YagnaSettings) -> str:
    return (namespace_problem() or "unknown") if settings.may_confine else "asked for"


async def _close_chain(listener: socket.socket) -> None:
    listener.close()

