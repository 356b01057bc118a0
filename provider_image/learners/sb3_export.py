"""A model in Stable-Baselines3's own files, which `PPO.load` and `VecNormalize.load` open.

Both are made from tensors on the requestor's machine; nothing of a provider's is in them but
numbers. They hold SB3's, Gymnasium's and torch's classes only.
"""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from provider_image.learners.base import LearnerRefused
from provider_image.learners.sb3_environments import training_environment
from provider_image.learners.sb3_models import ModelPlan, build_model, replay_capacity
from provider_image.learners.sb3_state import load_model
from provider_image.wire import ExportOrder, Tensors, atomic_writer


def export(order: ExportOrder, received: Tensors, directory: Path) -> None:
    """Write the zip, and the normaliser's pickle if the order names a file for it."""
    environment = training_environment(order.environment, order.rules)
    try:
        model = build_model(
            ModelPlan(order.environment, order.learner, order.seed), environment.outermost
        )
        load_model(model, received, order.rules, environment.normalizer)
        if isinstance(model, OffPolicyAlgorithm):
            model.buffer_size = replay_capacity(order.learner)
        content = io.BytesIO()
        model.save(content)
        _write(directory / order.output, content.getvalue())
        if order.normalizer_output is not None:
            if environment.normalizer is None:
                raise LearnerRefused(
                    "normalizer_output is given, but the environment is not normalised"
                )
            environment.normalizer.training = False
            _write(directory / order.normalizer_output, pickle.dumps(environment.normalizer))
    finally:
        environment.close()


def _write(path: Path, content: bytes) -> None:
    with atomic_writer(path) as descriptor, os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(content)
