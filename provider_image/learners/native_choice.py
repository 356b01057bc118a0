"""Which learner executes what a config leaves open, why, and how the native one steps.

Pure: spaces are asked for only where they decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from provider_image.environments import Spaces
from provider_image.learners.base import Choice, LearnerRefused
from provider_image.learners.native_plan import Misfit, fields_of, plan_of
from provider_image.wire import EnvironmentSpec, LearnerSpec, is_native_environment

Stepping: TypeAlias = Literal["fused", "batch", "gymnasium"]
"""`fused`: environment and policy in one native loop. `batch`: a native batch environment behind
a normaliser. `gymnasium`: any environment, stepped one by one; only the policy is native."""


def choose(
    learner: LearnerSpec, environment: EnvironmentSpec, spaces: Callable[[], Spaces]
) -> Choice:
    """Settle which learner executes the orders of a run.

    Raises LearnerRefused if `native` is asked for and cannot be, naming the field and the fix, and
    whatever `spaces` raises.
    """
    if learner.learner == "sb3":
        return Choice("sb3", "asked for")
    if learner.learner == "auto" and learner.algorithm != "ppo":
        return Choice("sb3", f"{learner.algorithm} has no other learner")
    try:
        fields_of(learner)
        plan_of(learner, spaces())
    except Misfit as misfit:
        if learner.learner == "native":
            raise LearnerRefused(
                f"learner native does not fit: {misfit}. Change that, or set learner to auto"
            ) from misfit
        return Choice("sb3", f"native does not fit: {misfit}")
    return Choice("native", _STEPPING_WORDS[stepping_of(environment)].format(id=environment.id))


def stepping_of(environment: EnvironmentSpec) -> Stepping:
    """How the native learner steps an environment: as near to the kernels as can be."""
    if not is_native_environment(environment):
        return "gymnasium"
    return "fused" if environment.normalize is None else "batch"


_STEPPING_WORDS: dict[Stepping, str] = {
    "fused": "{id} is a native environment, stepped and learned in one loop",
    "batch": "{id} is a native environment, stepped in batches behind the normaliser",
    "gymnasium": "policy and updates fit; {id} is stepped by Gymnasium",
}
