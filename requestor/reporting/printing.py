"""Printing once: nothing is left hanging at the ends of lines, and a pipe has room for all."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.segment import Segment, Segments

PIPE_COLUMNS = 1000
"""A pipe has no width; no line of ours is longer."""


def room(console: Console) -> int:
    """Return how many columns there are: the terminal's, or as good as endless in a pipe."""
    return console.width if console.file.isatty() else PIPE_COLUMNS


def print_trimmed(console: Console, renderable: RenderableType, columns: int | None = None) -> None:
    """Print within `columns` (default: what there is), without spaces at the ends of lines."""
    options = console.options.update(width=columns or room(console))
    segments: list[Segment] = []
    for line in console.render_lines(renderable, options, pad=False):
        segments += [*_trimmed(line), Segment.line()]
    console.print(Segments(segments), soft_wrap=True, end="")


def _trimmed(line: Iterable[Segment]) -> list[Segment]:
    kept = list(line)
    while kept:
        text, style, control = kept[-1]
        shorter = text.rstrip(" ")
        if control or (text and shorter == text):
            break
        kept.pop()
        if shorter:
            kept.append(Segment(shorter, style))
            break
    return kept
