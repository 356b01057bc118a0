"""What a learner is: four functions from an order and tensors to tensors, without a memory.

Axes: E episodes. Tensor names are those of `wire/FORMAT.md`. Read `registry.py` next.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from provider_image.wire import (
    EvaluateOrder,
    ExportOrder,
    ImportOrder,
    InitialiseOrder,
    LearnerName,
    ModelMetadata,
    ProbeOrder,
    RefineOrder,
    Tensors,
    TrainOrder,
)

METADATA_TEXT_LETTERS = 2000
"""How much of a space's `repr` stands beside a model."""


class LearnerRefused(ValueError):
    """An order that cannot be executed; the message names the field and the fix."""


class TrainingFailed(RuntimeError):
    """An order that was begun and came to no result; the message says what to change."""


class Choice(NamedTuple):
    """A learner by name, and one line on why it and no other."""

    learner: LearnerName
    reason: str


class InitialModel(NamedTuple):
    """A fresh model: its tensors and what stands beside them."""

    tensors: Tensors
    metadata: ModelMetadata


class TrainOutcome(NamedTuple):
    """What training produced: `tensors` is the update and the moments, ready to be sent.

    `links` is the hash chain of what was done, `link_state` what stands after its last link, where
    the order asks for it: see `hash_chain.py`.
    """

    tensors: Tensors
    client_state: Tensors | None
    steps: int
    episodes: int
    metrics: Mapping[str, float]
    links: tuple[str, ...] = ()
    link_state: Tensors | None = None


class Refinement(NamedTuple):
    """A whole model after the server's own steps, and what they took."""

    tensors: Tensors
    inner_steps: int
    episodes: int
    steps: int


class Evaluation(NamedTuple):
    """One entry per seed: `returns` float64[E], `lengths` int64[E]."""

    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]


class Probe(NamedTuple):
    """How far each of N updates moves the policy: `divergences` float64[N], see `ProbeResult`."""

    divergences: npt.NDArray[np.float64]
    measure: Literal["kl", "actions"]


@runtime_checkable
class RefiningLearner(Protocol):
    """A learner that also takes the server's own steps."""

    def refine(self, order: RefineOrder, model: Tensors, direction: Tensors) -> Refinement:
        """The model after the server's steps along `direction`, which has the policy's tensors."""
        ...


class Learner(Protocol):
    """Results depend on the arguments alone: no state survives a call.

    Every method raises LearnerRefused, EnvironmentRefused or WireError for what the order asks
    and cannot be done.
    """

    def initialise(self, order: InitialiseOrder) -> InitialModel:
        """A fresh model drawn from `order.seed`."""
        ...

    def train(
        self,
        order: TrainOrder,
        model: Tensors,
        client_state: Tensors | None,
        link_state: Tensors | None = None,
    ) -> TrainOutcome:
        """Train for exactly `order.local_steps` environment steps, or the part `order.links`.

        `link_state` is what stood after link `order.links.first`, its digest checked.
        """
        ...

    def evaluate(self, order: EvaluateOrder, model: Tensors) -> Evaluation:
        """One episode per seed, each from `env.reset(seed=…)`, normaliser frozen."""
        ...

    def probe(self, order: ProbeOrder, model: Tensors, updates: Tensors) -> Probe:
        """Measure how far each row of `updates` float32[N, P] moves the policy."""
        ...

    def export(self, order: ExportOrder, model: Tensors, directory: Path) -> None:
        """Write `order.output`, and `order.normalizer_output` if given, into `directory`."""
        ...

    def import_archive(self, order: ImportOrder, directory: Path) -> InitialModel:
        """The model in `order.archive`, a file in `directory`."""
        ...

    def packages(self) -> dict[str, str]:
        """Versions of what decides the numbers, by package name."""
        ...
