"""Merges that look at how well models play: the requestor plays them on held-out seeds of its own.

A judged merge says which mixtures of the N updates it wants to see, is told how they played, and
may ask for more; in the end it names one. It sees only updates that passed screening, and returns
that the requestor measured: what a provider claims is not among them. Deterministic from its seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from statistics import pstdev
from typing import Literal, Protocol

import numpy as np

from requestor.federation.merging.pre_aggregators import mixed
from requestor.federation.merging.protocol import Float32, Float64, MergeContext, Merged
from requestor.federation.merging.searching import next_points

UNPLAYABLE = -math.inf
"""The score of a model that nothing can be played with."""


@dataclass(frozen=True)
class Trial:
    """A mixture, `float64[N]`, not negative, adding to 1, and the mean return of its model."""

    shares: Float64
    score: float


class JudgedMerge(Protocol):
    """Finds the shares of N updates from how mixtures of them play."""

    @property
    def trial_episodes(self) -> int:
        """How many episodes a mixture is judged on."""
        ...

    def least_updates(self, faulty: int) -> int:
        """Return among how many updates, at least, `faulty` bad ones are borne."""
        ...

    def wanted(self, clients: int, seed: int, told: Sequence[Trial]) -> Float64:
        """Return the mixtures to be judged next, `float64[K, N]`; K is 0 once there are enough.

        told: all trials so far, in the order in which they were wanted.
        """
        ...

    def shares(self, told: Sequence[Trial]) -> Float64:
        """Return the mixture that is merged, `float64[N]`."""
        ...


@dataclass(frozen=True)
class PerformanceWeighted:
    """Mean of the updates, weighted by how well each one's own model plays.

    The better half counts (of 2 f + 1 the f + 1 best): weights are exp(z / temperature) with z the
    score in standard deviations of that half, so that neither sign nor scale of returns matters;
    or, by rank, 1 for the last of them up to their number for the best. Models that nothing can be
    played with never count.
    """

    weighting: Literal["softmax", "rank"] = "softmax"
    temperature: float = 1.0
    trial_episodes: int = 10

    def least_updates(self, faulty: int) -> int:
        """Return 2 f + 1: all that counts is then not worse than the worst honest one."""
        return 2 * faulty + 1

    def wanted(self, clients: int, seed: int, told: Sequence[Trial]) -> Float64:
        """Return each update by itself, once."""
        return np.eye(clients)[len(told) :]

    def shares(self, told: Sequence[Trial]) -> Float64:
        """Return the weights by score, adding to 1."""
        scores = np.array([trial.score for trial in told])
        order = np.argsort(-scores, kind="stable")
        better = order[: (len(scores) + 1) // 2]
        better = better[np.isfinite(scores[better])]
        shares = np.zeros(len(scores))
        if len(better) == 0:
            return np.full(len(scores), 1 / len(scores))
        if self.weighting == "rank":
            shares[better] = np.arange(len(better), 0, -1)
        else:
            spread = pstdev(scores[better].tolist()) or 1.0
            exponents = (scores[better] - scores[better].max()) / (spread * self.temperature)
            shares[better] = [_exp(exponent) for exponent in exponents.tolist()]
        return shares / math.fsum(shares)


@dataclass(frozen=True)
class TransferBest:
    """The model of the client that plays best in our trials (Lim et al. 2020, Sensors 20:1359)."""

    trial_episodes: int = 20

    def least_updates(self, faulty: int) -> int:
        """Return 2 f + 1: one honest update is enough, but not for the normaliser's statistics."""
        return 2 * faulty + 1

    def wanted(self, clients: int, seed: int, told: Sequence[Trial]) -> Float64:
        """Return each update by itself, once."""
        return np.eye(clients)[len(told) :]

    def shares(self, told: Sequence[Trial]) -> Float64:
        """Return all for the best; of equal ones the lower client."""
        return best_of(told)


@dataclass(frozen=True)
class Evolutionary:
    """The best mixture that a search finds: CMA-ES (`cma`), or differential evolution (scipy).

    Every update by itself and their plain mean are judged first, `evaluations` mixtures more at
    most by the search; the best of all is taken, so it plays no worse than its best parent there.
    """

    search: Literal["cma", "differential_evolution"] = "cma"
    evaluations: int = 40
    trial_episodes: int = 10

    def least_updates(self, faulty: int) -> int:
        """Return 2 f + 1: one honest update is enough, but not for the normaliser's statistics."""
        return 2 * faulty + 1

    def wanted(self, clients: int, seed: int, told: Sequence[Trial]) -> Float64:
        """Return the parents and their mean, then what the search asks for."""
        parents = np.concatenate([np.eye(clients), np.full((1, clients), 1 / clients)])
        if len(told) < len(parents):
            return parents[len(told) :]
        if clients == 1:
            return np.zeros((0, 1))
        scores = [trial.score for trial in told[len(parents) :]]
        left = self.evaluations - len(scores)
        points = next_points(self.search, clients, seed, scores)
        return np.stack([shares_of(point) for point in points])[: max(0, left)]

    def shares(self, told: Sequence[Trial]) -> Float64:
        """Return the best of all mixtures."""
        return best_of(told)


def _exp(exponent: float) -> float:
    """Return e^exponent, the same bits on every machine: mathematics libraries' differ in a few."""
    return float(Context(prec=30).exp(Decimal(exponent)))


def best_of(told: Sequence[Trial]) -> Float64:
    """Return the shares, `float64[N]`, of the best trial; of equal ones the first."""
    scores = [trial.score for trial in told]
    return told[int(np.argmax(scores))].shares


def shares_of(point: Float64) -> Float64:
    """Return a point of the unit cube, `float64[N]`, as shares that add to 1."""
    total = float(np.cumsum(point)[-1])
    return point / total if total > 0 else np.full(len(point), 1 / len(point))


@dataclass(frozen=True)
class FixedShares:
    """The rule that mixes as a judged merge has decided; all of `faulty` was borne there."""

    shares: tuple[float, ...]

    def least_updates(self, faulty: int) -> int:
        """Return their number."""
        return len(self.shares)

    def __call__(self, updates: Float32, weights: Float64, context: MergeContext) -> Merged:
        """Return the mixture of `updates` (`float32[N, P]`), summed in float64."""
        shares = np.array(self.shares)
        return Merged(mixed(updates, shares[np.newaxis])[0], shares)
