"""How far one policy is from another on the same observations: what a probe measures.

Pure NumPy in float64. Axes: B observations, A actions or components of one.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Measure: TypeAlias = Literal["kl", "actions"]
Float64 = npt.NDArray[np.float64]

MOST_DIVERGENCE = 1e9
"""Stands for every larger value, and for a policy whose outputs are no longer numbers."""


class Categorical(NamedTuple):
    """One table of logits [B, A] for each of one or more independent discrete actions."""

    logits: tuple[npt.NDArray[Any], ...]


class Bernoulli(NamedTuple):
    """Logits [B, A] of A independent bits being 1."""

    logits: npt.NDArray[Any]


class Gaussian(NamedTuple):
    """Independent normal components: means [B, A], logarithms of deviations [B, A] or [A]."""

    mean: npt.NDArray[Any]
    log_deviation: npt.NDArray[Any]


class Greedy(NamedTuple):
    """Scores [B, A], of which the first largest is taken."""

    scores: npt.NDArray[Any]


class Certain(NamedTuple):
    """Continuous actions [B, A] without noise, in half widths of the action space: -1 to 1."""

    actions: npt.NDArray[Any]


Decisions: TypeAlias = Categorical | Bernoulli | Gaussian | Greedy | Certain
"""What a policy would do at B observations."""


def measure_of(decisions: Decisions) -> Measure:
    """`kl` for what is drawn, `actions` for what is not."""
    return "actions" if isinstance(decisions, Greedy | Certain) else "kl"


def divergence(base: Decisions, moved: Decisions) -> float:
    """Mean over the observations of the distance from `base` to `moved`; 0 to MOST_DIVERGENCE.

    Kullback-Leibler divergence KL(base || moved) in nats, summed over independent components;
    the share of observations with another greedy action; or the mean distance of the components
    of an action. Both must be of one kind and shape; another kind is a TypeError.
    """
    with np.errstate(all="ignore"):
        match base, moved:
            case Categorical(), Categorical():
                pairs = zip(base.logits, moved.logits, strict=True)
                distances = sum((_categorical(p, q) for p, q in pairs), np.float64(0))
            case Bernoulli(), Bernoulli():
                distances = _categorical(_two_sided(base.logits), _two_sided(moved.logits)).sum(1)
            case Gaussian(), Gaussian():
                distances = _gaussian(base, moved).sum(axis=1)
            case Greedy(), Greedy():
                is_number = np.isfinite(moved.scores).all()
                other = base.scores.argmax(axis=1) != moved.scores.argmax(axis=1)
                distances = other.astype(np.float64) if is_number else np.array([np.inf])
            case Certain(), Certain():
                distances = np.abs(_wide(base.actions) - _wide(moved.actions))
            case _:
                raise TypeError(f"{type(base).__name__} and {type(moved).__name__} do not compare")
        mean = float(np.mean(distances))
    return min(max(mean, 0.0), MOST_DIVERGENCE) if np.isfinite(mean) else MOST_DIVERGENCE


def _categorical(base: npt.NDArray[Any], moved: npt.NDArray[Any]) -> Float64:
    p, q = _log_softmax(_wide(base)), _log_softmax(_wide(moved))
    divergences: Float64 = (np.exp(p) * (p - q)).sum(axis=-1)
    return divergences


def _gaussian(base: Gaussian, moved: Gaussian) -> Float64:
    p, q = _wide(base.log_deviation), _wide(moved.log_deviation)
    apart = np.square(_wide(base.mean) - _wide(moved.mean))
    scaled = np.where(apart == 0, 0, apart * np.exp(-2 * q))
    found: Float64 = q - p + 0.5 * (np.exp(2 * (p - q)) + scaled - 1)
    return found


def _two_sided(logits: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.stack([np.zeros_like(logits), logits], axis=-1)


def _log_softmax(logits: Float64) -> Float64:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Float64 = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def _wide(values: npt.NDArray[Any]) -> Float64:
    return np.asarray(values, np.float64)
