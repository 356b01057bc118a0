"""A quote: a range of GLM and of wall time, with everything that was assumed. Pure.

Three runs are played: as expected, with everything going well, and with everything going badly
within what is known. How far apart they are depends on where each provider's pace comes from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from requestor.marketplace.money.spending import ZERO
from requestor.quoting.simulation import Overheads, Plan, Played, Share, Worker, play

Source = Literal["measured", "recorded", "typical", "this machine"]

DOUBT: dict[Source, float] = {
    "recorded": 0.10,
    "measured": 0.15,
    "typical": 0.30,
    "this machine": 1.0,
}
"""By what share a pace may be off, up and down, depending on where it comes from."""

THIN_EVIDENCE_SECONDS = 20.0
"""A record of less than this is doubted twice as much."""

OVERHEAD_DOUBT = 0.25
EVALUATION_DOUBT = 0.5

FAILURES_PER_PROVIDER = 0.25
"""The upper figure has one provider in four fail once: another start, and an order done again."""


@dataclass(frozen=True)
class Assumed:
    """A provider and how sure we are of its pace."""

    worker: Worker
    source: Source
    evidence_seconds: float = 0.0

    @property
    def doubt(self) -> float:
        """Return by what share its pace may be off."""
        doubt = DOUBT[self.source]
        is_thin = self.source == "recorded" and self.evidence_seconds < THIN_EVIDENCE_SECONDS
        return 2 * doubt if is_thin else doubt


@dataclass(frozen=True)
class Setting:
    """What a quote is made of, besides providers.

    `shared_cores`: providers of a mock or a testnet share this machine's cores; None elsewhere.
    `evaluation_doubt`: by what share evaluations may take longer or shorter.
    """

    plan: Plan
    overheads: Overheads
    shared_cores: int | None = None
    evaluation_doubt: float = EVALUATION_DOUBT


@dataclass(frozen=True)
class Span:
    """A figure of the quote: the least, the expected, the most."""

    low: float
    expected: float
    high: float

    def at(self, scale: float) -> Span:
        """Return the figure times `scale`."""
        return Span(self.low * scale, self.expected * scale, self.high * scale)

    def plus(self, other: Span) -> Span:
        """Return the sum."""
        return Span(
            self.low + other.low, self.expected + other.expected, self.high + other.high
        )


@dataclass(frozen=True)
class Quote:
    """What a run is expected to cost, in GLM, and to take, in seconds of wall time.

    `first_*` are for one round with all that comes before and after, `round_*` for each further
    one: a run that reaches its target early is compared by the rounds that it did.
    """

    rounds: int
    first_glm: Span
    round_glm: Span
    first_seconds: Span
    round_seconds: Span
    shares: tuple[Share, ...]

    def glm(self, rounds: int | None = None) -> Span:
        """Return the cost of so many rounds, by default of all."""
        count = self.rounds if rounds is None else rounds
        return self.first_glm.plus(self.round_glm.at(max(0, count - 1)))

    def seconds(self, rounds: int | None = None) -> Span:
        """Return the wall time of so many rounds, by default of all."""
        count = self.rounds if rounds is None else rounds
        return self.first_seconds.plus(self.round_seconds.at(max(0, count - 1)))


def make_quote(setting: Setting, providers: Sequence[Assumed]) -> Quote:
    """Return the quote of a run by `providers`, best first; the first `plan.providers` are rented.

    Raises:
        ValueError: there is no provider.
    """
    expected = _play(setting, providers, 0.0)
    low = _play(setting, providers, -1.0)
    high = _with_failures(_play(setting, providers, 1.0), setting, providers)
    return Quote(
        rounds=setting.plan.rounds,
        first_glm=_span(low.first_glm, expected.first_glm, high.first_glm),
        round_glm=_span(low.round_glm, expected.round_glm, high.round_glm),
        first_seconds=_span(low.first_seconds, expected.first_seconds, high.first_seconds),
        round_seconds=_span(low.round_seconds, expected.round_seconds, high.round_seconds),
        shares=expected.shares,
    )


def least_glm(setting: Setting, providers: Sequence[Assumed]) -> Decimal:
    """Return what even the cheapest possible run costs: the start and one order of one provider.

    Zero if nobody is known.
    """
    return min(
        (
            one.worker.prices.cost_glm(
                _exact(one.worker.order_cpu_seconds / (1 + one.doubt)),
                _exact(one.worker.order_seconds / (1 + one.doubt)),
            )
            for one in providers
        ),
        default=ZERO,
    )


def _play(setting: Setting, providers: Sequence[Assumed], side: float) -> Played:
    """Play the run with everything better (-1), as expected (0) or worse (1)."""
    workers = [_at(one, side) for one in providers]
    crew, bench = workers[: setting.plan.providers], workers[setting.plan.providers :]
    if setting.shared_cores is not None:
        crew = _sharing(crew, setting.shared_cores)
        bench = _sharing(bench, setting.shared_cores)
    return play(setting.plan, crew, bench, _overheads_at(setting, side))


def _at(one: Assumed, side: float) -> Worker:
    worker = one.worker
    factor = (1 + one.doubt) ** side
    # CPU time is billed as it is used, whatever else the machine does
    cpu_factor = (1 + one.doubt / 2) ** side
    return replace(
        worker,
        source=one.source,
        order_seconds=worker.order_seconds * factor,
        order_cpu_seconds=worker.order_cpu_seconds * cpu_factor,
        start_seconds=worker.start_seconds * (1 + OVERHEAD_DOUBT) ** side,
    )


def _sharing(workers: Sequence[Worker], cores: int) -> list[Worker]:
    """Return the workers as they are when all of them want this machine's cores at once."""
    wanted = sum(
        worker.order_cpu_seconds / worker.order_seconds
        for worker in workers
        if worker.order_seconds > 0
    )
    factor = max(1.0, wanted / cores)
    return [replace(one, order_seconds=one.order_seconds * factor) for one in workers]


def _overheads_at(setting: Setting, side: float) -> Overheads:
    times = setting.overheads
    factor = (1 + OVERHEAD_DOUBT) ** side
    evaluation = (1 + setting.evaluation_doubt) ** side
    return Overheads(
        before_seconds=times.before_seconds * factor,
        between_seconds=times.between_seconds * factor,
        evaluation_seconds=times.evaluation_seconds * evaluation,
        ending_seconds=times.ending_seconds * factor,
        after_seconds=times.after_seconds * evaluation,
    )


def _with_failures(played: Played, setting: Setting, providers: Sequence[Assumed]) -> Played:
    """Add to a run what failing providers cost in it."""
    crew = [one.worker for one in providers[: setting.plan.providers]]
    failures = math.ceil(FAILURES_PER_PROVIDER * len(crew))
    dearest = max(
        worker.prices.cost_glm(
            _exact(worker.start_cpu_seconds + worker.order_cpu_seconds),
            _exact(worker.start_seconds + worker.order_seconds),
        )
        for worker in crew
    )
    longest = max(worker.order_seconds for worker in crew)
    return replace(
        played,
        first_glm=played.first_glm + failures * dearest,
        first_seconds=played.first_seconds + longest,
    )


def _span(low: Decimal | float, expected: Decimal | float, high: Decimal | float) -> Span:
    """Return the three as a figure; what is better for one provider may be worse for the run."""
    figures = sorted(map(float, (low, expected, high)))
    return Span(figures[0], float(expected), figures[-1])


def _exact(seconds: float) -> Decimal:
    return Decimal(repr(seconds))
