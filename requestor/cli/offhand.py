"""The quote that a run gives itself when it begins: from what it sees, for nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from requestor.cli.quote_inputs import judging_of, knowledge_for, past_habits, quote_from
from requestor.config import RunConfig
from requestor.errors import DerlError
from requestor.marketplace.choice.history import ProviderHistory
from requestor.marketplace.golem.renting.rental import GolemMarketplace
from requestor.quoting.habits import Habit, guessed_overheads, usual_overheads
from requestor.quoting.record import StoredQuote, write_quote
from requestor.reporting.wording import clock_text, glm_text
from requestor.training_run import events

logger = logging.getLogger(__name__)


@dataclass
class OffhandQuote:
    """Makes a run's quote at its first agreement, unless it has one, and writes it to `path`.

    What past runs were like is read beside the run's own start, and no offer is waited for. Where
    no speed is known there is no quote.
    """

    config: RunConfig
    runs: Path
    path: Path
    market: GolemMarketplace
    history: ProviderHistory
    tell: Callable[[str], None]
    _habits: asyncio.Task[list[Habit]] | None = None
    _task: asyncio.Task[None] | None = None
    _untrained_seconds: float | None = field(default=None)

    def begin(self) -> None:
        """Read, in the background, what past runs were like."""
        if not self.path.exists():
            self._habits = asyncio.create_task(
                asyncio.to_thread(past_habits, self.runs, self.config)
            )

    def on_event(self, event: events.Event) -> None:
        """Look at what happens; at the first provider at work the quote is made."""
        if isinstance(event, events.Evaluated) and event.purpose == "initial" and event.episodes:
            self._untrained_seconds = event.seconds / event.episodes
        is_due = isinstance(event, events.LeaseOpened) and self._task is None
        if is_due and self._habits is not None:
            self._task = asyncio.create_task(self._make(self._habits))

    async def close(self) -> None:
        """Give up what is not done yet."""
        for task in (self._habits, self._task):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _make(self, reading: asyncio.Task[list[Habit]]) -> None:
        try:
            habits = await reading
            judging = judging_of(self.config)
            overheads = usual_overheads(habits, judging)
            if overheads is None and self._untrained_seconds is not None:
                overheads = guessed_overheads(self._untrained_seconds, judging)
            knowledge = knowledge_for(self.config, self.history.records(), self.history.now())
            made = quote_from(self.config, self.market.offers, knowledge, overheads)
            if made is not None:
                write_quote(self.path, made[1])
                self.tell(describe(made[1]))
        except (DerlError, OSError, ValueError):
            logger.warning("no quote", exc_info=True)  # nothing that a run should fail for


def describe(quote: StoredQuote) -> str:
    """Return a quote in one line."""
    glm, wall = quote.glm, quote.wall_seconds
    low, high = (glm_text(Decimal(repr(value))) for value in (glm.low, glm.high))
    return (
        f"quote: {glm_text(Decimal(repr(glm.expected)))} GLM ({low} to {high}), "
        f"{clock_text(wall.expected)} ({clock_text(wall.low)} to {clock_text(wall.high)})"
    )
