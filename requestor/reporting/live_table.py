"""The live display of a run on a terminal."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from threading import Condition, Thread

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from requestor.reporting.event_log import TimedEvent
from requestor.reporting.frame import Canvas, draw
from requestor.reporting.glyphs import glyphs_for
from requestor.reporting.plain_lines import describe_streak, describe_trouble
from requestor.reporting.run_view import RunView
from requestor.reporting.wording import one_line, stamp_text
from requestor.training_run import events
from requestor.training_run.events import Event

logger = logging.getLogger(__name__)

SHORTEST_SECONDS = 0.25
"""Time between two pictures, at least."""

TICK_SECONDS = 1.0
"""The clock on the picture goes on even when nothing happens."""


class LiveTable:
    """An `Observer` that keeps one picture of the run at the bottom of the terminal.

    A thread of its own draws at most four times a second, and only after an event or when the
    clock has moved on. Messages and troubles scroll away above the picture; the last picture stays.
    """

    def __init__(
        self,
        console: Console,
        history: Iterable[TimedEvent] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Draw on `console`; `history` is what earlier sessions did. `clock` is Unix time."""
        self._console = console
        self._glyphs = glyphs_for(console.encoding)
        self._clock = clock
        self._view = RunView.replay(history)
        self._view.leave_session()
        self._first_unix_seconds: float | None = None
        self._change = Condition()
        self._is_changed = False
        self._is_closed = False
        self._live: Live | None = None
        self._painter = Thread(target=self._paint, name="live-table", daemon=True)

    def on_event(self, event: Event, unix_seconds: float) -> None:
        """Take in an event; the picture follows within a quarter of a second."""
        with self._change:
            if self._is_closed:
                return
            if self._first_unix_seconds is None:
                self._first_unix_seconds = unix_seconds
            self._view.apply(event, unix_seconds)
            lines = self._lines(event, unix_seconds - self._first_unix_seconds)
            self._is_changed = True
            self._change.notify()
        if self._live is None:
            self._start()
        # rich has a lock of its own, under which it asks for the picture: never print under ours.
        for line in lines:
            self._console.print(line)

    def close(self) -> None:
        """Draw the last picture and leave it on the screen."""
        with self._change:
            if self._is_closed:
                return
            self._is_closed = True
            self._change.notify()
        if self._live is not None:
            self._painter.join()
            self._live.stop()
            self._console.print()

    def _start(self) -> None:
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            get_renderable=self._picture,
            vertical_overflow="crop",
        )
        self._live.start()
        self._painter.start()

    def _picture(self) -> RenderableType:
        with self._change:
            size = self._console.size
            return draw(self._view, self._clock(), Canvas(size.width, size.height, self._glyphs))

    def _paint(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._is_changed or self._is_closed, TICK_SECONDS)
                if self._is_closed:
                    return
                self._is_changed = False
            if not self._refresh():
                return
            with self._change:
                self._change.wait_for(lambda: self._is_closed, SHORTEST_SECONDS)

    def _refresh(self) -> bool:
        try:
            if self._live is not None:
                self._live.refresh()
        except Exception:
            # The run is worth more than its picture, and a trace would land in the middle of it.
            logger.exception("the live table can't be drawn any more")
            return False
        return True

    def _lines(self, event: Event, seconds: float) -> list[RenderableType]:
        """Return what is printed above the picture, stamped with the process' age."""
        match event:
            case events.Notice():
                text, style = one_line(event.text), ""
            case events.ModelRolledBack():
                text = f"round {event.round + 1} was rolled back: {one_line(event.reason)}"
                style = "yellow"
            case events.MarketplaceWentAway():
                text, style = f"daemon lost: {one_line(event.reason)}", "yellow"
            case _:
                trouble = describe_trouble(self._view, event)
                if trouble is None:
                    return []
                text, style = trouble, "yellow"
        streak = describe_streak(self._view, event)
        told = [(text, style)] if streak is None else [(text, style), (streak, "bold yellow")]
        return [self._line(stamp_text(seconds), *entry) for entry in told]

    def _line(self, stamp: str, text: str, style: str) -> RenderableType:
        row = Table.grid(padding=(0, 1))
        row.add_column(style="dim", no_wrap=True)
        row.add_column(style=style, overflow="fold")
        row.add_row(f" {stamp}", Text(self._glyphs.text(text)))
        return row
