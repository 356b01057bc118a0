"""Records what byzfl and Flower make of many small rounds: `python record_oracles.py oracles.npz`.

Their dependencies clash with ours, so run it in an environment of its own, with byzfl 0.0.11 and
flwr 1.41.0 installed. The recording holds inputs, outputs and both versions; no pickle.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import numpy as np

SHAPES = [
    # updates, parameters, bad ones
    (3, 5, 0),
    (4, 3, 0),
    (4, 6, 1),
    (5, 4, 1),
    (5, 7, 2),
    (7, 6, 1),
    (7, 3, 2),
    (8, 9, 2),
    (8, 5, 3),
    (9, 4, 2),
    (9, 8, 3),
    (11, 6, 2),
    (12, 5, 5),
    (13, 10, 3),
    (15, 4, 3),
    (16, 6, 7),
    (44, 2, 15),
]
DRAWS = 3


def cases() -> Iterator[tuple[str, np.ndarray, np.ndarray, int]]:
    """Yield name, updates `float32[N, P]`, whole weights `[N]` and the number of bad ones."""
    for n, p, f in SHAPES:
        for draw in range(DRAWS):
            random = np.random.default_rng([n, p, f, draw])
            honest: np.ndarray = random.normal(1.0, 1.0, (n, p))
            if draw == 1:  # a cluster far off
                honest[:f] += 5.0
            if draw == 2:  # the same values again and again, in each coordinate
                honest = random.integers(-2, 3, (n, p)) + 0.0
            weights = random.integers(1, 100, n)
            yield f"{n}-{p}-{f}-{draw}", honest.astype(np.float32), weights, f


def of_byzfl(x: np.ndarray, f: int) -> Iterator[tuple[str, Any]]:
    byzfl = import_module("byzfl")
    n = len(x)
    rows = x.astype(np.float64)

    def call(rule: Any) -> Any:
        return np.asarray(rule(rows.copy()))  # clipping writes into what it is given

    yield "median", call(byzfl.Median())
    yield "mean", call(byzfl.Average())
    yield "geometric_median", call(byzfl.GeometricMedian(nu=1e-9, T=2000))
    yield "centered_clipping", call(byzfl.CenteredClipping(L=3, tau=2.0))
    yield "clipping", call(byzfl.Clipping(c=1.5))
    yield "arc", call(byzfl.ARC(f))
    if 2 * f < n:
        yield "trimmed_mean", call(byzfl.TrMean(f))
        if n <= 20:  # it goes through all subsets
            yield "mda", call(byzfl.MDA(f))
        yield "nnm", call(byzfl.NNM(f))
    if 2 * f + 2 < n:
        yield "krum", call(byzfl.Krum(f))
        yield "multi_krum", call(byzfl.MultiKrum(f))


def of_flower(x: np.ndarray, weights: np.ndarray, f: int) -> Iterator[tuple[str, Any]]:
    flower = import_module("flwr.server.strategy.aggregate")
    n = len(x)

    def results() -> list[Any]:
        return [([row.astype(np.float64)], int(w)) for row, w in zip(x, weights, strict=True)]

    yield "mean", flower.aggregate(results())[0]
    yield "median", flower.aggregate_median(results())[0]
    yield "trimmed_mean", flower.aggregate_trimmed_avg(results(), f / n)[0]
    if 2 * f + 2 < n:
        yield "krum", flower.aggregate_krum(results(), f, 0)[0]
        yield "multi_krum", flower.aggregate_krum(results(), f, n - f)[0]
    if n >= 4 * f + 3:
        bulyan = flower.aggregate_bulyan(results(), f, flower.aggregate_krum, to_keep=0)
        yield "bulyan", bulyan[0]


def of_strategies() -> Iterator[tuple[str, Any]]:
    """Yield the parameters after each of five rounds of one update each, `[5, P]`."""
    common = import_module("flwr.common")
    flower = import_module("flwr.server.strategy")
    random = np.random.default_rng(1)
    start = random.normal(size=6)
    updates = random.normal(size=(5, 6))
    yield "start", start
    yield "updates", updates
    options = {"eta": 0.1, "beta_1": 0.9, "beta_2": 0.99, "tau": 1e-3}
    first = common.ndarrays_to_parameters([start.copy()])
    made = {
        "FedAvgM": flower.FedAvgM(
            server_learning_rate=0.5, server_momentum=0.9, initial_parameters=first
        ),
        "FedAdam": flower.FedAdam(initial_parameters=first, **options),
        "FedYogi": flower.FedYogi(initial_parameters=first, **options),
        "FedAdagrad": flower.FedAdagrad(initial_parameters=first, eta=0.1, tau=1e-3),
    }
    for name, strategy in made.items():
        parameters = start.copy()
        if name == "FedAvgM":
            strategy.initialize_parameters(SimpleNamespace())
        after = []
        for number, update in enumerate(updates, start=1):
            trained = common.ndarrays_to_parameters([parameters + update])
            answer = common.FitRes(common.Status(common.Code.OK, ""), trained, 1, {})
            merged, _ = strategy.aggregate_fit(number, [(SimpleNamespace(), answer)], [])
            parameters = common.parameters_to_ndarrays(merged)[0]
            after.append(parameters)
        yield name, np.stack(after)


def main(path: str) -> None:
    """Write the recording."""
    found: dict[str, Any] = {
        "versions": np.array([f"{name} {version(name)}" for name in ("byzfl", "flwr")])
    }
    for name, x, weights, f in cases():
        found |= {f"{name}/updates": x, f"{name}/weights": weights, f"{name}/faulty": np.array(f)}
        found |= {f"{name}/byzfl/{rule}": value for rule, value in of_byzfl(x, f)}
        found |= {f"{name}/flower/{rule}": value for rule, value in of_flower(x, weights, f)}
    found |= {f"optimizers/{name}": value for name, value in of_strategies()}
    np.savez_compressed(path, **found)


if __name__ == "__main__":
    main(sys.argv[1])
