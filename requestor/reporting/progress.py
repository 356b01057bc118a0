"""Choosing the display: the live table on a terminal, plain lines everywhere else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TextIO

from rich.console import Console

from requestor.reporting.event_log import TimedEvent
from requestor.reporting.live_table import LiveTable
from requestor.reporting.observer import Observer
from requestor.reporting.plain_lines import PlainLines

NARROWEST_COLUMNS = 40


def open_progress(
    stream: TextIO,
    history: Iterable[TimedEvent] = (),
    *,
    environ: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.time,
) -> Observer:
    """Return the display for `stream`. `NO_COLOR` and `TERM` are honoured; `CI` means lines."""
    console = Console(file=stream, highlight=False, markup=False, _environ=environ)
    if is_drawable(console, environ):
        return LiveTable(console, history, clock)
    return PlainLines(stream, history)


def is_drawable(console: Console, environ: Mapping[str, str]) -> bool:
    """Say whether pictures can be drawn on a console again and again in one place."""
    return (
        console.file.isatty()
        and not console.is_dumb_terminal
        and not environ.get("CI")
        and console.width >= NARROWEST_COLUMNS
    )
