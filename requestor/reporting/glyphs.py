"""The few characters beyond ASCII that displays use, and what stands for them elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Glyphs:
    """Characters that a terminal can show."""

    levels: str
    working: str
    idle: str
    ended: str
    good: str
    stopped: str
    bad: str
    plus_minus: str
    dot: str
    at_least: str
    rule: str
    ellipsis: str
    encoding: str

    def text(self, text: str) -> str:
        """Return `text` with `?` for what the terminal cannot show."""
        return text.encode(self.encoding, "replace").decode(self.encoding)

    def fit(self, text: str, width: int) -> str:
        """Return `text` cut to `width` characters, with a sign that it was cut."""
        if len(text) <= width:
            return text
        return text[: max(0, width - len(self.ellipsis))].rstrip() + self.ellipsis

    def sparkline(self, values: Sequence[float], lowest: float, highest: float) -> str:
        """Return one character for each value, by its height between two bounds."""
        top = len(self.levels) - 1
        span = highest - lowest
        marks = []
        for value in values:
            part = (value - lowest) / span if span > 0 else 1.0
            share = min(1.0, max(0.0, part)) if math.isfinite(part) else 0.0
            marks.append(self.levels[round(share * top)])
        return "".join(marks)


UNICODE = Glyphs(
    levels="▁▂▃▄▅▆▇█",
    working="●",
    idle="○",
    ended="✕",
    good="✓",
    stopped="■",
    bad="✗",
    plus_minus="±",
    dot="·",
    at_least="≥",
    rule="─",
    ellipsis="…",
    encoding="utf-8",
)
ASCII = Glyphs(
    levels="_.-:=+*#",
    working="*",
    idle="o",
    ended="x",
    good="ok",
    stopped="--",
    bad="!!",
    plus_minus="+/-",
    dot="-",
    at_least=">=",
    rule="-",
    ellipsis="...",
    encoding="ascii",
)


def glyphs_for(encoding: str) -> Glyphs:
    """Return what a terminal of this encoding can show."""
    return UNICODE if encoding.lower().replace("_", "-").startswith("utf") else ASCII


def thinned(values: Sequence[float], count: int) -> list[float]:
    """Return at most `count` of the values, evenly chosen; the last one is always among them."""
    if len(values) <= count:
        return list(values)
    return [values[(i + 1) * len(values) // count - 1] for i in range(count)]
