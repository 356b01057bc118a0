"""Is the daemon there? One watcher asks; everybody whose call failed waits for its verdict.

Agreements, activities and running batches outlive the daemon's process, so that a call which
finds nobody listening is no reason to give anything up: it waits here, and is made again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, Self

from requestor.marketplace.golem.daemon.api import DaemonError

logger = logging.getLogger(__name__)

WATCH_SECONDS = 1.0
"""How often the daemon is asked while nothing seems wrong."""

AWAY_PROBE_SECONDS = 0.2
SILENT_SECONDS = 10.0
"""A daemon that takes calls without answering them may just be busy; after this it is away."""

SETTLING_SECONDS = 15.0
"""For so long after its return the daemon finds its way back to providers: what fails may pass."""


class DaemonGone(OSError):
    """The daemon has been away for longer than the run waits for it."""


class PresenceListener(Protocol):
    """Hears of the daemon's absences."""

    def daemon_away(self, reason: str) -> None:
        """It does not answer any more."""
        ...

    def daemon_back(self, absence_seconds: float) -> None:
        """It answers again; 0 seconds if it was never seen to be away, but broke off a call."""
        ...

    def daemon_gone(self, reason: str) -> None:
        """It has been away for too long; this is the last that is heard."""
        ...


class DaemonPresence:
    """Watches the daemon while the context is entered."""

    def __init__(
        self,
        probe: Callable[[], Awaitable[object]],
        patience_seconds: float,
        listener: PresenceListener,
    ) -> None:
        """Ask with `probe`, which fails with `DaemonError`; wait `patience_seconds` at most."""
        self._probe = probe
        self._patience_seconds = patience_seconds
        self._listener = listener
        self._waiting: asyncio.Future[None] | None = None  # for the next question
        self._asking: list[asyncio.Future[None]] = []  # for the one under way
        self._alarm = asyncio.Event()
        self._gone: str | None = None
        self._away_since: float | None = None
        self._away_before_seconds = 0.0
        self._settled_seconds = float("-inf")
        self._returns = 0
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to watch."""
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop watching; whoever still waits is told that the daemon is gone."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        self._give_up("the session with it is over")

    @property
    def patience_seconds(self) -> float:
        """How long it may be away at a time."""
        return self._patience_seconds

    @property
    def away_seconds(self) -> float:
        """How long it has been away altogether, the present absence included."""
        if self._away_since is None:
            return self._away_before_seconds
        return self._away_before_seconds + asyncio.get_running_loop().time() - self._away_since

    @property
    def is_unsettled(self) -> bool:
        """True while it is away and shortly after: then failures are nobody's fault."""
        if self._gone is not None:
            return True
        is_doubted = self._away_since is not None or self._waiting is not None or self._asking
        return bool(is_doubted) or asyncio.get_running_loop().time() < self._settled_seconds

    @property
    def is_gone(self) -> bool:
        """True once it was away for too long."""
        return self._gone is not None

    @property
    def returns(self) -> int:
        """How often it was back after it had been away or had broken off a call."""
        return self._returns

    async def until_present(self) -> None:
        """Wait for an answer to a question that is put to the daemon after this call.

        Raises:
            DaemonGone: it has been away for too long.
        """
        if self._gone is not None:
            raise DaemonGone(self._gone)
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
        self._alarm.set()
        await asyncio.shield(self._waiting)

    async def _watch(self) -> None:
        try:
            while True:
                await self._find()
                for waiting in self._asking:
                    waiting.set_result(None)
                self._asking.clear()
                self._alarm.clear()
                if self._waiting is None:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(WATCH_SECONDS):
                            await self._alarm.wait()
        except DaemonGone as gone:
            self._give_up(str(gone))
            self._listener.daemon_gone(str(gone))
        except Exception as error:
            logger.exception("the watch over the daemon failed")
            self._give_up(f"nobody watches it any more: {error}")
            self._listener.daemon_gone(f"the watch over the daemon failed: {error}")

    async def _find(self) -> None:
        """Return as soon as the daemon answers."""
        loop = asyncio.get_running_loop()
        since = loop.time()
        reason = await self._ask()
        if reason is None:
            if self._asking:
                self._note_return(0.0)
            return
        self._away_since = since
        self._listener.daemon_away(reason)
        while reason is not None:
            if loop.time() - since >= self._patience_seconds:
                raise DaemonGone(
                    f"the daemon has been away for {loop.time() - since:.0f} s ({reason})"
                )
            await asyncio.sleep(AWAY_PROBE_SECONDS)
            reason = await self._ask()
        self._note_return(loop.time() - since)

    def _note_return(self, absence_seconds: float) -> None:
        self._away_since = None
        self._away_before_seconds += absence_seconds
        self._settled_seconds = asyncio.get_running_loop().time() + SETTLING_SECONDS
        self._returns += 1
        self._listener.daemon_back(absence_seconds)

    async def _ask(self) -> str | None:
        """Ask once; return what was wrong, None if nothing."""
        if self._waiting is not None:
            self._asking.append(self._waiting)
            self._waiting = None
        try:
            async with asyncio.timeout(SILENT_SECONDS):
                await self._probe()
        except TimeoutError:
            return f"no answer for {SILENT_SECONDS:.0f} s"
        except DaemonError as error:
            logger.debug("the daemon is away: %s", error)
            return "nobody answers" if error.is_unreachable else str(error)
        return None

    def _give_up(self, reason: str) -> None:
        self._gone = self._gone or reason
        self._away_before_seconds = self.away_seconds
        self._away_since = None
        for waiting in (*self._asking, *([self._waiting] if self._waiting else [])):
            if not waiting.done():
                waiting.set_exception(DaemonGone(self._gone))
                waiting.exception()  # read: nobody left to wait is no reason for a warning


async def wait_present(
    work: Awaitable[Any], seconds: float, away_seconds: Callable[[], float]
) -> Any:
    """Await `work` as `asyncio.wait_for` does; the daemon's absences do not count.

    Raises:
        TimeoutError: it took longer than `seconds`; it is cancelled.
    """
    task = asyncio.ensure_future(work)
    try:
        await until_done(task, seconds, away_seconds)
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        task.cancel()


async def until_done(
    task: asyncio.Future[Any], seconds: float, away_seconds: Callable[[], float]
) -> None:
    """Wait until `task` is done, at most `seconds` not counting the daemon's absences."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds - away_seconds()
    while not task.done() and (left := deadline + away_seconds() - loop.time()) > 0:
        await asyncio.wait({task}, timeout=left)
