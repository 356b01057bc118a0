"""The kernels that have a NumPy definition: what each is called, how closely it is met, examples.

``tests/native_kernels/test_parity.py`` holds every backend against the definitions by this table,
and ``CATALOGUE.md`` beside it (formulas, sources, speeds) is held against the table by a test.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from native_kernels import reference

__all__ = ["ELSEWHERE", "KERNELS", "SAME_BITS", "Elsewhere", "Kernel", "difference"]

Arguments = dict[str, Any]
Bound = Callable[[Arguments, NDArray[Any]], NDArray[np.float64]]
"""From arguments and the definition's result to the absolute error that each entry may have."""

SAME_BITS = "same bits"


@dataclass(frozen=True)
class Kernel:
    """One row. ``area`` is the module of native_kernels that has its face.

    tolerance: in words, ``SAME_BITS`` or what ``bound`` says.
    examples: arguments for the face, from a generator of random numbers.
    """

    name: str
    area: str
    definition: Callable[..., Any]
    tolerance: str
    examples: Callable[[np.random.Generator], Iterator[Arguments]]
    bound: Bound | None = None


@dataclass(frozen=True)
class Elsewhere:
    """A row for what has no NumPy definition of the same face: what it is held against, and where.

    tests: files below tests/native_kernels.
    """

    name: str
    tolerance: str
    tests: tuple[str, ...]


def difference(kernel: Kernel, arguments: Arguments, found: Any) -> str:
    """Say where ``found`` is not what ``kernel``'s definition gives for ``arguments``, or ""."""
    wanted = kernel.definition(**arguments)
    if not isinstance(wanted, tuple):
        wanted, found = (wanted,), (found,)
    for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
        problem = _unlike(np.asarray(one), np.asarray(other), kernel, arguments)
        if problem:
            return f"{kernel.name}: result {number} {problem}; allowed: {kernel.tolerance}"
    return ""


def _unlike(wanted: NDArray[Any], found: NDArray[Any], kernel: Kernel, arguments: Arguments) -> str:
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return f"is {found.dtype}{list(found.shape)}, must be {wanted.dtype}{list(wanted.shape)}"
    if wanted.tobytes() == found.tobytes():
        return ""
    if kernel.bound is None:
        return f"has other bits in {np.count_nonzero(wanted != found)} of {wanted.size} entries"
    error = np.abs(wanted.astype(np.float64) - found)
    allowed = kernel.bound(arguments, wanted)
    if (error <= allowed).all():
        return ""
    return f"is off by {float(error.max()):.3g}"


UPDATES_SHAPES = ((1, 1), (2, 33), (5, 1025), (33, 130), (50, 777), (70, 64))


def _updates(random: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    for shape in UPDATES_SHAPES:
        scales = 10.0 ** random.uniform(-3, 3, size=shape[1])
        yield (random.normal(size=shape) * scales).astype(np.float32)


def _plain(random: np.random.Generator) -> Iterator[Arguments]:
    for updates in _updates(random):
        yield {"updates": updates}


def _weighted(random: np.random.Generator) -> Iterator[Arguments]:
    for updates in _updates(random):
        yield {"updates": updates, "weights": random.uniform(0.1, 5.0, size=len(updates))}


def _trimmed(random: np.random.Generator) -> Iterator[Arguments]:
    for updates in _updates(random):
        for trim in sorted({0, len(updates) // 5, (len(updates) - 1) // 3}):
            yield {"updates": updates, "trim": trim}


def _clipped(random: np.random.Generator) -> Iterator[Arguments]:
    for updates in _updates(random):
        middle = float(np.median(np.linalg.norm(updates.astype(np.float64), axis=1)))
        yield {"updates": updates, "limit": max(middle, 1e-3)}


def _iterated(random: np.random.Generator) -> Iterator[Arguments]:
    for arguments in _weighted(random):
        yield {**arguments, "iterations": 5}
        start = np.zeros(arguments["updates"].shape[1], dtype=np.float32)
        yield {**arguments, "iterations": 3, "smoothing": 0.1, "start": start}


def _returns(random: np.random.Generator) -> Iterator[Arguments]:
    for steps, environments in ((1, 1), (50, 3), (64, 16), (9, 100)):
        shape = (steps, environments)
        yield {
            "rewards": random.normal(size=shape).astype(np.float32),
            "episode_starts": random.random(shape) < 0.1,
            "last_values": random.normal(size=environments).astype(np.float32),
            "last_dones": random.random(environments) < 0.3,
            "gamma": 0.99,
        }


def _advantages(random: np.random.Generator) -> Iterator[Arguments]:
    for arguments in _returns(random):
        values = random.normal(size=arguments["rewards"].shape).astype(np.float32)
        yield {**arguments, "values": values, "gae_lambda": 0.95}


def _moments(random: np.random.Generator) -> Iterator[Arguments]:
    for sets, columns in ((1, 1), (4, 17), (9, 3)):
        yield {
            "means": random.normal(size=(sets, columns)),
            "variances": random.uniform(0.0, 4.0, size=(sets, columns)),
            "counts": random.integers(0, 50, size=sets) + 1e-4,
        }


def _samples(random: np.random.Generator) -> Iterator[Arguments]:
    for shape in ((1, 1), (37, 4), (200, 33)):
        samples = random.normal(5.0, 3.0, size=shape)
        yield {"samples": samples}
        yield {"samples": samples.astype(np.float32)}


def _summing_error(arguments: Arguments, wanted: NDArray[Any]) -> NDArray[np.float64]:
    updates, trim = arguments["updates"], arguments["trim"]
    kept = np.sort(updates, axis=0)[trim : len(updates) - trim]
    magnitude = np.abs(kept.astype(np.float64)).mean(axis=0)
    return np.asarray((len(updates) + 1) * 2.0**-24 * magnitude)


def _of_distances(arguments: Arguments, wanted: NDArray[Any]) -> NDArray[np.float64]:
    return 5e-6 * wanted


KERNELS = (
    Kernel(
        "generalized_advantages",
        "advantages",
        reference.generalized_advantages,
        SAME_BITS,
        _advantages,
    ),
    Kernel("discounted_returns", "advantages", reference.discounted_returns, SAME_BITS, _returns),
    Kernel("sample_moments", "aggregation", reference.sample_moments, SAME_BITS, _samples),
    Kernel("merge_moments", "aggregation", reference.merge_moments, SAME_BITS, _moments),
    Kernel("weighted_mean", "aggregation", reference.weighted_mean, SAME_BITS, _weighted),
    Kernel("coordinate_median", "aggregation", reference.coordinate_median, SAME_BITS, _plain),
    Kernel(
        "trimmed_mean",
        "aggregation",
        reference.trimmed_mean,
        "(N + 1) · 2⁻²⁴ of the mean magnitude kept",
        _trimmed,
        _summing_error,
    ),
    Kernel(
        "squared_distances",
        "aggregation",
        reference.squared_distances,
        "5 · 10⁻⁶ relative",
        _plain,
        _of_distances,
    ),
    Kernel("geometric_median", "aggregation", reference.geometric_median, SAME_BITS, _iterated),
    Kernel("norms", "aggregation", reference.norms, SAME_BITS, _plain),
    Kernel("clip_norms", "aggregation", reference.clip_norms, SAME_BITS, _clipped),
)
"""In the order of ``CATALOGUE.md``."""

ELSEWHERE = (
    Elsewhere("exp", "1.2 · 10⁻⁷ relative", ("test_elementary.py",)),
    Elsewhere("log", "10⁻⁷ near 1, 1.2 · 10⁻⁷ relative elsewhere", ("test_elementary.py",)),
    Elsewhere("tanh", "3 · 10⁻⁷", ("test_elementary.py",)),
    Elsewhere("sine, cosine", "1.2 · 10⁻⁷ for |x| ≤ 1000", ("test_elementary.py",)),
    Elsewhere("philox", SAME_BITS, ("test_philox.py",)),
    Elsewhere("encode", SAME_BITS, ("test_codecs.py",)),
    Elsewhere("decode", SAME_BITS, ("test_codecs.py", "test_codecs_hostile.py")),
    Elsewhere("BatchEnvironment, exact", "10⁻¹² of a state", ("test_environments_lockstep.py",)),
    Elsewhere(
        "BatchEnvironment, float32",
        "2 · 10⁻⁷ to 4 · 10⁻⁶ of a state a step",
        ("test_environments_lockstep.py",),
    ),
    Elsewhere("Ppo.act, Ppo.values", "2 · 10⁻⁶ relative", ("ppo/test_forward.py",)),
    Elsewhere("Ppo.gradient", "10⁻⁵ relative", ("ppo/test_update.py",)),
    Elsewhere("Ppo.update", "10⁻⁵ relative", ("ppo/test_update.py",)),
    Elsewhere("Ppo.update, drift", "10⁻⁵ relative", ("ppo/test_drift.py",)),
    Elsewhere("Collector.collect", SAME_BITS, ("test_rollouts.py",)),
    Elsewhere("Collector.resume, BatchEnvironment.resume", SAME_BITS, ("test_resuming.py",)),
)
"""In the order of ``CATALOGUE.md``."""
