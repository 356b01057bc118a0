from __future__ import annotations

import io
import re
from collections.abc import Callable

from rich.console import Console

from requestor.reporting.event_log import TimedEvent
from requestor.reporting.live_table import LiveTable
from requestor.reporting.plain_lines import PlainLines
from requestor.reporting.progress import open_progress
from requestor.training_run.events import ModelRolledBack, Notice, RentingStarted, RunStarted

Story = list[TimedEvent]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*([A-Za-z])")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class AsciiTerminal(io.TextIOWrapper):
    """A terminal that refuses anything but ASCII."""

    def __init__(self) -> None:
        self.raw_bytes = io.BytesIO()
        super().__init__(self.raw_bytes, encoding="ascii", errors="strict", newline="\n")

    def isatty(self) -> bool:
        return True


def show(console: Console, story: Story) -> None:
    table = LiveTable(console, clock=lambda: story[-1][0])
    for at, event in story:
        table.on_event(event, at)
    table.close()
    table.close()
    table.on_event(Notice("too late"), 0.0)


def test_last_picture_stays_with_messages_above_it(story: Story) -> None:
    terminal = Terminal()
    show(Console(file=terminal, force_terminal=True, width=80, height=30), story)
    written = terminal.getvalue()
    last = ESCAPE.sub("", written[written.rfind("\x1b[2K") :])
    assert "✓ all rounds done" in last
    above = ESCAPE.sub("", written)
    for message in [
        "00:06 order failed: birch: round 1, client 1: exit code 1",
        "00:14 result refused: birch: round 2, client 1: policy/w holds NaN",
        "00:16 round 2 was rolled back: worse than its parent: at best -5.0 at 95 %",
        "00:21 all bills are in",
    ]:
        assert above.count(message) == 1, message
    assert "too late" not in above
    assert written.count("\x1b[?25l") == written.count("\x1b[?25h") == 1  # the cursor is back


def test_resume_begins_without_the_old_sessions_rows(
    story: Story, start_event: Callable[..., RunStarted]
) -> None:
    terminal = Terminal()
    console = Console(file=terminal, force_terminal=True, width=80, height=30)
    table = LiveTable(console, story[:20], clock=lambda: 7001.0)
    table.on_event(Notice("cleaned up after the last process"), 7000.0)
    table.on_event(start_event(1, is_resumed=True), 7003.0)
    table.on_event(RentingStarted(2, "public", "hoodi"), 7003.0)
    table.on_event(Notice("two offers"), 7004.0)
    table.close()
    written = ESCAPE.sub("", terminal.getvalue())
    assert "resuming" in written
    assert "asking the market for 2 providers" in written
    assert "willow" not in written and "birch" not in written
    assert "00:00 cleaned up" in written and "00:04 two offers" in written


def test_rollbacks_in_a_row_are_told(start_event: Callable[..., RunStarted]) -> None:
    terminal = Terminal()
    console = Console(file=terminal, force_terminal=True, width=80, height=30)
    show(
        console,
        [(0.0, start_event()), *((1.0, ModelRolledBack(n, -1.0, "worse")) for n in range(5))],
    )
    written = ESCAPE.sub("", terminal.getvalue())
    assert written.count("3 rounds in a row were rolled back; see evaluation.gate") == 1


def test_no_picture_without_a_change(story: Story) -> None:
    # 35 events at once are not 35 pictures: some after messages, one or two by the painter.
    terminal = Terminal()
    show(Console(file=terminal, force_terminal=True, width=80, height=30), story)
    assert terminal.getvalue().count("ppo/CartPole-v1_1") <= 9


def test_terminal_without_unicode(story: Story) -> None:
    terminal = AsciiTerminal()
    console = Console(file=terminal, force_terminal=True, width=60, height=30)
    show(console, story)
    terminal.flush()
    text = terminal.raw_bytes.getvalue().decode("ascii")
    assert "ok all rounds done" in text


def test_no_color_is_honoured(story: Story) -> None:
    for environ, has_color in [({"NO_COLOR": "1"}, False), ({}, True)]:
        terminal = Terminal()
        display = open_progress(
            terminal, environ={"TERM": "xterm-256color", "COLUMNS": "80", **environ}
        )
        for at, event in story:
            display.on_event(event, at)
        display.close()
        styles = re.findall(r"\x1b\[([0-9;]*)m", terminal.getvalue())
        colors = [s for s in styles if any(30 <= int(p or 0) <= 107 for p in s.split(";"))]
        assert bool(colors) == has_color


def test_display_fits_the_stream(start_event: Callable[..., RunStarted]) -> None:
    environ = {"TERM": "xterm", "COLUMNS": "80"}
    assert isinstance(open_progress(Terminal(), environ=environ), LiveTable)
    assert isinstance(open_progress(io.StringIO(), environ=environ), PlainLines)
    assert isinstance(open_progress(Terminal(), environ={"TERM": "dumb"}), PlainLines)
    assert isinstance(open_progress(Terminal(), environ={**environ, "CI": "true"}), PlainLines)
    narrow = {**environ, "COLUMNS": "30"}
    assert isinstance(open_progress(Terminal(), environ=narrow), PlainLines)
    forced = {**environ, "FORCE_COLOR": "1"}
    assert isinstance(open_progress(io.StringIO(), environ=forced), PlainLines)
