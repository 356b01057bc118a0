"""The reviewer that screens a round's updates beside each other; see `cohort_screening`."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from provider_image.wire import (
    CONTROL_PREFIX,
    MAX_FILE_BYTES,
    MAX_PROBED_UPDATES,
    OPTIMIZER_PREFIX,
    POLICY_PREFIX,
    read_bundle,
)
from requestor.evaluation.judge import Divergences
from requestor.evaluation.local_worker import LocalOrderFailed
from requestor.federation.cohort_screening import (
    Cohort,
    Entry,
    Known,
    Limits,
    Pace,
    Verdict,
    paces_with,
    screen_cohort,
    sketch,
)
from requestor.federation.model import Float32, Tensors, flatten
from requestor.federation.rounds import RoundPlan
from requestor.training_run.dispatching.reviewing import Objection
from requestor.training_run.orders.deliveries import Delivery
from requestor.training_run.orders.round_files import RoundFiles

logger = logging.getLogger(__name__)

PARTS = {"policy": POLICY_PREFIX, "optimizer": OPTIMIZER_PREFIX, "control": CONTROL_PREFIX}
"""The parts of a model whose updates have a length that can be compared."""

MODELS_KEPT = 5
SKETCHES_KEPT = 512


class Prober(Protocol):
    """Measures how far updates move a policy: the `Judge`."""

    async def probe(
        self, model: Path, updates: Float32, seeds: Sequence[int], *, samples: int
    ) -> Divergences:
        """See `Judge.probe`."""
        ...


@dataclass(frozen=True)
class ProbeSet:
    """Who measures how far updates move a policy, and on which observations."""

    judge: Prober
    seeds: tuple[int, ...]
    samples: int


@dataclass
class _Memory:
    """What earlier rounds have shown; of updates, the sketches of about the last 512."""

    models: deque[tuple[int, Float32]] = field(default_factory=lambda: deque(maxlen=MODELS_KEPT))
    sketches: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    digests: dict[int, frozenset[str]] = field(default_factory=dict)
    paces: dict[str, Pace] = field(default_factory=dict)

    def forget_from(self, round_index: int) -> None:
        """Forget a round, and all after it: they are done again."""
        for record in (self.sketches, self.digests):
            for number in [number for number in record if number >= round_index]:
                del record[number]
        while self.models and self.models[-1][0] >= round_index:
            self.models.pop()

    def add(self, round_index: int, cohort: Cohort) -> None:
        """Remember a round whose updates were all looked at."""
        self.paces = paces_with(self.paces, cohort.entries)
        self.digests[round_index] = frozenset(entry.sha256 for entry in cohort.entries)
        self.sketches[round_index] = sketch(cohort.parts["policy"])
        while len(self.sketches) > 1 and sum(map(len, self.sketches.values())) > SKETCHES_KEPT:
            del self.sketches[min(self.sketches)]

    @property
    def known(self) -> Known:
        """What an update may repeat."""
        models = [model for _, model in self.models]
        moves = [
            later - earlier
            for number, later in enumerate(models)
            for earlier in models[:number]
            if np.any(later != earlier)
        ]
        return Known(
            np.stack(moves) if moves else None,
            np.concatenate(list(self.sketches.values())) if self.sketches else None,
            frozenset().union(*self.digests.values()),
            self.paces,
        )


class CohortReviewer:
    """Objects to updates that cannot be right beside the others; see `reviewing.Reviewer`.

    What is only odd is handed to `suspect`. A run that is resumed begins without a memory.
    """

    def __init__(
        self,
        limits: Limits,
        probe_set: ProbeSet | None = None,
        *,
        notice: Callable[[str], None],
        suspect: Callable[[Delivery, str], None] = lambda *_: None,
    ) -> None:
        """Screen by `limits`; `notice` tells a person what could not be looked at."""
        self._limits = limits
        self._probe_set = probe_set
        self._notice = notice
        self._suspect = suspect
        self._memory = _Memory()
        self._files: RoundFiles | None = None
        self._arrivals: dict[int, int] = {}
        self._last: tuple[int, Cohort] | None = None

    def begin(self, plan: RoundPlan, files: RoundFiles) -> None:
        """Remember the round before, and by how much the model has moved."""
        if self._last is not None and self._last[0] < plan.round:
            self._memory.add(*self._last)
        self._last = None
        self._memory.forget_from(plan.round)
        self._files = files
        self._arrivals = {}
        bundle = read_bundle(
            files.model_path, max_bytes=MAX_FILE_BYTES, sha256=files.model.sha256
        )
        names = _names(bundle.tensors, POLICY_PREFIX)
        self._memory.models.append((plan.round, flatten(bundle.tensors, names)))

    def note(self, delivery: Delivery) -> None:
        """Remember in which order deliveries came in."""
        self._arrivals[delivery.update.item.client] = len(self._arrivals)

    def compare(self, first: Delivery, second: Delivery) -> None:
        """Do nothing: replays settle which of two is right."""

    async def review(self, plan: RoundPlan, deliveries: Sequence[Delivery]) -> list[Objection]:
        """Return objections to updates that are too far off, copied, or too fast."""
        if not deliveries:
            return []
        cohort = await self._cohort(deliveries)
        self._last = (plan.round, cohort)
        verdict: Verdict = await asyncio.to_thread(  # large cohorts take seconds; leases go on
            screen_cohort, cohort, self._memory.known, self._limits
        )
        by_client = {delivery.update.item.client: delivery for delivery in deliveries}
        for client, reason in verdict.suspicious.items():
            logger.info("round %d, client %d is suspicious: %s", plan.round, client, reason)
            self._suspect(by_client[client], reason)
        return [
            Objection(by_client[client], "screened", reason)
            for client, reason in sorted(verdict.rejected.items())
        ]

    async def _cohort(self, deliveries: Sequence[Delivery]) -> Cohort:
        parts = {}
        for part, prefix in PARTS.items():
            if names := _names(deliveries[0].update.tensors, prefix):
                rows = [flatten(delivery.update.tensors, names) for delivery in deliveries]
                parts[part] = np.stack(rows)
        entries = tuple(self._entry(delivery) for delivery in deliveries)
        cohort = Cohort(entries, parts)
        probe_set = self._probe_set
        if probe_set is None or self._files is None or "policy" not in parts:
            return cohort
        try:
            measure, values = await _probe(probe_set, self._files, parts["policy"])
        except LocalOrderFailed as error:
            self._notice(f"how far updates move the policy can't be measured: {error.message}")
            return cohort
        return Cohort(entries, parts, values, measure)

    def _entry(self, delivery: Delivery) -> Entry:
        item, source = delivery.update.item, delivery.source
        return Entry(
            client=item.client,
            voice=delivery.update.voice,
            arrival=self._arrivals.get(item.client, item.client),
            sha256=delivery.result_sha256,
            steps=item.local_steps,
            seconds=None if source is None or source.is_own else source.seconds,
        )


async def _probe(
    probe_set: ProbeSet, files: RoundFiles, updates: Float32
) -> tuple[str, NDArray[np.float64]]:
    found = [
        await probe_set.judge.probe(
            files.model_path,
            updates[start : start + MAX_PROBED_UPDATES],
            probe_set.seeds,
            samples=probe_set.samples,
        )
        for start in range(0, len(updates), MAX_PROBED_UPDATES)
    ]
    return found[0].measure, np.concatenate([part.values for part in found])


def _names(tensors: Tensors, prefix: str) -> list[str]:
    return sorted(name for name in tensors if name.startswith(prefix))
