"""What liars see of each other's and of honest work, round by round."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field

from requestor.attacks.vectors import Float32

PATIENCE_SECONDS = 30.0
"""A liar that still waits for honest work then answers with what it has seen."""


@dataclass
class Cohort:
    """The work of a market's providers, by round and client."""

    clients: int
    _honest: dict[int, dict[int, Float32]] = field(default_factory=lambda: defaultdict(dict))
    _lying: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def taken_by_liar(self, number: int, client: int) -> int:
        """Note that a liar has the item of `client` in round `number`; which it is of the lies."""
        self._lying[number].add(client)
        self._tell()
        return sorted(self._lying[number]).index(client)

    def done(self, number: int, client: int, update: Float32) -> None:
        """Note the honest update `float32[P]` of a client."""
        self._honest[number][client] = update
        self._lying[number].discard(client)
        for old in [known for known in self._honest if known < number - 1]:
            del self._honest[old]
        self._tell()

    def lies(self, number: int) -> int:
        """How many items of a round liars have."""
        return len(self._lying[number])

    async def honest(self, number: int, patience: float = PATIENCE_SECONDS) -> list[Float32]:
        """Wait until all items of a round that no liar has are done; their updates by client."""
        try:
            async with asyncio.timeout(patience):
                while len(self._honest[number]) + self.lies(number) < self.clients:
                    await self._news.wait()
        except TimeoutError:
            pass
        return [update for _, update in sorted(self._honest[number].items())]

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
