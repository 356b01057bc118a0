"""Which learner executes which order. Learners are imported when first asked for."""

from __future__ import annotations

import importlib
from typing import cast

from provider_image.environments import read_spaces
from provider_image.learners.base import Choice, Learner, LearnerRefused
from provider_image.wire import ImportOrder, InitialiseOrder, LearnerName

LEARNERS: dict[LearnerName, tuple[str, tuple[str, ...]]] = {
    "native": ("provider_image.learners.native:NativeLearner", ("ppo",)),
    "sb3": (
        "provider_image.learners.sb3:Sb3Learner",
        ("ppo", "a2c", "dqn", "sac", "td3", "ddpg"),
    ),
}
"""Name to `module:Class` of a learner that is made without arguments, and its algorithms."""


def load_learner(algorithm: str, name: LearnerName = "sb3") -> Learner:
    """The learner of that name for an algorithm; LearnerRefused if there is none."""
    place, algorithms = LEARNERS[name]
    if algorithm not in algorithms:
        everything = LEARNERS["sb3"][1]
        if algorithm in everything:
            raise LearnerRefused(
                f"learner {name} does not do {algorithm}, but {', '.join(algorithms)}; set "
                "learner to sb3"
            )
        raise LearnerRefused(f"algorithm {algorithm} is unknown; known: {', '.join(everything)}")
    module_name, _, class_name = place.partition(":")
    learner_class = getattr(importlib.import_module(module_name), class_name)
    return cast(Learner, learner_class())


def choose_learner(order: InitialiseOrder | ImportOrder) -> Choice:
    """Settle what executes the orders of the model that is to be made.

    Raises LearnerRefused or EnvironmentRefused.
    """
    if order.learner.learner == "sb3":
        return Choice("sb3", "asked for")
    from provider_image.learners.native_choice import choose

    return choose(order.learner, order.environment, lambda: read_spaces(order.environment))
