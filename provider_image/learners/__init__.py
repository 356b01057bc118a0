"""Learners: they initialise, train, evaluate and export a model, given an order.

Read `base.py` next (the protocol every learner fulfils), then `registry.py` (names to learners)
and `sb3.py` (the learner over Stable-Baselines3, where a list of its parts stands).
"""

from provider_image.learners.base import (
    Evaluation,
    InitialModel,
    Learner,
    LearnerRefused,
    TrainingFailed,
    TrainOutcome,
)
from provider_image.learners.registry import load_learner

__all__ = [
    "Evaluation",
    "InitialModel",
    "Learner",
    "LearnerRefused",
    "TrainOutcome",
    "TrainingFailed",
    "load_learner",
]
