"""Learners: they initialise, train, evaluate and export a model, given an order.

Read `base.py` next (the protocol every learner fulfils), then `registry.py` (names to learners),
`native.py` (PPO without torch), `policy_gradient.py` and `sb3.py` (Stable-Baselines3); each lists
its parts.
"""

from provider_image.learners.base import (
    Choice,
    Evaluation,
    InitialModel,
    Learner,
    LearnerRefused,
    Probe,
    RefiningLearner,
    TrainingFailed,
    TrainOutcome,
)
from provider_image.learners.hash_chain import check_link_state
from provider_image.learners.registry import choose_learner, load_learner

__all__ = [
    "Choice",
    "Evaluation",
    "InitialModel",
    "Learner",
    "LearnerRefused",
    "Probe",
    "RefiningLearner",
    "TrainOutcome",
    "TrainingFailed",
    "check_link_state",
    "choose_learner",
    "load_learner",
]
