"""How numbers, times and strangers' texts are written for people."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Decimal

NAME_LENGTH = 24
LINE_LENGTH = 300
MOST_DECIMALS = 9


def one_line(text: str, limit: int = LINE_LENGTH) -> str:
    """Return a stranger's text as one harmless line of at most `limit` characters.

    Control characters (escape sequences, line breaks, changes of writing direction) become
    spaces, runs of spaces one.
    """
    head = text[: 4 * limit]
    line = " ".join("".join(c if c.isprintable() else " " for c in head).split())
    return line if len(line) <= limit else line[: limit - 3].rstrip() + "..."


def provider_label(name: str, provider_id: str, *, is_unique: bool) -> str:
    """Return how a provider is called; names are their owners' choice and often not unique."""
    short = one_line(name, NAME_LENGTH) or one_line(provider_id, 10) or "unnamed"
    return short if is_unique else f"{short} {one_line(provider_id, 64)[:6]}"


def clock_text(seconds: float) -> str:
    """Return a duration as `0:42`, `12:05` or `3:01:59`."""
    whole = max(0, int(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def stamp_text(seconds: float) -> str:
    """Return a duration as `00:42`, `12:05` or `3:01:59`: of one width up to an hour."""
    text = clock_text(seconds)
    return text if len(text) >= 5 else f"0{text}"


def glm_text(amount: Decimal) -> str:
    """Return an amount with four significant digits, without an exponent: `0.001235`, `12.5`."""
    if not amount:
        return "0"
    exponent = min(-4, amount.adjusted() - 3) if abs(amount) < 1 else -4
    rounded = amount.quantize(Decimal(1).scaleb(exponent), rounding=ROUND_HALF_EVEN)
    text = f"{rounded:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count_text(value: float) -> str:
    """Return a count with thousands separators: `114,688`."""
    return f"{round(value):,}"


def return_text(value: float) -> str:
    """Return a mean return with as many decimals as it deserves: `-0.0123`, `21.4`, `3,204`."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 1 or size == 0 else f"{value:.3g}"


def spread_text(mean: float, spread: float, plus_minus: str) -> str:
    """Return a mean return and its spread with the same decimals: `9.8 ± 0.5`."""
    sizes = [abs(value) for value in (mean, spread) if math.isfinite(value)]
    size = max(sizes, default=0.0)
    if size >= 1000:
        decimals = 0
    elif size >= 1 or size == 0:
        decimals = 1
    else:
        decimals = min(MOST_DECIMALS, 2 - math.floor(math.log10(size)))
    return f"{mean:,.{decimals}f} {plus_minus} {spread:,.{decimals}f}"


def plural(count: int, noun: str) -> str:
    """Return `1 round`, `2 rounds`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
