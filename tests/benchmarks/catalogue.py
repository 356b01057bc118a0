"""Rates of the catalogue's kernels on one core, per second of its CPU time.

The speeds in native_kernels/CATALOGUE.md are what this printed on the machine named there.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from native_kernels import backends
from native_kernels._native import levels
from native_kernels.catalogue import KERNELS
from native_kernels.limits import best_rate, measure_limits

CLIENTS = 50
SIZES = (10_000, 1_000_000)


def of_clients(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what a kernel over updates is given, in words and as arguments."""
    own: dict[str, dict[str, Any]] = {
        "weighted_mean": {"weights": np.ones(CLIENTS)},
        "trimmed_mean": {"trim": CLIENTS // 5},
        "geometric_median": {"weights": np.ones(CLIENTS), "iterations": 8},
        "clip_norms": {"limit": 90.0},
    }
    for parameters in SIZES:
        random = np.random.default_rng(1)
        updates = random.standard_normal((CLIENTS, parameters), dtype=np.float32)
        yield f"{CLIENTS} x {parameters:,}", {"updates": updates, **own.get(name, {})}


def of_rollout(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield rollouts of SB3's default size and of many environments."""
    random = np.random.default_rng(1)
    for shape in ((2048, 1), (128, 64)):
        arguments: dict[str, Any] = {
            "rewards": random.standard_normal(shape, dtype=np.float32),
            "episode_starts": random.random(shape) < 0.01,
            "last_values": np.zeros(shape[1], dtype=np.float32),
            "last_dones": np.zeros(shape[1], dtype=bool),
            "gamma": 0.99,
        }
        if name == "generalized_advantages":
            arguments |= {"values": arguments["rewards"] / 2, "gae_lambda": 0.95}
        yield f"{shape[0]} x {shape[1]}", arguments


def of_statistics(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield observations, or moments of as many sets as there are clients."""
    random = np.random.default_rng(1)
    if name == "sample_moments":
        yield "2048 x 4", {"samples": random.standard_normal((2048, 4), dtype=np.float32)}
    else:
        means = random.standard_normal((CLIENTS, 64))
        counts = np.full(CLIENTS, 2048.0)
        yield f"{CLIENTS} x 64", {"means": means, "variances": means**2, "counts": counts}


def main() -> None:
    """Measure and print."""
    about = (__doc__ or "").partition("\n")[0]
    argparse.ArgumentParser(prog="scripts/bench catalogue", description=about).parse_args()
    limits = measure_limits()
    print(
        f"level {levels.in_force()}; multiply-add {limits.multiply_adds / 1e9:.0f} GFLOP/s, "
        f"read {limits.read / 1e9:.1f} GB/s, read from the second cache "
        f"{limits.cache_read / 1e9:.0f} GB/s"
    )
    for kernel in KERNELS:
        cases = of_clients
        if kernel.name in {"generalized_advantages", "discounted_returns"}:
            cases = of_rollout
        elif kernel.name.endswith("moments"):
            cases = of_statistics
        for what, arguments in cases(kernel.name):
            size = sum(value.nbytes for value in arguments.values() if hasattr(value, "nbytes"))
            function = backends.kernel(kernel.name, "cpu")
            rate = best_rate(partial(function, **arguments), size, seconds=0.3)
            print(f"{kernel.name:<24} {what:>16}  {rate / 1e9:6.2f} GB/s of input", flush=True)


if __name__ == "__main__":
    main()
