"""Which offers are worth their price: useful steps per GLM. Pure and deterministic.

*Useful* steps are those of orders whose results came to use; failed, refused and late ones cost
the same and count nothing. A provider's pace is its measured useful steps per second of work,
drawn towards the typical pace where little was measured, with a little optimism for the unknown,
so that new providers get a chance.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import Literal

from requestor.marketplace.choice.history import Evidence
from requestor.marketplace.money.spending import Prices

Rule = Literal["steps_per_glm", "cheapest"]

PRIOR_SECONDS = 20.0
"""The typical pace counts as much as so many seconds of a provider's own work."""

OPTIMISM = 0.1
"""A provider of whom nothing is known is taken to be faster than typical by this share."""

UNKNOWN_STEPS_PER_SECOND = 1000.0
"""Where nobody's pace is known. It cancels out between offers, but for their start prices."""

UNKNOWN_CPU_SHARE = 1.0
"""A worker computes in one thread; where nothing was measured it is taken to be always busy."""

MIN_CPU_SHARE, MAX_CPU_SHARE = 0.01, 64.0
MIN_STEPS_PER_SECOND = 1e-6

DEFAULT_SECONDS = 600.0
"""How long an agreement is taken to last where the amount of work is not known."""

MIN_SECONDS = 10.0
BUSY_SHARE = 0.8
"""Between rounds, while models are judged here, providers wait."""

CLEARLY_BETTER = 1.5
"""A provider at work is given up for an offer with at least so many times the steps per GLM."""

MIN_EVIDENCE_SECONDS = 3.0
"""Nobody is given up for being dear before it has worked so long."""


@dataclass(frozen=True)
class Pace:
    """Useful steps per second of work, and CPU seconds per second of work."""

    steps_per_second: float
    cpu_share: float = UNKNOWN_CPU_SHARE


UNKNOWN_PACE = Pace(UNKNOWN_STEPS_PER_SECOND)


@dataclass(frozen=True)
class Work:
    """What providers are rented for: `steps` of one `kind`, shared by `providers`.

    `kind` is what speeds are remembered by; 0 steps: the amount is not known.
    """

    kind: str = ""
    steps: int = 0
    providers: int = 1

    def expected_seconds(self, typical: Pace) -> float:
        """Return how long an agreement is expected to last, over which a start price is spread."""
        if not self.steps:
            return DEFAULT_SECONDS
        busy = self.steps / (self.providers * typical.steps_per_second)
        return max(MIN_SECONDS, busy / BUSY_SHARE)


@dataclass(frozen=True)
class Candidate:
    """An offer that may be taken: who, for how much, and how fast it is expected to be.

    `voice` is its wallet, or its node id where no wallet is known.
    """

    node_id: str
    voice: str
    prices: Prices
    pace: Pace


def typical_pace(evidence: Iterable[Evidence]) -> Pace | None:
    """Return the median pace of those of whom something is known; None if of nobody."""
    paces = [pace for one in evidence if (pace := measured_pace(one)) is not None]
    if not paces:
        return None
    return Pace(
        max(MIN_STEPS_PER_SECOND, median(pace.steps_per_second for pace in paces)),
        median(pace.cpu_share for pace in paces),
    )


def measured_pace(evidence: Evidence) -> Pace | None:
    """Return the pace that was measured, and nothing else; None if nothing was."""
    if evidence.busy_seconds <= 0:
        return None
    return Pace(evidence.useful_steps / evidence.busy_seconds, _cpu_share(evidence))


def expected_pace(evidence: Evidence | None, typical: Pace) -> Pace:
    """Return what to expect of a provider with this evidence where `typical` is usual.

    With t seconds of its own work and s = `PRIOR_SECONDS`: (useful steps + s · typical pace) /
    (t + s), more by the share `OPTIMISM` · s / (t + s).
    """
    evidence = evidence or Evidence()
    seconds = evidence.busy_seconds + PRIOR_SECONDS
    steps = evidence.useful_steps + PRIOR_SECONDS * typical.steps_per_second
    hope = 1.0 + OPTIMISM * PRIOR_SECONDS / seconds
    cpu_seconds = evidence.cpu_seconds + PRIOR_SECONDS * typical.cpu_share
    cpu_share = cpu_seconds / (evidence.cpu_busy_seconds + PRIOR_SECONDS)
    return Pace(max(MIN_STEPS_PER_SECOND, hope * steps / seconds), _bounded(cpu_share))


def steps_per_glm(prices: Prices, pace: Pace, seconds: float, *, is_rented: bool = False) -> float:
    """Return the useful steps for one GLM under an agreement of `seconds`; infinite if free.

    It works `BUSY_SHARE` of the time. The start price of one that `is_rented` is spent already.
    """
    busy = BUSY_SHARE * seconds
    cost = prices.cost_glm(_exact(busy * pace.cpu_share), _exact(seconds))
    if is_rented:
        cost -= prices.start_glm
    steps = busy * pace.steps_per_second
    return steps / float(cost) if cost > 0 else math.inf


def expected_cost_glm(prices: Prices, pace: Pace, seconds: float) -> Decimal:
    """Return what an agreement of `seconds` is expected to come to."""
    return prices.cost_glm(_exact(BUSY_SHARE * seconds * pace.cpu_share), _exact(seconds))


@dataclass(frozen=True)
class Chooser:
    """Ranks candidates by `rule` for agreements of `seconds`, where `typical` is the usual pace.

    `cheapest` takes all for equally fast.
    """

    rule: Rule
    seconds: float
    typical: Pace = UNKNOWN_PACE

    def worth(self, candidate: Candidate) -> float:
        """Return what decides: steps for one GLM, higher is better."""
        pace = candidate.pace if self.rule == "steps_per_glm" else self.typical
        return steps_per_glm(candidate.prices, pace, self.seconds)

    def rank(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Return the candidates, best first; equals by speed, then by node id."""
        return sorted(
            candidates,
            key=lambda one: (-self.worth(one), -one.pace.steps_per_second, one.node_id),
        )

    def choose(
        self,
        candidates: Iterable[Candidate],
        count: int,
        *,
        max_per_voice: int | None = None,
        rented: Sequence[Hashable] = (),
    ) -> list[Candidate]:
        """Return the best `count`, of each voice at most `max_per_voice`.

        `rented` are the voices of those who are rented already.
        """
        taken = Counter(rented)
        chosen: list[Candidate] = []
        for candidate in self.rank(candidates):
            if len(chosen) == count:
                break
            if max_per_voice is None or taken[candidate.voice] < max_per_voice:
                taken[candidate.voice] += 1
                chosen.append(candidate)
        return chosen

    def better_than(
        self, incumbent: Candidate, evidence: Evidence, others: Iterable[Candidate]
    ) -> Candidate | None:
        """Return the best of `others` if a provider at work should give way to it, else None.

        It must be clearly better although its start price is still to be paid, and the
        incumbent's record long enough to judge it by.
        """
        if evidence.busy_seconds < MIN_EVIDENCE_SECONDS:
            return None
        best = next(iter(self.rank(others)), None)
        if best is None:
            return None
        pace = incumbent.pace if self.rule == "steps_per_glm" else self.typical
        now = steps_per_glm(incumbent.prices, pace, self.seconds, is_rented=True)
        return best if self.worth(best) >= CLEARLY_BETTER * now else None


def evidence_of(
    speeds: Mapping[str, Evidence], kind: str, now_seconds: float
) -> Evidence | None:
    """Return the faded evidence of one kind of work, None if there is none."""
    found = speeds.get(kind)
    return None if found is None else found.at(now_seconds)


def _cpu_share(evidence: Evidence) -> float:
    if evidence.cpu_busy_seconds <= 0:
        return UNKNOWN_CPU_SHARE
    return _bounded(evidence.cpu_seconds / evidence.cpu_busy_seconds)


def _bounded(share: float) -> float:
    return min(MAX_CPU_SHARE, max(MIN_CPU_SHARE, share))


def _exact(seconds: float) -> Decimal:
    return Decimal(repr(seconds))
