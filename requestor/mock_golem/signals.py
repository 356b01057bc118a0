"""Waiting for a change: what long polls stand on."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

_Found = TypeVar("_Found")


class Signal:
    """Wakes everybody who waits for something to have changed."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Wake all waiters; each looks again for what it waits for."""
        for future in list(self._waiting):
            if not future.done():
                future.set_result(None)

    def next_change(self) -> asyncio.Future[None]:
        """Return a future that is done at the next `notify`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future

    async def wait_for(self, look: Callable[[], _Found], seconds: float) -> _Found:
        """Return the first true result of `look`, or its last result after `seconds`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            found = look()
            remaining_seconds = deadline - loop.time()
            if found or remaining_seconds <= 0:
                return found
            future = self.next_change()
            try:
                await asyncio.wait({future}, timeout=remaining_seconds)
            finally:
                future.cancel()
