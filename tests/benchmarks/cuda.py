"""The CUDA kernels against the limits of the card: occupancy, bandwidth, rates.

    scripts/bench cuda [--quick] [--device 0]

Times are the device's own (events), medians of several runs after a first one that does not count.
The card's limits are what its clocks, bus and cores say, not what anything has reached. Where there
is no device it says so and measures nothing.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from native_kernels import cuda
from native_kernels.codecs import Codec
from native_kernels.cuda.library import require_device
from native_kernels.environments import ENVIRONMENTS
from native_kernels.ppo import PolicyShape, Ppo

RUNS = 7
# float32 units of a multiprocessor by compute capability; others are taken to have 128
UNITS = {75: 64, 80: 64, 86: 128, 89: 128, 90: 128}


@dataclass(frozen=True)
class Limits:
    """What the card can do at most: bytes and float32 operations (two in an fma) per second."""

    bandwidth: float
    operations: float


def limits_of(facts: dict[str, Any]) -> Limits:
    """Clocks are in kHz; memory moves data on both edges of its clock."""
    units = facts["multiprocessors"] * UNITS.get(facts["compute_capability"], 128)
    return Limits(
        bandwidth=2 * facts["memory_clock_khz"] * 1e3 * facts["memory_bus_bits"] / 8,
        operations=2 * units * facts["clock_khz"] * 1e3,
    )


def occupancies(facts: dict[str, Any], kernels: list[dict[str, Any]]) -> Iterator[str]:
    """One line for each kernel: what it takes and how full a multiprocessor can be of it."""
    yield f"{'kernel':<34}{'registers':>10}{'local B':>9}{'shared B':>10}{'threads':>9}{'full':>7}"
    for kernel in kernels:
        threads = kernel["blocks_per_multiprocessor"] * kernel["threads"]
        share = threads / facts["threads_per_multiprocessor"]
        yield (
            f"{kernel['name']:<34}{kernel['registers']:>10}{kernel['local_bytes']:>9}"
            f"{kernel['shared_bytes']:>10}{kernel['threads']:>9}{share:>7.0%}"
        )


def seconds_of(work: Callable[[], object], device: int) -> float:
    """Median seconds on the default stream."""
    module = require_device()
    watch, place = module.Stopwatch(), module.Place(device, 1)
    times: list[float] = []
    for _ in range(RUNS + 1):
        watch.start(place)
        work()
        times.append(watch.stop(place))
    return statistics.median(times[1:])


def aggregation(device: int, limits: Limits, clients: int, parameters: int) -> Iterator[str]:
    """Kernels that read N x P once, or all but once."""
    random = np.random.default_rng(1)
    updates = cuda.to_device(
        random.standard_normal((clients, parameters), dtype=np.float32), device=device
    )
    out = cuda.to_device(np.zeros(parameters, np.float32), device=device)
    pairs = cuda.to_device(np.zeros((clients, clients)), device=device)
    clipped = cuda.to_device(np.zeros((clients, parameters), np.float32), device=device)
    norms = cuda.to_device(np.zeros(clients), device=device)
    weights = np.ones(clients)
    size = 4 * clients * parameters
    cases: dict[str, tuple[Callable[[], object], int]] = {
        "weighted_mean": (lambda: cuda.weighted_mean(updates, weights, out=out), size),
        "coordinate_median": (lambda: cuda.coordinate_median(updates, out=out), size),
        "trimmed_mean": (lambda: cuda.trimmed_mean(updates, clients // 5, out=out), size),
        "squared_distances": (lambda: cuda.squared_distances(updates, out=pairs), size),
        "clip_norms": (lambda: cuda.clip_norms(updates, 1.0, out=(clipped, norms)), 3 * size),
    }
    for name, (work, moved) in cases.items():
        yield bandwidth(
            f"{name} {clients} x {parameters:,}", seconds_of(work, device), moved, limits
        )


def codecs(device: int, limits: Limits, count: int) -> Iterator[str]:
    """Encoding and decoding; bytes read and written."""
    random = np.random.default_rng(1)
    update = cuda.to_device(random.standard_normal(count, dtype=np.float32), device=device)
    decoded = cuda.to_device(np.zeros(count, np.float32), device=device)
    for codec in (Codec("fp16"), Codec("int8"), Codec("int4")):
        payload = cuda.encode(update, codec)
        moved = 4 * count + payload.shape[0]
        for name, work in (
            ("encode", lambda: cuda.encode(update, codec, out=payload)),  # noqa: B023 called here
            ("decode", lambda: cuda.decode(payload, codec, count, out=decoded)),  # noqa: B023
        ):
            yield bandwidth(
                f"{name} {codec.name} {count:,}", seconds_of(work, device), moved, limits
            )


def advantages(device: int, limits: Limits, steps: int, count: int) -> Iterator[str]:
    """Three arrays read, two written, and the flags."""
    floats = [cuda.to_device(np.ones((steps, count), np.float32), device=device) for _ in range(4)]
    starts = cuda.to_device(np.zeros((steps, count), np.bool_), device=device)
    last = cuda.to_device(np.ones(count, np.float32), device=device)
    dones = cuda.to_device(np.zeros(count, np.bool_), device=device)

    def work() -> object:
        return cuda.generalized_advantages(
            floats[0], floats[1], starts, last, dones, 0.99, 0.95, out=(floats[2], floats[3])
        )

    moved = steps * count * (4 * 4 + 1)
    name = f"generalized_advantages {steps} x {count:,}"
    yield bandwidth(name, seconds_of(work, device), moved, limits)


def stepping(device: int, count: int) -> Iterator[str]:
    """Steps per second of each environment, actions from the device."""
    for name, facts in ENVIRONMENTS.items():
        environment = cuda.BatchEnvironment(name, count, device=device)
        environment.reset()
        actions: Any = np.zeros(count, np.int64)
        if not facts.n_actions:
            actions = np.zeros((count, facts.action_size), np.float32)
        there = cuda.to_device(actions, device=device)
        seconds = seconds_of(lambda: environment.step(there), device)  # noqa: B023 called here
        yield f"{f'step {name} x {count:,}':<44}{count / seconds / 1e6:>12,.1f} M steps/s"


def rollouts(device: int, limits: Limits, count: int, steps: int) -> Iterator[str]:
    """CartPole under two networks of 2 x 64, against the card's fused operations."""
    shape = PolicyShape(4, 2)
    random = np.random.default_rng(1)
    weights = random.normal(scale=0.1, size=shape.parameter_count).astype(np.float32)
    environment = cuda.BatchEnvironment("CartPole-v1", count, device=device)
    environment.reset()
    collector = cuda.Collector(Ppo(shape, weights), environment, seed=1)
    seconds = seconds_of(lambda: collector.collect(steps, gamma=0.99, gae_lambda=0.95), device)
    rate = count * steps / seconds
    operations = 2 * sum(
        int(np.prod(tensor)) for name, tensor in shape.tensors.items() if name.endswith("weight")
    )
    share = rate * operations / limits.operations
    name = f"rollout 2x64 {steps} x {count:,}"
    yield f"{name:<44}{rate / 1e6:>12,.1f} M steps/s {share:>7.1%} of the card's fma"


def bandwidth(name: str, seconds: float, moved: int, limits: Limits) -> str:
    """Give one line."""
    rate = moved / seconds
    share = rate / limits.bandwidth
    return f"{name:<44}{rate / 1e9:>12,.1f} GB/s {share:>12.1%} of the card's bandwidth"


def lines(device: int, quick: bool) -> Iterator[str]:
    """Yield the whole report."""
    state = cuda.status()
    if not state.startswith("ready"):
        yield f"{state}; nothing was measured"
        return
    module = require_device()
    facts = module.describe(device)
    limits = limits_of(facts)
    yield (
        f"{facts['name']}, {facts['multiprocessors']} multiprocessors, at most "
        f"{limits.bandwidth / 1e9:,.0f} GB/s and {limits.operations / 1e12:,.1f} TFLOP/s in float32"
    )
    yield from occupancies(facts, module.kernel_facts(device))
    scale = 1000 if quick else 1
    yield from aggregation(device, limits, 50, 1_000_000 // scale)
    yield from codecs(device, limits, 16_000_000 // scale)
    yield from advantages(device, limits, 2048 if not quick else 8, 4096 // min(scale, 64))
    for count in (1024, 65_536, 1_048_576):
        yield from stepping(device, max(1, count // scale))
    for count in (1024, 16_384, 131_072):
        yield from rollouts(device, limits, max(1, count // scale), 128 if not quick else 4)


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench cuda", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--device", type=int, default=0, help="number of the device")
    parser.add_argument("--quick", action="store_true", help="small arrays: does it run at all?")
    chosen = parser.parse_args()
    for line in lines(chosen.device, chosen.quick):
        print(line, flush=True)


if __name__ == "__main__":
    main()
