"""Telling once a second, and when a round closes, what the run has cost so far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from decimal import Decimal

from requestor.marketplace.ports import ProviderPool
from requestor.training_run import events

SPENDING_SECONDS = 1.0
PROVIDERS_TOLD_OF = 32
"""Of so many providers every report tells; of more, one report in two, in three, …."""


class SpendingReporter:
    """Emits the state of the money, and what each provider has cost, whenever it has changed."""

    def __init__(self, pool: ProviderPool, emit: Callable[[events.Event], None]) -> None:
        """Tell `emit` of the money of `pool`."""
        self._pool = pool
        self._emit = emit
        self._last: tuple[str, str] | None = None
        self._reports = 0

    async def run(self) -> None:
        """Tell once a second until cancelled."""
        while True:
            self.tell()
            await asyncio.sleep(SPENDING_SECONDS)

    def tell(self) -> None:
        """Tell now, if there is something new."""
        spending = self._pool.spending
        now = (f"{spending.due_glm:f}", f"{spending.accepted_glm:f}")
        if now == self._last:
            return
        # the log would grow fast if it named hundreds of providers every second
        due = spending.due_by_provider
        is_told = self._reports % (1 + len(due) // PROVIDERS_TOLD_OF) == 0
        told = amount_texts(due) if is_told else {}
        self._emit(events.SpendingReported(*now, f"{spending.budget_glm:f}", told))
        self._reports += 1
        self._last = now


def amount_texts(amounts: Mapping[str, Decimal]) -> dict[str, str]:
    """Return amounts as decimal strings."""
    return {name: f"{amount:f}" for name, amount in amounts.items()}
