"""An image at work: an activity that runs in its own root, as a provider would run it.

The activity has no network and sees nothing of this machine; see `requestor.mock_golem.exe_unit`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gvmi.variants import WORK_VOLUME
from gvmi.verification.deviations import shown
from gvmi.verification.report import Timings
from gvmi.verification.rounds import MAX_BUNDLE_BYTES, RoundFailed
from provider_image.wire import Order, encode_order
from requestor.mock_golem.exe_unit import CommandFaults, ContainerSpec, ExeUnit
from requestor.mock_golem.gftp import GftpServer, GftpStore

MEMORY_BYTES = 4 << 30
COMMAND_SECONDS = 300.0
_NODE_ID = "0x" + "d" * 40
_CAPTURE = {"stdout": {"stream": {"limit": 1 << 20}}, "stderr": {"stream": {"limit": 1 << 16}}}


class CommandFailedInside(RoundFailed):
    """A command in the image failed; the text has its last words."""


@dataclass(frozen=True)
class Ran:
    """A command that ended well: what it printed, and what it took."""

    stdout: str
    timings: Timings


class Activity:
    """A ready activity in an image; see `activity_in`."""

    def __init__(self, unit: ExeUnit, gftp: GftpServer, folder: Path) -> None:
        self._unit = unit
        self._gftp = gftp
        self._folder = folder
        self._batches = 0
        self.timings: list[Timings] = []

    async def run(self, what: str, script: str) -> Ran:
        """Run a shell script to its end, as the requestor does; `what` is its name in the report.

        Raises:
            CommandFailedInside: it failed, or took too long.
        """
        body = {"entry_point": "/bin/sh", "args": ["-c", script], "capture": _CAPTURE}
        cpu_before, before = self._unit.usage().cpu_seconds, time.monotonic()
        (result,) = await self._execute(what, {"run": body})
        wall = time.monotonic() - before
        timings = Timings(what, wall, self._unit.usage().cpu_seconds - cpu_before)
        self.timings.append(timings)
        return Ran(result["stdout"] or "", timings)

    async def execute(self, name: str, order: Order, *inputs: Path) -> Path:
        """Have the worker execute an order that reads these files; return its output.

        Raises:
            RoundFailed: it fails.
        """
        path = self._folder / name
        path.write_bytes(encode_order(order))
        for sent in (path, *inputs):
            (published,) = self._gftp.publish([os.fspath(sent)])
            await self._transfer(published["url"], f"container:{WORK_VOLUME}/{sent.name}")
        await self.run(f"the order {name.removesuffix('.json')}", f"exec derl-worker work {name}")
        output = self._folder / order.output
        received = self._gftp.receive(os.fspath(output))
        await self._transfer(f"container:{WORK_VOLUME}/{order.output}", received["url"])
        if output.stat().st_size > MAX_BUNDLE_BYTES:
            raise RoundFailed(f"{order.output} has {output.stat().st_size} bytes")
        return output

    async def peak_bytes(self) -> int | None:
        """Return the most memory that the worker ever had, as the kernel says."""
        script = (
            "read -r pid < worker.lock; while read -r name size unit; do"
            ' [ "$name" = VmHWM: ] && echo "$size"; done < "/proc/$pid/status"; true'
        )
        said = (await self.run("peak memory", script)).stdout.strip()
        self.timings.pop()  # is of no interest
        return int(said) * 1024 if said.isascii() and said.isdigit() and len(said) < 12 else None

    async def _transfer(self, source: str, target: str) -> None:
        await self._execute("transfer", {"transfer": {"from": source, "to": target}})

    async def _execute(self, what: str, *commands: dict[str, Any]) -> list[dict[str, Any]]:
        self._batches += 1
        batch = f"verify-{self._batches}"
        self._unit.execute(batch, list(commands))
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                while True:
                    results = await self._unit.results(batch, COMMAND_SECONDS)
                    if results and results[-1]["isBatchFinished"]:
                        break
        except TimeoutError as error:
            raise CommandFailedInside(f"{what}: no end in {COMMAND_SECONDS:g} s") from error
        last = results[-1]
        if last["result"] != "Ok":
            said = " ".join((last["stderr"] or last["stdout"] or "").split())[-500:]
            raise CommandFailedInside(f"{what}: {last['message']}: {shown(said, most=2000)}")
        return results


@contextlib.asynccontextmanager
async def activity_in(image: Path, folder: Path) -> AsyncIterator[Activity]:
    """Deploy and start an activity in an image; `folder` is empty scratch space.

    Raises:
        CommandFailedInside: it does not come up.
        IsolationError: this machine cannot run images.
    """
    gftp = GftpServer(folder / "gftp", _NODE_ID)
    try:
        spec = ContainerSpec(
            folder / "activity", image=image, isolation="bubblewrap", memory_bytes=MEMORY_BYTES
        )
        unit = ExeUnit(spec, GftpStore(folder / "gftp"), lambda name: CommandFaults())
        await unit.initialize()
        exchange = folder / "exchange"
        exchange.mkdir()
        activity = Activity(unit, gftp, exchange)
        try:
            before = time.monotonic()
            await activity._execute("deploy and start", {"deploy": {}}, {"start": {"args": []}})
            activity.timings.append(Timings("deploy and start", time.monotonic() - before))
            yield activity
        finally:
            await unit.terminate()
    finally:
        gftp.shutdown()
