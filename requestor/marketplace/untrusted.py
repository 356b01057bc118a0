"""Numbers and text from strangers, made fit for arithmetic and for a terminal. Pure."""

from __future__ import annotations

MAX_TEXT_LENGTH = 60


def bounded_number(value: object, most: float) -> float:
    """Return a size between 0 and `most`; 0 where there is none (no number, NaN, negative)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(min(value, most)) if value > 0 else 0.0


def printable(value: object, length: int = MAX_TEXT_LENGTH) -> str:
    """Return text without what could move a cursor, at most `length` long; "" for anything else."""
    if not isinstance(value, str):
        return ""
    return "".join(c for c in value[: 4 * length] if c.isprintable()).strip()[:length]
