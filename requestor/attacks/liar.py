"""Carries an attack out: which order a liar has executed in place of its own, and what it answers.

No files, no network: orders and tensors in, orders and tensors out. Used by `lying_worker.py` and
by the virtual marketplace.

Limits: what a liar hands back as its client's state is what its work left, or it does the work.
An encoded update is decoded, replaced and encoded again, without feedback.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from provider_image.wire import (
    MAX_LINKS,
    MOMENTS_PREFIX,
    NORMALIZER_PREFIX,
    UPDATED_PREFIXES,
    Tensors,
    TrainOrder,
    TrainResult,
    WrapperSpec,
    compress,
    order_digest,
    restore,
    specs_of,
)
from requestor.attacks.catalogue import Attack
from requestor.attacks.vectors import Float32, View

_CLAIMED_STEPS = 10**12


class RefusesWork(Exception):
    """A liar that lets this order fail."""


@dataclass(frozen=True)
class Answer:
    """A result: the tensors of its bundle, and its metadata."""

    tensors: Tensors
    metadata: TrainResult


@dataclass(frozen=True)
class Company:
    """How many updates a round has, how many liars send some, and which of them this is."""

    clients: int
    liars: int
    number: int = 0


@dataclass
class Memory:
    """What a liar keeps from order to order: how many there were, its first result, models.

    models: by round, those of the last two as vectors `float32[P]`.
    """

    orders: int = 0
    first: Answer | None = None
    models: dict[int, Float32] = field(default_factory=dict)

    def last_step(self, number: int, model: Float32) -> Float32:
        """Take note of the model of a round; by how much it has moved since the one before."""
        before = self.models.get(number - 1)
        known = {} if before is None else {number - 1: before}
        self.models = {number: model, **known}
        return np.zeros_like(model) if before is None else model - before


@dataclass
class Liar:
    """One lying provider."""

    attack: Attack
    company: Company
    seed: int = 0
    memory: Memory = field(default_factory=Memory)

    def to_execute(self, order: TrainOrder) -> TrainOrder | None:
        """Return the order to have executed in place of `order`; None: no work is done.

        Raises:
            RefusesWork: it lets the order fail.
        """
        before, self.memory.orders = self.memory.orders, self.memory.orders + 1
        share = self.attack.fails
        if int(self.memory.orders * share) != int(before * share):
            raise RefusesWork("out of memory")
        if self.attack.replays and self.memory.first is None:
            return order
        # whoever must hand a state back works for it
        if self.attack.work == "none" and order.client_state_output is None:
            return None
        return _altered(order, self.attack)

    def honest_update(self, order: TrainOrder, model: Tensors, honest: Answer | None) -> Float32:
        """Return the update that was worked for as a vector, zeros if there was no work."""
        if honest is None:
            return np.zeros_like(flat(model))
        return flat(_decoded(order, model, honest.tensors))

    def answer(
        self,
        order: TrainOrder,
        model: Tensors,
        honest: Answer | None,
        seen: Sequence[Float32] = (),
    ) -> Answer:
        """Return what goes out for `order`.

        model: the tensors that the order names. honest: what the execution of `to_execute` gave.
        seen: the updates it knows of this round, in client order; its own where there are none.
        """
        attack = self.attack
        if attack.replays:
            first = self.memory.first or honest or _nothing(order, model, self.seed)
            self.memory.first = first
            return Answer(first.tensors, _claimed(order, first.metadata))
        made = honest or _nothing(order, model, self.seed)
        tensors: dict[str, NDArray[Any]] = dict(made.tensors)
        if attack.update is not None:
            own = self.honest_update(order, model, honest)
            view = self._view(order, model, own, seen)
            tensors = _with_update(order, model, tensors, attack.update(view))
        counts = _sample_counts(order) if attack.counts is None else None
        for name in tensors:
            if name.startswith(MOMENTS_PREFIX) and name.endswith("/count"):
                claimed = attack.counts if counts is None else counts[name.split("/")[1]]
                tensors[name] = np.array(claimed, dtype=np.float64)
        metadata = _claimed(order, made.metadata)
        if attack.counts is not None:
            metadata = replace(metadata, steps=_CLAIMED_STEPS)
        return Answer(tensors, metadata)

    def _view(
        self, order: TrainOrder, model: Tensors, own: Float32, seen: Sequence[Float32]
    ) -> View:
        return View(
            own=own,
            seen=np.stack(list(seen) or [own]),
            last=self.memory.last_step(order.round, flat(model)),
            clients=self.company.clients,
            liars=self.company.liars,
            item=self.company.number,
            seed=_seed(self.seed, "item", order.round, order.client),
            round_seed=_seed(self.seed, "round", order.round),
        )


def flat(tensors: Mapping[str, NDArray[Any]]) -> Float32:
    """Return what is merged of a model or an update as one vector `float32[P]`, names sorted."""
    parts = [tensors[name].reshape(-1) for name in _updated(tensors)]
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)


def _updated(tensors: Mapping[str, NDArray[Any]]) -> list[str]:
    return sorted(name for name in tensors if name.startswith(UPDATED_PREFIXES))


def _decoded(order: TrainOrder, model: Tensors, tensors: Tensors) -> Tensors:
    if order.compression is None:
        return tensors
    return restore(tensors, order.compression, specs_of(model), source="result")


def _with_update(
    order: TrainOrder, model: Tensors, tensors: Tensors, update: Float32
) -> dict[str, NDArray[Any]]:
    """Put a made-up update in place of the one in `tensors`."""
    others = {n: t for n, t in _decoded(order, model, tensors).items() if n not in _updated(model)}
    start = 0
    for name in _updated(model):
        stop = start + model[name].size
        others[name] = update[start:stop].reshape(model[name].shape)
        start = stop
    if order.compression is None:
        return others
    encoded, _ = compress(others, order.compression, order.seed, None)
    return encoded


def _altered(order: TrainOrder, attack: Attack) -> TrainOrder:
    if attack.wrapper is not None:
        environment = order.environment
        wrappers = (WrapperSpec(attack.wrapper), *environment.wrappers)
        return replace(order, environment=replace(environment, wrappers=wrappers))
    if attack.steps_share < 1.0:
        return _shortened(order, attack.steps_share)
    return order


def _shortened(order: TrainOrder, share: float) -> TrainOrder:
    """Return an order of fewer steps: fewer rollouts, or shorter ones where there is but one."""
    rollout = _rollout_steps(order)
    steps = int(order.local_steps * share) // rollout * rollout
    if steps:
        return replace(order, local_steps=steps)
    given = order.learner.hyperparameters
    n_steps = max(1, int(rollout // order.environment.n_envs * share))
    n_envs = order.environment.n_envs
    hyperparameters = {**given, "n_steps": n_steps}
    if isinstance(batch := given.get("batch_size"), int):
        hyperparameters["batch_size"] = max(1, min(batch, n_steps * n_envs))
    learner = replace(order.learner, hyperparameters=hyperparameters)
    return replace(order, learner=learner, local_steps=n_steps * n_envs)


def _rollout_steps(order: TrainOrder) -> int:
    usual = {"ppo": 2048, "a2c": 5}.get(order.learner.algorithm, 1)
    n_steps = order.learner.hyperparameters.get("n_steps", usual)
    return max(1, int(n_steps)) * order.environment.n_envs


def _nothing(order: TrainOrder, model: Tensors, seed: int) -> Answer:
    """Return a result without work: zeros, the normaliser's own moments, a made-up chain."""
    tensors: dict[str, NDArray[Any]] = {
        name: np.zeros_like(model[name]) for name in _updated(model)
    }
    for kind, count in _sample_counts(order).items():
        place = f"{NORMALIZER_PREFIX}{kind}/"
        if f"{place}mean" in model:
            claimed = f"{MOMENTS_PREFIX}{kind}/"
            tensors[f"{claimed}mean"] = model[f"{place}mean"]
            tensors[f"{claimed}var"] = model[f"{place}var"]
            tensors[f"{claimed}count"] = np.array(count, dtype=np.float64)
    if order.compression is not None:
        tensors, _ = compress(tensors, order.compression, order.seed, None)
    links = min(MAX_LINKS, max(1, order.local_steps // _rollout_steps(order)))
    metadata = TrainResult(
        order_sha256=order_digest(order),
        steps=order.local_steps,
        episodes=0,
        wall_seconds=1.0,
        cpu_seconds=1.0,
        links=tuple(
            hashlib.sha256(f"{seed}/{order.round}/{order.client}/{number}".encode()).hexdigest()
            for number in range(links)
        ),
    )
    return Answer(tensors, metadata)


def _claimed(order: TrainOrder, metadata: TrainResult) -> TrainResult:
    """Return metadata that say that `order` was done as it is; the hash chain stays as it was."""
    return replace(metadata, order_sha256=order_digest(order), steps=order.local_steps)


def _sample_counts(order: TrainOrder) -> dict[str, int]:
    return {
        "observation": order.local_steps + order.environment.n_envs,
        "return": order.local_steps,
    }


def _seed(seed: int, purpose: str, *indices: int) -> int:
    text = "\x1f".join(["derl-liar", str(seed), purpose, *map(str, indices)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
