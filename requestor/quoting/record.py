"""A quote as a file in the run's folder, and how far off it was when the run is over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import msgspec

from requestor.errors import UsageError
from requestor.quoting.quote import Quote, Span

FORMAT = 1
MAX_QUOTE_BYTES = 1 << 20


class Figure(msgspec.Struct, frozen=True):
    """The least, the expected and the most."""

    low: float
    expected: float
    high: float


class QuotedShare(msgspec.Struct, frozen=True):
    """What one provider was expected to do and to bill."""

    name: str
    source: str
    order_seconds: float
    orders: int
    glm: float


class StoredQuote(msgspec.Struct, frozen=True):
    """A quote with what it was made of. Amounts in GLM, times in seconds.

    `first_*`: one round with all that comes before and after; `round_*`: each further round.
    """

    format: int
    made_unix_seconds: float
    kind: str
    rounds: int
    first_glm: Figure
    round_glm: Figure
    first_seconds: Figure
    round_seconds: Figure
    glm: Figure
    wall_seconds: Figure
    providers: tuple[QuotedShare, ...] = ()
    assumptions: tuple[str, ...] = ()

    def glm_for(self, rounds: int) -> Figure:
        """Return the cost of so many rounds."""
        return _sum(self.first_glm, self.round_glm, rounds)

    def seconds_for(self, rounds: int) -> Figure:
        """Return the wall time of so many rounds."""
        return _sum(self.first_seconds, self.round_seconds, rounds)


@dataclass(frozen=True)
class Miss:
    """A figure of a quote held against what came of it, for the rounds that were done."""

    quoted: Figure
    actual: float

    @property
    def error(self) -> float | None:
        """Return (expected - actual) / actual: 0.1 is a tenth too much. None if nothing came."""
        if not self.actual > 0:
            return None
        return (self.quoted.expected - self.actual) / self.actual

    @property
    def is_within(self) -> bool:
        """Say whether what came of it was in the range."""
        return self.quoted.low <= self.actual <= self.quoted.high


@dataclass(frozen=True)
class QuoteOutcome:
    """How a run's quote did."""

    rounds: int
    glm: Miss
    wall_seconds: Miss


def outcome_of(
    quote: StoredQuote | None, rounds_done: int, cost_glm: Decimal, wall_seconds: float
) -> QuoteOutcome | None:
    """Hold a quote against a run; None without one, and before the first round is done."""
    if quote is None or rounds_done < 1:
        return None
    return QuoteOutcome(
        rounds_done,
        Miss(quote.glm_for(rounds_done), float(cost_glm)),
        Miss(quote.seconds_for(rounds_done), wall_seconds),
    )


def stored(
    quote: Quote, kind: str, made_unix_seconds: float, assumptions: Sequence[str]
) -> StoredQuote:
    """Return a quote as it is kept."""
    return StoredQuote(
        format=FORMAT,
        made_unix_seconds=round(made_unix_seconds, 3),
        kind=kind,
        rounds=quote.rounds,
        first_glm=_figure(quote.first_glm),
        round_glm=_figure(quote.round_glm),
        first_seconds=_figure(quote.first_seconds),
        round_seconds=_figure(quote.round_seconds),
        glm=_figure(quote.glm()),
        wall_seconds=_figure(quote.seconds()),
        providers=tuple(
            QuotedShare(
                share.worker.name,
                share.worker.source,
                round(share.worker.order_seconds, 4),
                share.orders,
                float(share.glm),
            )
            for share in quote.shares
        ),
        assumptions=tuple(assumptions),
    )


def write_quote(path: Path, quote: StoredQuote) -> None:
    """Write a quote to a file."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(quote), indent=1) + b"\n")


def read_quote(path: Path) -> StoredQuote:
    """Read a quote.

    Raises:
        UsageError: there is none, or it is damaged.
    """
    try:
        content = path.read_bytes()
        if len(content) > MAX_QUOTE_BYTES:
            raise ValueError("it is too large")
        quote = msgspec.json.decode(content, type=StoredQuote)
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}", fix="`derl-request quote CONFIG --save FILE` writes one"
        ) from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no quote: {error}", fix="make a new one") from error
    if quote.format != FORMAT or not _is_sound(quote):
        raise UsageError(f"{path} is no quote of this version", fix="make a new one")
    return quote


def find_quote(path: Path) -> StoredQuote | None:
    """Return the quote in a run's folder; None if there is none that can be read."""
    try:
        return read_quote(path)
    except UsageError:
        return None


def _sum(first: Figure, each: Figure, rounds: int) -> Figure:
    further = max(0, rounds - 1)
    return Figure(
        first.low + further * each.low,
        first.expected + further * each.expected,
        first.high + further * each.high,
    )


def _figure(span: Span) -> Figure:
    return Figure(*(float(f"{value:.9g}") for value in (span.low, span.expected, span.high)))


def _is_sound(quote: StoredQuote) -> bool:
    figures = (quote.first_glm, quote.round_glm, quote.first_seconds, quote.round_seconds)
    return quote.rounds > 0 and all(
        math.isfinite(value) and value >= 0
        for figure in figures
        for value in (figure.low, figure.expected, figure.high)
    )
