"""Having an item done once more by a provider whose machine makes the bits that the sender's makes.

It takes a lease that is idle and money that is left. Nobody is waited for once a round is all in
and nobody suits, and for no answer longer than it was said; a vanished witness costs one audit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from requestor.federation.rounds import WorkItem
from requestor.marketplace.ports import LeaseInfo
from requestor.training_run.dispatching.errands import ErrandDesk, Errands
from requestor.training_run.orders.deliveries import Delivery

LOOK_SECONDS = 0.5
NOBODY_SECONDS = 2.0
"""So long nobody must have been there when a round is all in: a lost lease is being replaced."""


@dataclass(frozen=True)
class Answer:
    """What a witness delivered; None if it failed. `voice` was asked; empty if nobody could be."""

    delivery: Delivery | None = None
    voice: str = ""


class Witnesses(Protocol):
    """Providers who can be asked what an order leads to."""

    def wait_less(self, is_all_in: bool) -> None:
        """Say whether a round waits for nothing but answers."""
        ...

    async def ask(
        self,
        item: WorkItem,
        desk: ErrandDesk,
        delivery: Delivery,
        *,
        barred: Collection[str],
        seconds: float,
    ) -> Answer:
        """Have somebody do `item` whose bits are those of the sender of `delivery`.

        barred: voices that must not be asked; seconds: how long an answer is worth waiting for.
        """
        ...


class NoWitnesses:
    """Nobody is asked."""

    def wait_less(self, is_all_in: bool) -> None:
        """Wait for nobody."""

    async def ask(
        self,
        item: WorkItem,
        desk: ErrandDesk,
        delivery: Delivery,
        *,
        barred: Collection[str],
        seconds: float,
    ) -> Answer:
        """Ask nobody."""
        return Answer()


class ProviderWitnesses:
    """Asks whichever suiting lease of a run is idle first."""

    def __init__(
        self, errands: Errands, has_bits_of: Callable[[LeaseInfo, Delivery], bool]
    ) -> None:
        """Use `errands`; `has_bits_of` tells whether a lease's machine is like a sender's."""
        self._errands = errands
        self._has_bits_of = has_bits_of
        self._is_all_in = False

    def wait_less(self, is_all_in: bool) -> None:
        """Say whether a round waits for nothing but answers; see `Witnesses`."""
        self._is_all_in = is_all_in

    async def ask(
        self,
        item: WorkItem,
        desk: ErrandDesk,
        delivery: Delivery,
        *,
        barred: Collection[str],
        seconds: float,
    ) -> Answer:
        """Have an item done once more; see `Witnesses`."""

        def suits(info: LeaseInfo) -> bool:
            return info.voice not in barred and self._has_bits_of(info, delivery)

        clock = asyncio.get_running_loop().time
        until, alone_since = clock() + seconds, clock()
        errand = self._errands.post(item, desk, suits)
        try:
            while not errand.answer.done() and clock() < until:
                if not self._is_all_in or self._errands.has_hands(errand):
                    alone_since = clock()
                elif clock() - alone_since >= NOBODY_SECONDS:
                    break
                patience = min(LOOK_SECONDS, until - clock())
                await asyncio.wait({errand.answer}, timeout=patience)
        finally:
            self._errands.withdraw(errand)
        return Answer(errand.answer.result(), errand.taken_by)
