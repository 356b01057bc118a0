"""Real activities for the tests of the exe-unit, in both isolations."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from requestor.mock_golem.exe_unit import (
    CommandFaults,
    ContainerSpec,
    ExeUnit,
    bubblewrap_problem,
)
from requestor.mock_golem.gftp import GftpServer, GftpStore

NODE_ID = "0x" + "ab" * 20
PATIENCE_SECONDS = 60.0
CAPTURE: dict[str, Any] = {"stdout": {"stream": {}}, "stderr": {"stream": {}}}


class Activity:
    """An exe-unit with everything around it that a test wants to touch."""

    def __init__(
        self, unit: ExeUnit, gftp: GftpServer, store: GftpStore, folder: Path, marker: str
    ) -> None:
        self.unit = unit
        self.gftp = gftp
        self.store = store
        self.folder = folder
        self.marker = marker
        self._batch_count = 0

    @property
    def agent(self) -> int:
        """Process id of the guest agent."""
        assert self.unit.agent_pid is not None
        return self.unit.agent_pid

    def begin(self, *commands: dict[str, Any]) -> str:
        """Start a batch; returns its id."""
        self._batch_count += 1
        batch_id = f"batch-{self._batch_count}"
        self.unit.execute(batch_id, list(commands))
        return batch_id

    async def finish(self, batch_id: str) -> list[dict[str, Any]]:
        """All results of a batch once it has ended."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                results = await self.unit.results(batch_id, PATIENCE_SECONDS)
                if results and results[-1]["isBatchFinished"]:
                    return results

    async def execute(self, *commands: dict[str, Any]) -> list[dict[str, Any]]:
        """Run a batch to its end."""
        return await self.finish(self.begin(*commands))

    async def ready(self) -> Activity:
        """Deploy and start."""
        results = await self.execute({"deploy": {}}, {"start": {"args": []}})
        assert [result["result"] for result in results] == ["Ok", "Ok"], results
        return self

    async def shell(self, script: str) -> dict[str, Any]:
        """The result of one shell command."""
        (result,) = await self.execute(shell(script))
        return result

    def publish(self, content: bytes) -> str:
        """A URL under which the content can be transferred in."""
        path = self.folder / f"published-{uuid.uuid4().hex}"
        path.write_bytes(content)
        return self.gftp.publish([os.fspath(path)])[0]["url"]

    def receive(self) -> tuple[str, Path]:
        """A URL to transfer to, and the file in which it arrives."""
        path = self.folder / "received" / uuid.uuid4().hex
        return self.gftp.receive(os.fspath(path))["url"], path

    def processes(self) -> list[int]:
        """Living processes that were started by this activity's commands."""
        return marked_processes(self.marker)


def shell(script: str, capture: dict[str, Any] | None = None) -> dict[str, Any]:
    """A `run` command for a shell script, all output captured unless told otherwise."""
    return {
        "run": {
            "entry_point": "/bin/sh",
            "args": ["-c", script],
            "capture": CAPTURE if capture is None else capture,
        }
    }


def marked_processes(marker: str) -> list[int]:
    """Living processes whose initial environment holds `MARKER=<marker>`."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if f"MARKER={marker}".encode() in Path(f"/proc/{name}/environ").read_bytes():
                found.append(int(name))
    return found


MakeActivity = Callable[..., Any]


@pytest.fixture(params=["process", "bubblewrap"])
def isolation(request: pytest.FixtureRequest) -> str:
    """Each test that uses it runs in both isolations, where the machine has both."""
    wanted: str = request.param
    problem = bubblewrap_problem() if wanted == "bubblewrap" else None
    if problem is not None:
        pytest.skip(problem)
    return wanted


@pytest.fixture
def gftp_server(tmp_path: Path) -> Iterator[GftpServer]:
    """A gftp server living in this process."""
    server = GftpServer(tmp_path / "gftp", NODE_ID)
    yield server
    server.shutdown()


@pytest_asyncio.fixture
async def make_activity(
    tmp_path: Path, isolation: str, gftp_server: GftpServer
) -> AsyncIterator[MakeActivity]:
    """Makes initialized activities; at the end nothing of them may be left."""
    made: list[Activity] = []

    async def make(
        faults: Callable[[str], CommandFaults] = lambda name: CommandFaults(), **spec: Any
    ) -> Activity:
        marker = uuid.uuid4().hex
        path = f"{os.path.dirname(sys.executable)}:/usr/bin:/bin"
        spec.setdefault("isolation", isolation)
        environment = {"PATH": path, "MARKER": marker, **spec.pop("environment", {})}
        store = GftpStore(tmp_path / "gftp")
        container = ContainerSpec(
            tmp_path / "activities" / str(len(made)), environment=environment, **spec
        )
        unit = ExeUnit(container, store, faults)
        await unit.initialize()
        activity = Activity(unit, gftp_server, store, tmp_path, marker)
        made.append(activity)
        return activity

    yield make
    for activity in made:
        await activity.unit.terminate()
        assert activity.processes() == []
    assert list((tmp_path / "activities").glob("*")) == []
