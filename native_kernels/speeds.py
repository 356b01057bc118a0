"""How fast the kernels run here, each as a share of the limit that bounds it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from native_kernels import advantages, aggregation, codecs
from native_kernels.environments import BatchEnvironment
from native_kernels.limits import Limits, best_rate
from native_kernels.ppo import PolicyShape, Ppo, PpoSettings
from native_kernels.rollouts import Collector

__all__ = ["Speed", "forward_operations", "measure_speeds", "update_operations"]


@dataclass(frozen=True)
class Speed:
    """A kernel's rate in ``unit`` per second and what share of the limit ``bound`` that is."""

    kernel: str
    rate: float
    unit: str
    bound: str
    share: float


def _networks(shape: PolicyShape) -> list[list[int]]:
    return [
        [shape.observation_size, *shape.pi, shape.action_size],
        [shape.observation_size, *shape.vf, 1],
    ]


def forward_operations(shape: PolicyShape) -> int:
    """Multiplications and additions of both networks' matrices for one observation."""
    return sum(2 * a * b for sizes in _networks(shape) for a, b in pairwise(sizes))


def update_operations(shape: PolicyShape) -> int:
    """The same for one sample of an update.

    Forward, gradient of the weights, and gradient of every layer's input but the first.
    """
    first = sum(2 * sizes[0] * sizes[1] for sizes in _networks(shape))
    return 3 * forward_operations(shape) - first


def measure_speeds(limits: Limits, seconds: float) -> Iterator[Speed]:
    """Measure at the level in force, one thread; ``seconds`` of CPU time for each kernel.

    Peak memory is about 100 MB.
    """
    yield from _learning(limits, seconds)
    yield from _merging(limits, seconds)


def _learning(limits: Limits, seconds: float) -> Iterator[Speed]:
    environment = BatchEnvironment("CartPole-v1", 1024, seed=1)
    environment.reset()
    actions = np.random.default_rng(1).integers(0, 2, 1024)
    rate = best_rate(lambda: environment.step(actions), 1024, seconds=seconds)
    # read: action and state; written: state, observation, reward, two flags
    moved = 8 + 4 * 4 + 4 * 4 + 4 * 4 + 4 + 2
    share = rate * moved / limits.cache_read
    yield Speed("CartPole step, 1024 at once", rate, "steps", "cache read", share)

    shape = PolicyShape(4, 2)
    weights = np.random.default_rng(1).standard_normal(shape.parameter_count) / 8
    ppo = Ppo(shape, weights.astype(np.float32))
    collector = Collector(ppo, BatchEnvironment("CartPole-v1", 64, seed=1), seed=1)
    collect = partial(collector.collect, 32, gamma=0.99, gae_lambda=0.95)
    rate = best_rate(collect, 64 * 32, seconds=seconds)
    share = rate * forward_operations(shape) / limits.multiply_adds
    yield Speed("rollout 2x64, 64 at once", rate, "steps", "multiply-add", share)

    rollout = collect()
    settings = PpoSettings(learning_rate=3e-4, clip_range=0.2, batch_size=64, n_epochs=1)
    rate = best_rate(
        lambda: Ppo(shape, ppo.parameters).update(rollout, settings), 64 * 32, seconds=seconds
    )
    share = rate * update_operations(shape) / limits.multiply_adds
    yield Speed("update 2x64, batch 64", rate, "samples", "multiply-add", share)

    starts = np.zeros((32, 64), dtype=bool)
    last_values, last_dones = np.zeros(64, dtype=np.float32), np.zeros(64, dtype=bool)
    rate = best_rate(
        lambda: advantages.generalized_advantages(
            rollout.values, rollout.values, starts, last_values, last_dones, 0.99, 0.95
        ),
        64 * 32,
        seconds=seconds,
    )
    # read: reward, value, start; written: advantage, return
    yield Speed("advantages", rate, "steps", "cache read", rate * 17 / limits.cache_read)


def _merging(limits: Limits, seconds: float) -> Iterator[Speed]:
    random = np.random.default_rng(1).standard_normal((50, 10_000), dtype=np.float32)
    # 80 MB: beyond the caches of most
    updates = np.tile(random, 40)
    weights = np.ones(50)
    kernels: dict[str, Callable[[], object]] = {
        "weighted mean": lambda: aggregation.weighted_mean(updates, weights),
        "coordinate median": lambda: aggregation.coordinate_median(updates),
        "trimmed mean": lambda: aggregation.trimmed_mean(updates, 10),
    }
    for name, run in kernels.items():
        rate = best_rate(run, updates.nbytes, seconds=seconds)
        yield Speed(f"{name}, 50 clients", rate, "B", "memory read", rate / limits.read)
    distances = partial(aggregation.squared_distances, updates)
    # every pair once: a multiplication and an addition for each parameter
    operations = 50 * 49 * updates.shape[1]
    rate = best_rate(distances, operations, seconds=seconds)
    share = rate / limits.multiply_adds
    yield Speed("distances, 50 clients", rate, "FLOP", "multiply-add", share)
    update = random[0]
    for name, codec in {"fp16": codecs.Codec("fp16"), "int8": codecs.Codec("int8")}.items():
        rate = best_rate(partial(codecs.encode, update, codec), update.nbytes, seconds=seconds)
        share = rate / limits.cache_read
        yield Speed(f"encode {name}", rate, "B", "cache read", share)
        payload = codecs.encode(update, codec)
        decode = partial(codecs.decode, payload, codec, update.size)
        rate = best_rate(decode, update.nbytes, seconds=seconds)
        share = rate / limits.cache_read
        yield Speed(f"decode {name}", rate, "B", "cache read", share)
