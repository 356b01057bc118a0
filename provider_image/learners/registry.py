"""Which learner executes which order. Learners are imported when first asked for."""

from __future__ import annotations

import importlib
from typing import cast

from provider_image.environments import read_spaces
from provider_image.learners.base import Choice, Learner, LearnerRefused
from provider_image.wire import Algorithm, ImportOrder, InitialiseOrder, LearnerName

_SB3 = "provider_image.learners.sb3:Sb3Learner"

LEARNERS: dict[LearnerName, dict[Algorithm, str]] = {
    "native": {
        "ppo": "provider_image.learners.native:NativeLearner",
        "pg": "provider_image.learners.policy_gradient:PolicyGradientLearner",
    },
    "sb3": {"ppo": _SB3, "a2c": _SB3, "dqn": _SB3, "sac": _SB3, "td3": _SB3, "ddpg": _SB3},
}
"""By name and algorithm: `module:Class` of a learner that is made without arguments."""


def load_learner(algorithm: str, name: LearnerName = "sb3") -> Learner:
    """The learner of that name for an algorithm; LearnerRefused if there is none."""
    places: dict[str, str] = {str(key): place for key, place in LEARNERS[name].items()}
    place = places.get(algorithm)
    if place is None:
        others = [other for other, does in LEARNERS.items() if algorithm in does]
        if others:
            raise LearnerRefused(
                f"learner {name} does not do {algorithm}, but {', '.join(places)}; set "
                f"learner to {others[0]}"
            )
        everything = dict.fromkeys(known for does in LEARNERS.values() for known in does)
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
    if order.learner.algorithm == "pg":
        return Choice("native", "pg is done by NumPy and native_kernels alone")
    from provider_image.learners.native_choice import choose

    return choose(order.learner, order.environment, lambda: read_spaces(order.environment))
