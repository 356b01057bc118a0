"""Which learner executes which algorithm. Learners are imported when first asked for."""

from __future__ import annotations

import importlib
from typing import cast

from provider_image.learners.base import Learner, LearnerRefused

_SB3 = "provider_image.learners.sb3:Sb3Learner"
LEARNERS: dict[str, str] = dict.fromkeys(("ppo", "a2c", "dqn", "sac", "td3", "ddpg"), _SB3)
"""Algorithm name to `module:Class` of a learner that is made without arguments."""


def load_learner(algorithm: str) -> Learner:
    """The learner for an algorithm; LearnerRefused if there is none."""
    if algorithm not in LEARNERS:
        raise LearnerRefused(f"algorithm {algorithm} is unknown; known: {', '.join(LEARNERS)}")
    module_name, _, class_name = LEARNERS[algorithm].partition(":")
    learner_class = getattr(importlib.import_module(module_name), class_name)
    return cast(Learner, learner_class())
