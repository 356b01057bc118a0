"""What both learners do for a probe: meet observations, and move the policy by each update.

One environment for each of the order's seeds, stepped side by side; one whose episode ends begins
the next by itself, as in training. Axes: S seeds, N updates, P parameters of the policy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from provider_image.environments import make_environment
from provider_image.learners.base import LearnerRefused, Probe
from provider_image.learners.divergence import (
    MOST_DIVERGENCE,
    Decisions,
    divergence,
    measure_of,
)
from provider_image.wire import (
    MAX_PROBED_UPDATES,
    POLICY_PREFIX,
    ProbeOrder,
    Tensors,
    TensorSpec,
    WireError,
    check_tensors,
)

UPDATES_NAME = "updates"

ActTogether = Callable[[list[Any]], Sequence[Any]]
"""Actions, with the noise of training, for the present observations of all S environments."""


def met_observations(order: ProbeOrder, act: ActTogether) -> list[Any]:
    """The first `order.samples` observations: step by step, in each step by seed."""
    environments: list[Any] = []
    try:
        present = []
        for seed in order.seeds:
            environments.append(make_environment(order.environment))
            present.append(environments[-1].reset(seed=seed)[0])
        met = list(present)
        while len(met) < order.samples:
            present = [
                _after(environment, action)
                for environment, action in zip(environments, act(present), strict=True)
            ]
            met += present
    finally:
        for environment in environments:
            environment.close()
    return met[: order.samples]


def probe(
    received: Tensors, updates: Tensors, decide: Callable[[Tensors], Decisions | None]
) -> Probe:
    """Measure each update alone; `decide` gives a policy's decisions, None if it has none.

    Raises LearnerRefused if the received policy has none, WireError for updates that do not fit.
    """
    policy = {n: t for n, t in received.items() if n.startswith(POLICY_PREFIX)}
    base = decide(policy)
    if base is None or divergence(base, base) > 0:
        raise LearnerRefused(
            "the model's policy gives values that are not finite; nothing to probe"
        )
    divergences = [
        MOST_DIVERGENCE if decisions is None else divergence(base, decisions)
        for decisions in map(decide, _moved(policy, updates))
    ]
    return Probe(np.array(divergences, np.float64), measure_of(base))


def _after(environment: Any, action: Any) -> Any:
    observation, _, terminated, truncated, _ = environment.step(action)
    return environment.reset()[0] if terminated or truncated else observation


def _moved(policy: Tensors, updates: Tensors) -> Iterator[Tensors]:
    """The policy after each update alone, one at a time."""
    rows = updates.get(UPDATES_NAME)
    count = 0 if rows is None or rows.ndim != 2 else len(rows)
    if not 1 <= count <= MAX_PROBED_UPDATES:
        raise WireError(f"updates: must be 1 to {MAX_PROBED_UPDATES} rows float32[N, P]")
    size = sum(tensor.size for tensor in policy.values())
    check_tensors(updates, {UPDATES_NAME: TensorSpec("float32", (count, size))}, source="updates")
    for row in updates[UPDATES_NAME]:
        yield _added(policy, row)


def _added(policy: Tensors, row: npt.NDArray[Any]) -> Tensors:
    moved: Tensors = {}
    start = 0
    with np.errstate(over="ignore"):
        for name in sorted(policy):
            shape = policy[name].shape
            end = start + math.prod(shape)
            moved[name] = np.add(policy[name], row[start:end].reshape(shape), dtype=np.float32)
            start = end
    return moved
