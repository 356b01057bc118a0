"""Made-up updates. Pure: one `View` and one seed give one vector, `float32[P]`.

Sums are in float64. `View.seen` is what colluders know of honest work. In studies they are
*omniscient*: it is every honest update of the round. In mock fleets they *estimate*: it is what
the colluders' own honest work gave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

SIGN_FLIP = -2.5
SCALE = 10.0
NOISE_RANGES = 3.0
LARGE = 1000.0
ALIE_DEVIATIONS = 1.5
IPM_SHARE = 0.5
OUTSIDE_DIAMETERS = 1.5
JUNK_COUNT = 1e18


@dataclass(frozen=True)
class View:
    """What a liar knows when it makes up the update of one item.

    own: `float32[P]`, what honest work of the item gives. seen: `float32[H, P]`, the honest
    updates it knows of this round, in client order, at least one row. last: `float32[P]`, by how
    much the global model moved in the round before, zeros in the first. clients and liars: how
    many updates a round has, and how many of them are made up. item: which of the made-up ones
    this is. seed: of the item; liars of one round share `round_seed`.
    """

    own: Float32
    seen: Float32
    last: Float32
    clients: int
    liars: int
    item: int
    seed: int
    round_seed: int


Lie: TypeAlias = Callable[[View], Float32]
"""Makes up the update of one item."""


def sign_flip(view: View, factor: float = SIGN_FLIP) -> Float32:
    """`-2.5 x_i`: the honest update, against its direction (FedPG-BR, arXiv 2110.14074)."""
    return _float32(factor * _wide(view.own))


def scaling(view: View, factor: float = SCALE) -> Float32:
    """`10 x_i`: the honest update, boosted as in model replacement (arXiv 1807.00459)."""
    return _float32(factor * _wide(view.own))


def noise(view: View, ranges: float = NOISE_RANGES) -> Float32:
    """`x_i + U(-1, 1)^P · 3 (max x_i - min x_i)` (random noise of FedPG-BR, arXiv 2110.14074).

    There the range is each tensor's, here the whole vector's.
    """
    own = _wide(view.own)
    width = ranges * float(np.ptp(own)) if own.size else 0.0
    return _float32(own + width * _generator(view.seed).uniform(-1.0, 1.0, own.size))


def large_noise(view: View, size: float = LARGE) -> Float32:
    """`U(-1000, 1000)^P`, another for each receiver (LargeNoise of DecByzPG, arXiv 2401.03489)."""
    return _float32(_generator(view.seed).uniform(-size, size, view.own.size))


def zero(view: View) -> Float32:
    """`0`: a free rider that returns the model as it came (plain, arXiv 2006.11901)."""
    return np.zeros_like(view.own)


def echo(view: View) -> Float32:
    """`w_t - w_{t-1}`: a free rider that sends the last step of all (arXiv 1911.12560)."""
    return view.last.copy()


def avg_zero(view: View) -> Float32:
    """`-sum(honest) / f`: the plain mean of all becomes zero (AvgZero of DecByzPG, 2401.03489).

    With H of the n - f honest updates seen, their sum is taken for (n - f) / H of it.
    """
    honest = view.clients - view.liars
    return _float32(-(honest / view.liars) * _mean(view))


def alie(view: View, deviations: float = ALIE_DEVIATIONS) -> Float32:
    """`mean - z std` per coordinate: within what looks usual (ALIE, Baruch 2019, 1902.06156).

    `std` is the sample's (n - 1), 0 of a single update. z = 1.5, as in byzfl, is larger than the
    paper's own bound `alie_bound`, within which enough honest updates lie farther out.
    """
    seen = _wide(view.seen)
    spread = seen.std(axis=0, ddof=1) if len(seen) > 1 else np.zeros(seen.shape[1])
    return _float32(seen.mean(axis=0) - deviations * spread)


def alie_bound(clients: int, liars: int) -> float:
    """Return the paper's z: the normal quantile of `(n - f - s) / (n - f)`, s = n//2 + 1 - f.

    Raises:
        ValueError: the liars are a majority, or there is nobody else.
    """
    supporters = clients // 2 + 1 - liars
    honest = clients - liars
    if supporters < 1 or honest < 1:
        raise ValueError(f"{liars} of {clients} need no such care")
    share = (honest - supporters) / honest
    return NormalDist().inv_cdf(share) if 0 < share < 1 else 0.0


def ipm(view: View, share: float = IPM_SHARE) -> Float32:
    """`-0.5 mean(honest)`: the inner product turns, the size does not show (IPM, 1903.03936)."""
    return _float32(-share * _mean(view))


def mimic(view: View) -> Float32:
    """`x_1`: all copy one honest client, which then counts too much (arXiv 2006.09365).

    The first one seen, all the run: the paper's warm-up that looks for the best victim pays only
    where clients differ.
    """
    return np.array(view.seen[0], dtype=np.float32)


def just_outside(view: View, diameters: float = OUTSIDE_DIAMETERS) -> Float32:
    """`mean + 1.5 d u`: d the largest distance of two updates seen, u a random unit direction.

    FedPG-BR's own attack on its filter (arXiv 2110.14074): three deviations away, if d is
    two. All liars of a round go the same way.
    """
    seen = _wide(view.seen)
    squared = [float(np.sum((a - b) ** 2)) for i, a in enumerate(seen) for b in seen[:i]]
    diameter = np.sqrt(max(squared, default=0.0))
    direction = _generator(view.round_seed).standard_normal(view.own.size)
    unit = direction / max(float(np.linalg.norm(direction)), 1e-300)
    return _float32(seen.mean(axis=0) + diameters * diameter * unit)


def normalized(view: View) -> Float32:
    """`-s sum(x_i / |x_i|) / |sum(x_i / |x_i|)|`, s the median norm of the updates seen.

    The attack by angle of Fang et al. (arXiv 2502.08123): the direction that turns the merged
    update farthest, at a size that no rule by norms can tell. They search direction and size
    against the rule; this is their idea without that search.
    """
    seen = _wide(view.seen)
    norms = np.linalg.norm(seen, axis=1)
    units = seen / np.maximum(norms, 1e-300)[:, None]
    direction = units.sum(axis=0)
    length = float(np.linalg.norm(direction))
    return _float32(-float(np.median(norms)) * direction / max(length, 1e-300))


def sybil(view: View) -> Float32:
    """`-2.5 mean(honest)`, the same bits from every node of one liar (arXiv 1808.04866)."""
    return _float32(SIGN_FLIP * _mean(view))


def _mean(view: View) -> Float64:
    return np.asarray(_wide(view.seen).mean(axis=0), dtype=np.float64)


def _wide(array: Float32) -> Float64:
    return array.astype(np.float64)


def _float32(array: Float64) -> Float32:
    return array.astype(np.float32)


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))
