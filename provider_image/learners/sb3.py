"""The learner over Stable-Baselines3: PPO, A2C, DQN, SAC, TD3 and DDPG alike.

Its parts, to be read in this order: `sb3_models.py` (an SB3 model from a LearnerSpec),
`sb3_environments.py` (vectorised environments, normaliser, moments), `sb3_state.py` (a model's
tensors in and out), `sb3_replay.py`, `sb3_drift.py`, `sb3_links.py`, `sb3_training.py`,
`sb3_evaluation.py`, `sb3_probe.py`, `sb3_export.py`, `sb3_import.py`.
"""

from __future__ import annotations

import platform
from pathlib import Path

import gymnasium
import numpy as np
import stable_baselines3
import torch

from provider_image.learners.base import (
    METADATA_TEXT_LETTERS,
    Evaluation,
    InitialModel,
    Probe,
    TrainOutcome,
)
from provider_image.learners.sb3_environments import training_environment
from provider_image.learners.sb3_evaluation import evaluate
from provider_image.learners.sb3_export import export
from provider_image.learners.sb3_import import read_archive
from provider_image.learners.sb3_models import ModelPlan, build_model
from provider_image.learners.sb3_probe import probe_sb3
from provider_image.learners.sb3_state import model_tensors
from provider_image.learners.sb3_training import train
from provider_image.learners.torch_startup import prepare_torch
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


class Sb3Learner:
    """Fulfils `base.Learner`; one thread, CPU."""

    def __init__(self) -> None:
        prepare_torch()

    def initialise(self, order: InitialiseOrder) -> InitialModel:
        """A fresh model: what SB3's constructor draws from `order.seed`."""
        environment = training_environment(order.environment, order.rules)
        try:
            model = build_model(
                ModelPlan(order.environment, order.learner, order.seed), environment.outermost
            )
            tensors = model_tensors(model, order.rules, environment.normalizer)
            metadata = ModelMetadata(
                algorithm=order.learner.algorithm,
                environment_id=order.environment.id,
                observation_space=repr(model.observation_space)[:METADATA_TEXT_LETTERS],
                action_space=repr(model.action_space)[:METADATA_TEXT_LETTERS],
            )
        finally:
            environment.close()
        return InitialModel(tensors, metadata)

    def train(
        self,
        order: TrainOrder,
        model: Tensors,
        client_state: Tensors | None,
        link_state: Tensors | None = None,
    ) -> TrainOutcome:
        """See `sb3_training.train`; HashChain has refused an order that brings a `link_state`."""
        return train(order, model, client_state)

    def evaluate(self, order: EvaluateOrder, model: Tensors) -> Evaluation:
        """See `sb3_evaluation.evaluate`."""
        return evaluate(order, model)

    def probe(self, order: ProbeOrder, model: Tensors, updates: Tensors) -> Probe:
        """See `sb3_probe.probe_sb3`."""
        return probe_sb3(order, model, updates)

    def export(self, order: ExportOrder, model: Tensors, directory: Path) -> None:
        """See `sb3_export.export`."""
        export(order, model, directory)

    def import_archive(self, order: ImportOrder, directory: Path) -> InitialModel:
        """See `sb3_import.read_archive`."""
        fresh = self.initialise(
            InitialiseOrder(
                run_id=order.run_id,
                seed=0,
                environment=order.environment,
                learner=order.learner,
                output=order.output,
            )
        )
        return InitialModel(read_archive(order, fresh.tensors, directory), fresh.metadata)

    def packages(self) -> dict[str, str]:
        """Versions of Python and of the libraries that compute."""
        return {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "stable_baselines3": stable_baselines3.__version__,
            "gymnasium": gymnasium.__version__,
            "numpy": np.__version__,
        }
