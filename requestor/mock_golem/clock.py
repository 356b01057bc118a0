"""Time, injectable: the wall clock, and one that is moved by hand."""

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What the daemon knows of time, apart from HTTP waits, which are always real."""

    def now(self) -> datetime:
        """Return the present instant, in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Return once so many seconds have passed on this clock."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the present instant, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Return after so many real seconds."""
        await asyncio.sleep(seconds)


class ManualClock:
    """A clock that stands still until `advance` moves it."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._order = itertools.count()
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """Return the instant the clock stands at."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Return once `advance` has moved the clock so far."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        deadline = self._now + timedelta(seconds=seconds)
        heapq.heappush(self._sleepers, (deadline, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Move the clock forward, waking sleepers in the order of their deadlines."""
        await _settle()
        target = self._now + timedelta(seconds=seconds)
        while self._sleepers and self._sleepers[0][0] <= target:
            deadline, _, future = heapq.heappop(self._sleepers)
            self._now = max(self._now, deadline)
            if not future.done():
                future.set_result(None)
                await _settle()
        self._now = target


async def _settle() -> None:
    """Let tasks that can run do so, until they sleep (again)."""
    for _ in range(10):
        await asyncio.sleep(0)


def rfc3339(instant: datetime) -> str:
    """Write an instant as yagna does, with microseconds and `Z`."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_instant(text: str) -> datetime:
    """Read an RFC 3339 instant; a missing offset means UTC.

    Raises:
        ValueError: the text is not an instant.
    """
    # a plus sign that a client left unescaped in a query arrives as a space
    instant = datetime.fromisoformat(text.strip().replace(" ", "+"))
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text} is beyond the calendar") from error
