"""A daemon under its keeper: reached only while it lives, and dead as soon as we are."""

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from requestor.mock_golem.testnet.confinement import namespace_problem
from requestor.mock_golem.testnet.daemon_process import (
    DaemonCommand,
    DaemonError,
    DaemonProcess,
    bound_socket,
)

STAND_IN = Path(__file__).with_name("stand_in_daemon.py")
ROOT = Path(__file__).parents[4]
CONFINED = pytest.param(
    True,
    marks=pytest.mark.skipif(
        namespace_problem() is not None, reason=f"no network namespace: {namespace_problem()}"
    ),
)
OWNER = """
import asyncio, sys
from pathlib import Path
from tests_owner import command
from requestor.mock_golem.testnet.daemon_process import DaemonProcess

async def main():
    async def ignore(listener):
        listener.close()
    with open(sys.argv[1], "ab") as log:
        daemon = await DaemonProcess.start(command, log, ignore)
    print(daemon.pid, flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


class Kept:
    """One stand-in daemon at a time, at one port."""

    def __init__(self, folder: Path, is_confined: bool) -> None:
        self.reserved = bound_socket(0)
        self.port = self.reserved.getsockname()[1]
        self.log = folder / "log"
        self.is_confined = is_confined
        self.chain: socket.socket | None = None
        self.process: DaemonProcess | None = None

    def command(self, hold: str = "") -> DaemonCommand:
        rest_port = 7465 if self.is_confined else self.port
        return DaemonCommand(
            argv=[sys.executable, str(STAND_IN), str(rest_port), hold],
            environment={"PATH": os.environ["PATH"]},
            port=self.port,
            rest_port=rest_port,
            chain_port=8545 if self.is_confined else 0,
            is_confined=self.is_confined,
        )

    async def start(self, hold: str = "") -> DaemonProcess:
        with self.log.open("ab") as log:
            self.process = await DaemonProcess.start(self.command(hold), log, self._take_chain)
        return self.process

    async def _take_chain(self, listener: socket.socket) -> None:
        self.chain = listener

    async def get(self, path: str = "/version/get") -> str:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
        ):
            return await answer.text()

    async def close(self) -> None:
        if self.process is not None:
            await self.process.kill()
        self.reserved.close()
        if self.chain is not None:
            self.chain.close()


@pytest.fixture(params=[CONFINED, False], ids=["confined", "unconfined"])
def is_confined(request: pytest.FixtureRequest) -> bool:
    """Whether the daemon gets a network of its own."""
    return bool(request.param)


@pytest_asyncio.fixture
async def kept(tmp_path: Path, is_confined: bool) -> AsyncIterator[Kept]:
    """A place for a daemon."""
    place = Kept(tmp_path, is_confined)
    yield place
    await place.close()


@pytest.mark.asyncio
async def test_a_daemon_is_reached_while_it_lives(kept: Kept) -> None:
    with pytest.raises(aiohttp.ClientConnectorError):
        await kept.get()
    daemon = await kept.start()
    seen = await kept.get()
    assert seen == "lo" or not kept.is_confined

    waiting = asyncio.ensure_future(kept.get("/slow"))
    await asyncio.sleep(0)
    os.kill(daemon.pid, signal.SIGKILL)
    await daemon.ended()

    assert not daemon.is_running
    with pytest.raises(aiohttp.ClientConnectionError):
        await waiting
    with pytest.raises(aiohttp.ClientConnectorError):
        await kept.get()

    await kept.start()  # at the same port
    assert await kept.get() == seen


@pytest.mark.asyncio
async def test_a_daemon_that_is_stopped_ends_by_itself(kept: Kept) -> None:
    daemon = await kept.start()
    with _watched(daemon.pid) as ending:
        await daemon.stop()
        assert _has_ended(ending)
    with pytest.raises(aiohttp.ClientConnectorError):
        await kept.get()


@pytest.mark.asyncio
async def test_a_daemon_that_does_not_start(kept: Kept) -> None:
    with pytest.raises(DaemonError, match="it ended with code 1"):
        await kept.start("fails")
    assert "no database" in kept.log.read_text()
    with pytest.raises(aiohttp.ClientConnectorError):
        await kept.get()


@pytest.mark.asyncio
async def test_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        bound_socket(taken.getsockname()[1])


@pytest.mark.asyncio
async def test_the_confined_daemons_door_to_the_chain(tmp_path: Path) -> None:
    if (problem := namespace_problem()) is not None:
        pytest.skip(problem)
    kept = Kept(tmp_path, is_confined=True)
    try:
        await kept.start()
        assert kept.chain is not None
        # a socket of the daemon's network: it listens where nobody of ours does
        assert kept.chain.getsockname() == ("127.0.0.1", 8545)
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(
            ("127.0.0.1", 8545), timeout=1
        ):
            pytest.fail("the chain's port is seen outside")
    finally:
        await kept.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("victim", ["owner", "keeper"])
async def test_the_daemon_dies_with_its_owner_and_with_its_keeper(
    kept: Kept, tmp_path: Path, victim: str
) -> None:
    (tmp_path / "tests_owner.py").write_text(
        "from requestor.mock_golem.testnet.daemon_process import DaemonCommand\n"
        f"command = {kept.command()!r}\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
    )
    try:
        assert owner.stdout is not None
        pid = int(await asyncio.to_thread(owner.stdout.readline))
        with _watched(pid) as ending:
            assert not _has_ended(ending, seconds=0)
            os.kill(owner.pid if victim == "owner" else _parent(pid), signal.SIGKILL)
            assert await asyncio.to_thread(_has_ended, ending)
    finally:
        owner.kill()
        owner.wait()
        assert owner.stdout is not None
        owner.stdout.close()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextlib.contextmanager
def _watched(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _has_ended(pidfd: int, seconds: float = 20.0) -> bool:
    """Whether a process ends in time; its descriptor becomes readable then."""
    return bool(select.select([pidfd], [], [], seconds)[0])
