"""What encoding an update saves, costs, and does to learning.

Size and time: the update of one round of PPO at SB3's defaults, 2x64 tanh on CartPole. Learning: a
federation in this process, merged as the product merges, until the global model's mean return over
100 greedy episodes is 475; each codec on the same seeds as plain float32, compared by ranks.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from native_kernels.aggregation import weighted_mean
from native_kernels.environments import BatchEnvironment
from native_kernels.ppo import PolicyShape, Ppo, PpoSettings, orthogonal_parameters
from native_kernels.rollouts import Collector
from provider_image.wire import (
    ENCODED_NAME,
    CompressionSpec,
    Tensors,
    TensorSpec,
    compress,
    restore,
)
from provider_image.wire.compression import decode_update, encode_update
from tests.benchmarks.measuring import Options, Row, main, rates
from tests.benchmarks.time_to_target import rank_test

Vector = NDArray[np.float32]

SHAPE = PolicyShape(4, 2)
SETTINGS = PpoSettings()  # SB3's defaults
MODEL = {f"policy/{name}": TensorSpec("float32", shape) for name, shape in SHAPE.tensors.items()}
PLAIN_BYTES = 4 * SHAPE.parameter_count
CLIENTS, ENVIRONMENTS, STEPS = 8, 2, 256
"""Each client's round: one rollout of STEPS steps in ENVIRONMENTS environments, one update."""

TARGET, LIMIT = 475.0, 60
EPISODES, JUDGE_SEED = 100, 20_240_601
CODECS: Mapping[str, CompressionSpec | None] = MappingProxyType(
    {
        "float32": None,
        "fp16": CompressionSpec("fp16", rounding="nearest"),
        "int8": CompressionSpec("int8"),
        "int4": CompressionSpec("int4"),
        "int4, feedback": CompressionSpec("int4", rounding="nearest", feedback=True),
        "top 10 %": CompressionSpec("topk", 0.1, "nearest"),
        "top 10 %, feedback": CompressionSpec("topk", 0.1, "nearest", True),
        "top 15 %, feedback": CompressionSpec("topk", 0.15, "nearest", True),
    }
)
GOAL_BYTES = {"int8": 9_000, "int4, feedback": 3_000, "top 15 %, feedback": 3_000}
GOAL_SECONDS = 1e-4


def cut(parameters: Vector) -> Tensors:
    """Return the tensors of float32[P], which has them in SB3's order."""
    tensors: Tensors = {}
    start = 0
    for name, spec in MODEL.items():
        stop = start + spec.nbytes // 4
        tensors[name] = parameters[start:stop].reshape(spec.shape)
        start = stop
    return tensors


def join(tensors: Tensors) -> Vector:
    """Return float32[P], the inverse of `cut`."""
    return np.concatenate([tensors[name].reshape(-1) for name in MODEL])


def local_round(parameters: Vector, seed: int, environments: int, steps: int) -> Vector:
    """Return the update float32[P] of one rollout and one PPO update, from fresh environments."""
    ppo = Ppo(SHAPE, parameters)
    collector = Collector(ppo, BatchEnvironment("CartPole-v1", environments, seed=seed), seed=seed)
    ppo.update(collector.collect(steps, gamma=0.99, gae_lambda=0.95), SETTINGS, seed=seed)
    return np.subtract(ppo.parameters, parameters, dtype=np.float32)


def mean_return(parameters: Vector) -> float:
    """Return the mean of EPISODES greedy episodes from starts that never change."""
    ppo = Ppo(SHAPE, parameters)
    environment = BatchEnvironment("CartPole-v1", EPISODES, seed=JUDGE_SEED)
    observations = environment.reset()
    is_alive = np.ones(EPISODES, dtype=np.bool_)
    total = 0
    for _ in range(environment.facts.max_episode_steps):
        total += int(is_alive.sum())
        observations, _, terminated, _ = environment.step(ppo.best_actions(observations))
        is_alive &= ~terminated
        if not is_alive.any():
            break
    return total / EPISODES


def rounds_to_target(spec: CompressionSpec | None, seed: int) -> tuple[int, int]:
    """Return after how many rounds (at most LIMIT + 1) the model is good, and the bytes sent."""
    parameters = orthogonal_parameters(SHAPE, seed)
    owed: dict[int, Vector | None] = dict.fromkeys(range(CLIENTS))
    sent = 0
    for done in range(1, LIMIT + 1):
        updates = []
        for client in range(CLIENTS):
            order_seed = (seed << 20) + (done << 8) + client
            update = local_round(parameters, order_seed, ENVIRONMENTS, STEPS)
            sent += PLAIN_BYTES
            if spec is not None:
                encoded, owed[client] = compress(cut(update), spec, order_seed, owed[client])
                update = join(restore(encoded, spec, MODEL))
                sent += encoded[ENCODED_NAME].nbytes - PLAIN_BYTES
            updates.append(update)
        parameters = parameters + weighted_mean(np.stack(updates), np.ones(CLIENTS))
        if mean_return(parameters) >= TARGET:
            return done, sent
    return LIMIT + 1, sent


def sizes_and_times(options: Options) -> Iterator[Row]:
    """Yield bytes on the wire and CPU time each way, the median of updates of several seeds."""
    fresh = [orthogonal_parameters(SHAPE, seed) for seed in range(options.extra["updates"])]
    updates = [local_round(parameters, seed, 1, 2048) for seed, parameters in enumerate(fresh)]
    ordered = [
        np.concatenate([cut(u)[name].reshape(-1) for name in sorted(MODEL)]) for u in updates
    ]
    for name, spec in CODECS.items():
        if spec is None:
            continue
        sizes = [len(encode_update(update, spec, seed)) for seed, update in enumerate(ordered)]
        goal = GOAL_BYTES.get(name)
        yield Row(
            f"bytes of an update, {name}",
            statistics.median(sizes),
            PLAIN_BYTES,
            "float32",
            "bytes",
            None if goal is None else PLAIN_BYTES / goal,
            lower=True,
            note=f"{min(sizes):,} to {max(sizes):,} bytes over {len(sizes)} seeds",
        )
        yield from times(ordered[0], spec, options)


def times(update: Vector, spec: CompressionSpec, options: Options) -> Iterator[Row]:
    """Yield CPU time each way."""
    encoded = encode_update(update, spec, 0)

    def encode() -> None:
        encode_update(update, spec, 0)

    def decode() -> None:
        decode_update(encoded, spec, len(update))

    measured = rates({"encode": (encode, 1.0), "decode": (decode, 1.0)}, options)
    for way, rate in measured.items():
        yield Row(f"  {way}", 1 / rate, GOAL_SECONDS, "0.1 ms", "CPU-s", 1.0, lower=True)


def learning(options: Options) -> Iterator[Row]:
    """Yield rounds to the target beside those of float32."""
    seeds = range(1, options.extra["seeds"] + 1)
    found = {name: [rounds_to_target(spec, s) for s in seeds] for name, spec in CODECS.items()}
    plain = [rounds for rounds, _ in found.pop("float32")]
    for name, results in found.items():
        rounds = [count for count, _ in results]
        chance = rank_test(rounds, plain)
        is_worse = sum(rounds) > sum(plain)
        solved = sum(count <= LIMIT for count in rounds)
        each = statistics.median(sent / (CLIENTS * min(count, LIMIT)) for count, sent in results)
        yield Row(
            f"rounds to 475, {name}",
            statistics.median(rounds),
            statistics.median(plain),
            "float32",
            "rounds",
            lower=True,
            note=f"mean {statistics.mean(rounds):.1f} beside {statistics.mean(plain):.1f}, "
            f"{min(rounds)} to {max(rounds)} beside {min(plain)} to {max(plain)}, solved {solved} "
            f"of {len(rounds)}; p = {chance:.2f}: "
            f"{'WORSE' if is_worse and chance < 0.05 else 'not worse'}; "
            f"{each:,.0f} bytes an update",
        )


def rows(options: Options) -> Iterator[Row]:
    """Yield the rows."""
    yield from sizes_and_times(options)
    yield from learning(options)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes."""
    parser.add_argument("--seeds", type=int, default=30, help="of the federation, for each codec")
    parser.add_argument("--updates", type=int, default=20, help="whose sizes are measured")


if __name__ == "__main__":
    main("compression", __doc__, rows, configure=configure)
