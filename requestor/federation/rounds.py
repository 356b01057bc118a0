"""One federated round: `plan_round` says what shall be done, `close_round` merges what was done.

Both are pure. A work item belongs to a *client* (a virtual worker with a seed of its own), not to
a provider: providers decide when an item is done, never what it is. So the same config and seed
give the same model whoever did the work and in whichever order it came back.

Read next: `requestor/training_run/run_loop.py`, which calls these two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from native_kernels.aggregation import merge_moments
from provider_image.wire import MOMENTS_PREFIX, NORMALIZER_PREFIX
from requestor.federation.aggregation import AggregationRule, ServerOptimizer
from requestor.federation.model import (
    NORMALIZER_KINDS,
    Tensors,
    averaged_names,
    flatten,
    unflatten,
)
from requestor.federation.seeds import derive_seed


class QuorumMissed(RuntimeError):
    """Fewer updates than the quorum came back; nothing was merged."""


@dataclass(frozen=True)
class FederationSettings:
    """The numbers that define every round of a run."""

    run_seed: int
    rounds: int
    clients: int
    local_steps: int
    quorum: int
    merges_normalizer: bool = True


@dataclass(frozen=True, order=True)
class WorkItem:
    """One client's share of one round."""

    round: int
    client: int
    seed: int
    local_steps: int
    steps_done: int
    steps_total: int


@dataclass(frozen=True)
class RoundPlan:
    """What one round consists of, in client order."""

    round: int
    items: tuple[WorkItem, ...]
    quorum: int
    merges_normalizer: bool = True


@dataclass(frozen=True)
class ClientUpdate:
    """A screened answer to one work item.

    `tensors` hold the update (trained minus received, float32) of every averaged array of the
    model, and the normaliser moments of this round's own samples (float64). `voice` is who it
    counts as: the wallet of the provider that did the work, or its node.
    """

    item: WorkItem
    tensors: Tensors
    voice: str = ""


@dataclass(frozen=True)
class RoundOutcome:
    """The candidate for the next global model, and whose work is in it."""

    candidate: dict[str, np.ndarray]
    merged_clients: tuple[int, ...]
    steps: int


def plan_round(settings: FederationSettings, round_index: int) -> RoundPlan:
    """Return the work items of round `round_index` (from 0)."""
    items = tuple(
        WorkItem(
            round=round_index,
            client=client,
            seed=derive_seed(settings.run_seed, "client", round_index, client),
            local_steps=settings.local_steps,
            steps_done=round_index * settings.local_steps,
            steps_total=settings.rounds * settings.local_steps,
        )
        for client in range(settings.clients)
    )
    return RoundPlan(round_index, items, settings.quorum, settings.merges_normalizer)


def close_round(
    plan: RoundPlan,
    model: Tensors,
    updates: Sequence[ClientUpdate],
    rule: AggregationRule,
    optimizer: ServerOptimizer,
) -> RoundOutcome:
    """Merge the updates of one round, in client order, into a candidate model.

    Raises:
        QuorumMissed: there are fewer updates than `plan.quorum`.
        ValueError: two updates are of the same client, or one is of another round.
    """
    ordered = sorted(updates, key=lambda update: update.item.client)
    clients = tuple(update.item.client for update in ordered)
    if len(set(clients)) != len(clients):
        raise ValueError("two updates are of the same client")
    if any(update.item.round != plan.round for update in ordered):
        raise ValueError(f"an update is not of round {plan.round}")
    if len(ordered) < plan.quorum:
        raise QuorumMissed(
            f"round {plan.round + 1}: {len(ordered)} of {len(plan.items)} clients' updates are in, "
            f"the quorum is {plan.quorum}"
        )
    names = averaged_names(model)
    stacked = np.stack([flatten(update.tensors, names) for update in ordered])
    weights = np.array([update.item.local_steps for update in ordered], dtype=np.float64)
    parameters = optimizer.step(flatten(model, names), rule(stacked, weights))
    candidate: dict[str, np.ndarray] = {name: np.array(array) for name, array in model.items()}
    candidate.update(unflatten(parameters, model, names))
    if plan.merges_normalizer:
        candidate.update(_merged_normalizer(model, ordered))
    return RoundOutcome(candidate, clients, sum(update.item.local_steps for update in ordered))


def _merged_normalizer(model: Tensors, updates: Sequence[ClientUpdate]) -> Mapping[str, np.ndarray]:
    """Pool the global running statistics with every client's own, exactly (Chan et al. 1979)."""
    merged: dict[str, np.ndarray] = {}
    for kind in NORMALIZER_KINDS:
        prefix = f"{NORMALIZER_PREFIX}{kind}/"
        if f"{prefix}mean" not in model:
            continue
        moments = [update.tensors for update in updates]
        if f"{MOMENTS_PREFIX}{kind}/mean" not in moments[0]:
            continue
        parts = [(model, prefix), *((tensors, f"{MOMENTS_PREFIX}{kind}/") for tensors in moments)]
        means = np.stack([_row(tensors[f"{at}mean"]) for tensors, at in parts])
        variances = np.stack([_row(tensors[f"{at}var"]) for tensors, at in parts])
        counts = np.array([float(tensors[f"{at}count"]) for tensors, at in parts])
        mean, variance, count = merge_moments(means, variances, counts)
        shape = model[f"{prefix}mean"].shape
        merged[f"{prefix}mean"] = mean.reshape(shape)
        merged[f"{prefix}var"] = variance.reshape(shape)
        merged[f"{prefix}count"] = np.array(count, dtype=np.float64)
    return merged


def _row(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=np.float64).reshape(-1)
