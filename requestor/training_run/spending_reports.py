"""Telling once a second what the run has cost so far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from decimal import Decimal

from requestor.marketplace.ports import ProviderPool
from requestor.training_run import events

SPENDING_SECONDS = 1.0
PROVIDERS_TOLD_OF = 32
"""Of so many providers every report tells; of more, one report in two, in three, …."""


async def report_spending(pool: ProviderPool, emit: Callable[[events.Event], None]) -> None:
    """Emit the state of the money, and what each provider has cost, whenever it has changed."""
    last: tuple[str, str] | None = None
    reports = 0
    while True:
        spending = pool.spending
        now = (f"{spending.due_glm:f}", f"{spending.accepted_glm:f}")
        if now != last:
            # the log would grow fast if it named hundreds of providers every second
            due = spending.due_by_provider
            is_told = reports % (1 + len(due) // PROVIDERS_TOLD_OF) == 0
            told = amount_texts(due) if is_told else {}
            emit(events.SpendingReported(*now, f"{spending.budget_glm:f}", told))
            reports += 1
            last = now
        await asyncio.sleep(SPENDING_SECONDS)


def amount_texts(amounts: Mapping[str, Decimal]) -> dict[str, str]:
    """Return amounts as decimal strings."""
    return {name: f"{amount:f}" for name, amount in amounts.items()}
