"""What wakes those who wait in a session: more to do, news of the round, a request to stop."""

from __future__ import annotations

import asyncio


class Bell:
    """Wakes drivers and the round; nobody waits on once the run is to stop."""

    def __init__(self, stop_requested: asyncio.Event) -> None:
        """Let `stop_requested` wake everybody, once."""
        self._stop = stop_requested
        self._bell = asyncio.Event()
        self._news = asyncio.Event()

    @property
    def is_stopping(self) -> bool:
        """True once the run is to stop."""
        return self._stop.is_set()

    def ring(self) -> None:
        """Wake all drivers and the round; those who wait next get a bell of their own."""
        self._news.set()
        self._bell.set()
        self._bell = asyncio.Event()

    def tell_round(self) -> None:
        """Wake the round alone: there is news, but nothing more to do."""
        self._news.set()

    async def wait(self, seconds: float) -> None:
        """Wait until it rings, at most `seconds`."""
        await self._wait(self._bell, seconds)

    async def wait_for_news(self, seconds: float) -> None:
        """Wait for news of the round, at most `seconds`."""
        self._news.clear()
        await self._wait(self._news, seconds)

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        events = (event,) if self.is_stopping else (event, self._stop)
        tasks = [asyncio.ensure_future(one.wait()) for one in events]
        try:
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
