"""Robust aggregation of client updates: bytes of input per CPU-second."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from native_kernels.limits import measure_limits
from tests.benchmarks.measuring import Options, Row, main, missing, named, peer, rates

Updates = NDArray[np.float32]
CLIENTS = 50
TRIM = 10
"""Left out at each end: 20 %."""


def sorted_median(updates: Updates) -> Updates:
    """Return the median by the fastest way that NumPy has: a sort along the clients."""
    ordered = np.sort(updates, axis=0)
    median: Updates = (ordered[CLIENTS // 2 - 1] + ordered[CLIENTS // 2]) * np.float32(0.5)
    return median


def sorted_trimmed_mean(updates: Updates) -> Updates:
    """Return the trimmed mean by a sort."""
    ordered = np.sort(updates, axis=0)
    mean: Updates = np.mean(ordered[TRIM:-TRIM], axis=0)
    return mean


def blas_distances(updates: Updates) -> Updates:
    """Return squared distances by one matrix product."""
    products = updates @ updates.T
    squares = np.diagonal(products)
    distances: Updates = squares[:, None] + squares[None, :] - 2 * products
    return distances


def few(options: Options) -> Options:
    """Return the options for something that takes seconds a call."""
    return replace(options, repetitions=min(3, options.repetitions))


def compare(
    what: str,
    size: int,
    run: Callable[[], object],
    peers: dict[str, tuple[Callable[[], object], float | None]],
    options: Options,
) -> Iterator[Row]:
    """Yield a row for each peer."""
    for name, (of_peer, goal) in peers.items():
        found = rates({"ours": (run, size), "peer": (of_peer, size)}, options)
        yield Row(what, found["ours"], found["peer"], name, "B", goal)


def of_flwr(flower: Any, name: str, updates: Updates) -> Callable[[], object]:
    """Return a call of one of Flower's aggregates."""
    results = [([row], 1) for row in updates]
    if name == "median":
        return partial(flower.aggregate_median, results)
    if name == "trimmed mean":
        return partial(flower.aggregate_trimmed_avg, results, TRIM / CLIENTS)
    return partial(flower._compute_distances, [[row] for row in updates])


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows."""
    from native_kernels import aggregation

    flower = peer("flwr.server.strategy.aggregate")
    limits = measure_limits()
    goals = {10_000: (8.0, None, None), 1_000_000: (6.0, 40.0, 0.35)}
    for parameters, (sort_goal, flwr_goal, read_goal) in goals.items():
        random = np.random.default_rng(1)
        updates = random.standard_normal((CLIENTS, parameters), dtype=np.float32)
        kinds: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "median": (
                partial(aggregation.coordinate_median, updates),
                partial(sorted_median, updates),
            ),
            "trimmed mean": (
                partial(aggregation.trimmed_mean, updates, TRIM),
                partial(sorted_trimmed_mean, updates),
            ),
        }
        size = updates.nbytes
        for kind, (run, by_sort) in kinds.items():
            what = f"{kind} {CLIENTS} x {parameters:,}"
            sort_name = f"np.sort, {named('numpy')}"
            found = rates({"ours": (run, size), "peer": (by_sort, size)}, options)
            yield Row(what, found["ours"], found["peer"], sort_name, "B", sort_goal)
            if read_goal is not None:
                name = "memory read of this core"
                yield Row(f"{what}, of read", found["ours"], limits.read, name, "B", read_goal)
            if flower is None:
                yield missing(what, "flwr", "B", flwr_goal)
                continue
            slow = of_flwr(flower, kind, updates)
            yield from compare(what, size, run, {named("flwr"): (slow, flwr_goal)}, few(options))
        distances = partial(aggregation.squared_distances, updates)
        what = f"Krum distances {CLIENTS} x {parameters:,}"
        is_large = parameters == 1_000_000
        blas = f"one BLAS product, {named('numpy')}"
        found = rates(
            {"ours": (distances, size), "peer": (partial(blas_distances, updates), size)}, options
        )
        yield Row(what, found["ours"], found["peer"], blas, "B", 4.0 if is_large else None)
        if flower is None:
            yield missing(what, "flwr", "B", 40.0 if is_large else None)
            continue
        slow = of_flwr(flower, "distances", updates)
        peers = {named("flwr"): (slow, 40.0 if is_large else None)}
        yield from compare(what, size, distances, peers, few(options))


if __name__ == "__main__":
    main("aggregation", __doc__, rows)
