from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from requestor.reporting.printing import PIPE_COLUMNS, print_trimmed, room


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_room() -> None:
    assert room(Console(file=Terminal(), width=80)) == 80
    assert room(Console(file=io.StringIO(), width=80)) == PIPE_COLUMNS


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "pipe"])
def test_ends_of_lines_are_bare(stream: io.StringIO) -> None:
    console = Console(file=stream, width=20, color_system=None)
    print_trimmed(console, Padding(Text("one  \n\n  two ").append("  ", style="red"), (1, 3)))
    assert stream.getvalue() == "\n   one\n\n     two\n\n"


def test_long_lines_are_folded_on_a_terminal_only() -> None:
    for stream, lines in ((Terminal(), 3), (io.StringIO(), 1)):
        print_trimmed(Console(file=stream, width=20, color_system=None), Text("word " * 10))
        assert len(stream.getvalue().splitlines()) == lines


def test_colors_stay() -> None:
    stream = Terminal()
    console = Console(
        file=stream, width=20, force_terminal=True, color_system="standard", no_color=False
    )
    print_trimmed(console, Text("red   ", style="red"))
    assert stream.getvalue().rstrip("\n") == "\x1b[31mred\x1b[0m"
