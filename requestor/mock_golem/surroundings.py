"""What a simulated provider is surrounded by: time, books, market, and the means to run things."""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from requestor.mock_golem.books import Books
from requestor.mock_golem.clock import Clock
from requestor.mock_golem.exe_unit import CommandFaults, ContainerSpec, ExeUnit, Fabric
from requestor.mock_golem.exe_unit.sandbox import choose_isolation
from requestor.mock_golem.faults import FaultSchedule
from requestor.mock_golem.fleet import Fleet, ProviderModel
from requestor.mock_golem.gftp import GftpStore
from requestor.mock_golem.images.library import ImageLibrary
from requestor.mock_golem.negotiation import OfferMarket

CommandFaultsOf = Callable[[str], CommandFaults]
ExeUnitLauncher = Callable[[ContainerSpec, CommandFaultsOf], ExeUnit]
RefusalListener = Callable[[str, str], None]
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surroundings:
    """Shared by all providers of a daemon.

    `activities_directory` holds one folder per activity; `command_environment` is the whole
    environment that commands see; `refused` is told a provider's name and why it refuses terms.
    """

    fleet: Fleet
    clock: Clock
    books: Books
    market: OfferMarket
    requestor_id: str
    launch: ExeUnitLauncher
    refused: RefusalListener
    activities_directory: Path
    command_environment: dict[str, str]


def exe_unit_launcher(
    store: GftpStore,
    clock: Clock,
    fabric: Fabric | None = None,
    library: ImageLibrary | None = None,
) -> ExeUnitLauncher:
    """Return what starts real exe-units.

    Their transfers go through a `gftp` store, the packets of virtual networks through `fabric`;
    `library` has their images.
    """

    def launch(spec: ContainerSpec, faults: CommandFaultsOf) -> ExeUnit:
        return ExeUnit(spec, store, faults, now=clock.now, fabric=fabric, library=library)

    return launch


async def check_runtime(fleet: Fleet) -> None:
    """Raise `IsolationError` if this machine lacks what the fleet's activities cannot do without.

    The text names what is to be installed.
    """
    if fleet.runtime.kind == "image":
        wanted = fleet.runtime.isolation
        await asyncio.to_thread(choose_isolation, wanted, own_root=True)


def command_environment(fleet: Fleet) -> dict[str, str]:
    """Return the whole environment that a fleet's commands see."""
    path = fleet.runtime.path or f"{Path(sys.executable).parent}:{_SYSTEM_PATH}"
    return {"PATH": path, "LANG": "C.UTF-8", **fleet.runtime.environment}


def log_refusal(provider_name: str, reason: str) -> None:
    """Take note that a provider refuses terms."""
    _log.info("%s refuses: %s", provider_name, reason)


class TaskSet:
    """Background tasks of one owner; none outlives it, and no failure goes unseen."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    async def cancel_all(self) -> None:
        """Cancel what still runs and wait for its end."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a background task failed", exc_info=task.exception())


@dataclass(frozen=True)
class ProviderContext:
    """What the parts of one provider share: who it is, what it is like, where it stands."""

    node_id: str
    model: ProviderModel
    faults: FaultSchedule
    around: Surroundings
    tasks: TaskSet
