"""The doors of the search libraries: which points of the unit cube to look at next, given scores.

Both are asked anew each time, from the seed and all scores so far: a search has no state of its
own, and the same seed and scores give the same points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Literal

import numpy as np

from requestor.federation.merging.protocol import Float64

Search = Literal["cma", "differential_evolution"]

FIRST_STEP = 0.3
"""CMA-ES's first standard deviation, in the unit cube."""

_PACKAGES = {"cma": "cma", "differential_evolution": "scipy.optimize"}


class SearchMissing(ImportError):
    """The library that a search needs is not installed; the message says how to get it."""


def require_search(search: Search) -> None:
    """Raise `SearchMissing` unless the library of `search` is installed."""
    _library(search)


def next_points(search: Search, size: int, seed: int, scores: Sequence[float]) -> Float64:
    """Return the points `float64[K, size]` in the unit cube to be judged next.

    scores: those of all points that were returned so far for this seed, in order; more is better.
    size: at least 2.

    Raises:
        SearchMissing: the library is not installed.
    """
    losses = [-score if math.isfinite(score) else 1e300 for score in scores]
    if search == "cma":
        return _cma(size, seed, losses)
    return _differential_evolution(size, seed, losses)


def _library(search: Search) -> ModuleType:
    name = _PACKAGES[search]
    try:
        return import_module(name)
    except ImportError as error:
        raise SearchMissing(
            f"the merge's search {search} needs {name.partition('.')[0]}; "
            "fix: pip install derl[merging]"
        ) from error


def _cma(size: int, seed: int, losses: Sequence[float]) -> Float64:
    cma = _library("cma")
    normal = np.random.default_rng(seed)
    options = {
        "bounds": [0.0, 1.0],
        "randn": lambda *shape: normal.standard_normal(shape),  # not NumPy's global generator
        "seed": math.nan,
        "verbose": -9,
        "verb_log": 0,
    }
    search = cma.CMAEvolutionStrategy(np.full(size, 0.5), FIRST_STEP, options)
    told = 0
    while True:
        points = search.ask()
        if told + len(points) > len(losses):
            return np.stack(points)[len(losses) - told :]
        search.tell(points, list(losses[told : told + len(points)]))
        told += len(points)


class _Asked(Exception):
    """Stops a search at points whose losses are not known; carries them."""

    def __init__(self, points: Float64) -> None:
        super().__init__("not known yet")
        self.points = points


def _differential_evolution(size: int, seed: int, losses: Sequence[float]) -> Float64:
    told = 0

    def known(points: Float64) -> Float64:
        nonlocal told
        points = np.asarray(points).reshape(size, -1).T
        if told + len(points) > len(losses):
            raise _Asked(points[len(losses) - told :].copy())
        told += len(points)
        return np.array(losses[told - len(points) : told])

    try:
        _library("differential_evolution").differential_evolution(
            known,
            [(0.0, 1.0)] * size,
            popsize=2,
            tol=0.0,
            maxiter=10_000,
            polish=False,
            updating="deferred",
            vectorized=True,
            rng=np.random.default_rng(seed),
        )
    except _Asked as asked:
        return asked.points
    return np.zeros((0, size))
