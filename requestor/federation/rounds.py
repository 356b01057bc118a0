"""One federated round: `plan_round` says what shall be done, `close_round` merges what was done.

Both are pure. A work item belongs to a *client* (a virtual worker with a seed of its own), not to
a provider: providers decide when an item is done, never what it is. So the same config and seed
give the same model whoever did the work and in whichever order it came back.

Read next: `requestor/training_run/run_loop.py`, which calls these two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from provider_image.wire import CONTROL_PREFIX, MOMENTS_PREFIX, NORMALIZER_PREFIX, OPTIMIZER_PREFIX
from requestor.federation.gradient_rounds import GradientMethod, GradientRound
from requestor.federation.merging.merger import Merger, pool_voices
from requestor.federation.merging.protocol import MergeContext, State, TooManyFaulty
from requestor.federation.merging.statistics import Moments, pooled, robust
from requestor.federation.model import (
    NORMALIZER_KINDS,
    Tensors,
    averaged_names,
    flatten,
    unflatten,
)
from requestor.federation.seeds import derive_seed
from requestor.federation.voices import TRUSTING, VoicePlan

LEARNED = "learned"
"""The part of a model that the server's optimizer moves: all that is no other part below."""

_OTHER_PARTS = {"moments": OPTIMIZER_PREFIX, "control": CONTROL_PREFIX}


class QuorumMissed(RuntimeError):
    """Fewer updates than the quorum came back; nothing was merged."""


@dataclass(frozen=True)
class FederationSettings:
    """The numbers that define every round of a run.

    With a `method` clients estimate gradients; `local_steps` is then the most that a round's
    episodes may have.
    """

    run_seed: int
    rounds: int
    clients: int
    local_steps: int
    quorum: int
    merges_normalizer: bool = True
    voices: VoicePlan = TRUSTING
    method: GradientMethod | None = None


@dataclass(frozen=True, order=True)
class WorkItem:
    """One client's share of one round; `episodes` and `is_difference` where it is an estimate."""

    round: int
    client: int
    seed: int
    local_steps: int
    steps_done: int
    steps_total: int
    episodes: int = 0
    is_difference: bool = False


@dataclass(frozen=True)
class RoundPlan:
    """What one round consists of, in client order.

    `gradient`: what clients estimate, where they do. `voices`: how many of its updates may be bad.
    `merge_seed`: of the merge's random numbers.
    """

    round: int
    items: tuple[WorkItem, ...]
    quorum: int
    merges_normalizer: bool = True
    voices: VoicePlan = TRUSTING
    merge_seed: int = 0
    gradient: GradientRound | None = None


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
    """The candidate for the next global model, and whose work is in it.

    `left_out`: the clients of `merged_clients` of whose updates the rule kept nothing, where rules
    keep or leave whole updates. `state`: what rule and optimizer hand to the next round.
    """

    candidate: dict[str, np.ndarray]
    merged_clients: tuple[int, ...]
    steps: int
    left_out: tuple[int, ...] = ()
    state: State = field(default_factory=dict)


def plan_round(settings: FederationSettings, round_index: int) -> RoundPlan:
    """Return the work items of round `round_index` (from 0)."""
    step = settings.method.round(settings.run_seed, round_index) if settings.method else None
    items = tuple(
        WorkItem(
            round=round_index,
            client=client,
            seed=derive_seed(settings.run_seed, "client", round_index, client),
            local_steps=step.local_steps if step else settings.local_steps,
            steps_done=round_index * settings.local_steps,
            steps_total=settings.rounds * settings.local_steps,
            episodes=step.episodes if step else 0,
            is_difference=step.is_difference if step else False,
        )
        for client in range(settings.clients)
    )
    return RoundPlan(
        round_index,
        items,
        settings.quorum,
        settings.merges_normalizer,
        settings.voices,
        derive_seed(settings.run_seed, "merge", round_index),
        step,
    )


def close_round(
    plan: RoundPlan,
    model: Tensors,
    updates: Sequence[ClientUpdate],
    merger: Merger,
    *,
    state: State | None = None,
    rejected: int = 0,
) -> RoundOutcome:
    """Merge the updates of one round, in client order, into a candidate model.

    What is learned (`policy/`, `extra/`), the optimizer's moments and the control variates are
    merged by the rule, each by itself: what one of them weighs decides nothing about another. The
    server's optimizer moves what is learned; moments are added as they are, control variates times
    the share of the clients that take part, |S| / N (SCAFFOLD, arXiv 1910.06378).

    state: what the round before returned. rejected: items that are missing because what came for
        them was refused; each of them is one bad update fewer to bear.

    Raises:
        QuorumMissed: there are fewer updates than `plan.quorum`, or than it takes to bear the bad
            ones that may be among them.
        ValueError: two updates are of the same client, or one is of another round.
    """
    ordered = sorted(updates, key=lambda update: update.item.client)
    clients = tuple(update.item.client for update in ordered)
    _require_one_round(plan, ordered)
    try:
        merge = _Merge.of(plan, ordered, merger, state or {}, rejected)
        candidate = {name: np.array(array) for name, array in model.items()}
        merge.everything(model, candidate, len(ordered) / len(plan.items))
        if plan.merges_normalizer:
            candidate.update(merge.normalizer(model))
    except TooManyFaulty as error:
        raise QuorumMissed(f"round {plan.round + 1}: {error}") from error
    steps = sum(update.item.local_steps for update in ordered)
    return RoundOutcome(candidate, clients, steps, merge.left_out(), merge.next_state)


def _require_one_round(plan: RoundPlan, ordered: Sequence[ClientUpdate]) -> None:
    if len({update.item.client for update in ordered}) != len(ordered):
        raise ValueError("two updates are of the same client")
    if any(update.item.round != plan.round for update in ordered):
        raise ValueError(f"an update is not of round {plan.round}")
    if len(ordered) < plan.quorum:
        raise QuorumMissed(
            f"round {plan.round + 1}: {len(ordered)} of {len(plan.items)} clients' updates are in, "
            f"the quorum is {plan.quorum}"
        )


@dataclass
class _Merge:
    """One merge under way; `next_state` and `shares` fill up part by part."""

    updates: Sequence[ClientUpdate]
    merger: Merger
    faulty: int
    seed: int
    state: State
    next_state: dict[str, np.ndarray] = field(default_factory=dict)
    shares: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        plan: RoundPlan,
        updates: Sequence[ClientUpdate],
        merger: Merger,
        state: State,
        rejected: int,
    ) -> _Merge:
        by_voice = merger.voices == "pooled"
        expected = plan.voices.faulty_voices if by_voice else plan.voices.faulty_items
        return cls(updates, merger, max(0, expected - rejected), plan.merge_seed, state)

    def everything(self, model: Tensors, candidate: dict[str, np.ndarray], share: float) -> None:
        for part, names in _parts(model).items():
            change = self._change(part, names)
            parameters = flatten(model, names)
            if part == LEARNED:
                before = _under(self.state, "optimizer/")
                parameters, after = self.merger.optimizer.step(parameters, change, before)
                self._keep("optimizer/", after)
            else:
                scale = np.float32(share if part == "control" else 1.0)
                parameters = np.asarray(parameters + scale * change, dtype=np.float32)
            candidate.update(unflatten(parameters, model, names))

    def _change(self, part: str, names: tuple[str, ...]) -> np.ndarray:
        rows = np.stack([flatten(update.tensors, names) for update in self.updates])
        weights = np.array([update.item.local_steps for update in self.updates], dtype=np.float64)
        mixing = None
        if self.merger.voices == "pooled":
            voices = [update.voice for update in self.updates]
            mixture = pool_voices(rows, weights, voices)
            rows, weights, mixing = mixture.updates, mixture.weights, mixture.mixing
        before = _under(self.state, f"rule/{part}/")
        merged = self.merger.combine(rows, weights, MergeContext(self.faulty, self.seed, before))
        self._keep(f"rule/{part}/", merged.state)
        if part == LEARNED and merged.shares is not None:
            self.shares = merged.shares if mixing is None else merged.shares @ mixing
        return merged.vector

    def _keep(self, prefix: str, state: State) -> None:
        self.next_state.update({prefix + name: array for name, array in state.items()})

    def left_out(self) -> tuple[int, ...]:
        if self.shares is None:
            return ()
        clients = (update.item.client for update in self.updates)
        return tuple(
            client for client, share in zip(clients, self.shares, strict=True) if share == 0
        )

    def normalizer(self, model: Tensors) -> Mapping[str, np.ndarray]:
        """Merge the global running statistics with those of the round's samples."""
        merged: dict[str, np.ndarray] = {}
        for kind in NORMALIZER_KINDS:
            at = f"{NORMALIZER_PREFIX}{kind}/"
            of_round = f"{MOMENTS_PREFIX}{kind}/"
            if f"{at}mean" not in model or f"{of_round}mean" not in self.updates[0].tensors:
                continue
            parts = [_moments(update.tensors, of_round) for update in self.updates]
            if self.faulty:
                parts = [robust(self._by_voice(parts), self.faulty)]
            moments = pooled([_moments(model, at), *parts])
            shape = model[f"{at}mean"].shape
            merged[f"{at}mean"] = moments.mean.reshape(shape)
            merged[f"{at}var"] = moments.variance.reshape(shape)
            merged[f"{at}count"] = np.array(moments.count, dtype=np.float64)
        return merged

    def _by_voice(self, parts: list[Moments]) -> list[Moments]:
        if self.merger.voices == "capped":
            return parts
        heard: dict[str, list[Moments]] = {}
        for update, part in zip(self.updates, parts, strict=True):
            heard.setdefault(update.voice, []).append(part)
        return [pooled(of_voice) for of_voice in heard.values()]


def _parts(model: Tensors) -> dict[str, tuple[str, ...]]:
    """Return the names of each part that there is of a model; what is learned is always there."""
    names = averaged_names(model)
    parts = {
        part: tuple(name for name in names if name.startswith(prefix))
        for part, prefix in _OTHER_PARTS.items()
    }
    others = {name for of_part in parts.values() for name in of_part}
    learned = tuple(name for name in names if name not in others)
    return {LEARNED: learned} | {part: of_part for part, of_part in parts.items() if of_part}


def _under(state: State, prefix: str) -> State:
    found = {name: array for name, array in state.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): array for name, array in found.items()}


def _moments(tensors: Tensors, at: str) -> Moments:
    mean, variance = (
        np.ascontiguousarray(tensors[f"{at}{name}"], dtype=np.float64).reshape(-1)
        for name in ("mean", "var")
    )
    return Moments(mean, variance, float(tensors[f"{at}count"]))
