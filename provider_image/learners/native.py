"""The native learner: PPO by `native_kernels`, without torch.

Its parts, to be read in this order: `native_plan.py` (an order checked and typed),
`native_choice.py` (whether it fits, and how it steps), `native_model.py`, `native_state.py`
(tensors in and out), `native_training.py`, `native_drift.py`, `native_link_state.py` (what stands
after a link of the hash chain), `native_journal.py`, `native_batches.py`, `native_stepping.py`,
`native_collecting.py`, `native_normalizer.py`, `native_evaluation.py`, `native_probe.py`. SB3's
files are written and read by `sb3.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from native_kernels import _native
from provider_image.environments import read_spaces
from provider_image.learners.base import (
    METADATA_TEXT_LETTERS,
    Evaluation,
    InitialModel,
    Learner,
    Probe,
    TrainOutcome,
)
from provider_image.learners.native_drift import fresh_controls
from provider_image.learners.native_model import fresh_model
from provider_image.learners.native_training import train
from provider_image.wire import (
    EvaluateOrder,
    ExportOrder,
    ImportOrder,
    InitialiseOrder,
    ModelMetadata,
    ProbeOrder,
    Tensors,
    TrainOrder,
)


class NativeLearner:
    """Fulfils `base.Learner`; one thread, the same bits on every processor."""

    def initialise(self, order: InitialiseOrder) -> InitialModel:
        """A fresh model: orthogonal weights with SB3's gains, drawn from `order.seed`."""
        spaces = read_spaces(order.environment)
        model = fresh_model(order, spaces)
        metadata = ModelMetadata(
            algorithm=order.learner.algorithm,
            learner="native",
            environment_id=order.environment.id,
            observation_space=spaces.observation.text[:METADATA_TEXT_LETTERS],
            action_space=spaces.action.text[:METADATA_TEXT_LETTERS],
        )
        controls = fresh_controls(model.plan.shape, order.rules)
        return InitialModel(model.tensors(order.rules) | controls, metadata)

    def train(
        self,
        order: TrainOrder,
        model: Tensors,
        client_state: Tensors | None,
        link_state: Tensors | None = None,
    ) -> TrainOutcome:
        """See `native_training.train`."""
        return train(order, model, client_state, link_state)

    def evaluate(self, order: EvaluateOrder, model: Tensors) -> Evaluation:
        """See `native_evaluation.evaluate`."""
        from provider_image.learners.native_evaluation import evaluate

        return evaluate(order, model)

    def probe(self, order: ProbeOrder, model: Tensors, updates: Tensors) -> Probe:
        """See `native_probe.probe_native`."""
        from provider_image.learners.native_probe import probe_native

        return probe_native(order, model, updates)

    def export(self, order: ExportOrder, model: Tensors, directory: Path) -> None:
        """See `sb3_export.export`: the weights have SB3's names and shapes."""
        _sb3().export(order, model, directory)

    def import_archive(self, order: ImportOrder, directory: Path) -> InitialModel:
        """See `sb3_import.read_archive`."""
        return _sb3().import_archive(order, directory)

    def packages(self) -> dict[str, str]:
        """Versions of Python and NumPy, and the processor level that the kernels run at."""
        return {
            "python": ".".join(map(str, sys.version_info[:3])),
            "numpy": np.__version__,
            "native_kernels": _native.levels.in_force(),
        }


def _sb3() -> Learner:
    from provider_image.learners.sb3 import Sb3Learner

    return Sb3Learner()
