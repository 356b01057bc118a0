"""What an order asks of the policy-gradient learner, checked and typed. Pure."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from provider_image.environments import Spaces
from provider_image.learners.base import LearnerRefused
from provider_image.learners.native_plan import (
    MAX_DEPTH,
    MAX_WIDTH,
    Fields,
    Misfit,
    converted,
    observation_size,
    value_at,
)
from provider_image.learners.policy_gradient_estimates import StepWeights
from provider_image.learners.policy_gradient_network import PolicyNetwork
from provider_image.wire import SERVER_PREFIX, LearnerSpec, Schedule, TensorSpec

ADAM_PREFIX = f"{SERVER_PREFIX}adam/"
PREVIOUS_PREFIX = f"{SERVER_PREFIX}previous/"
DIRECTION_PREFIX = f"{SERVER_PREFIX}direction/"


class Hyperparameters(Fields, frozen=True):
    """The algorithm's own.

    horizon: the most steps of an episode. keeps_previous: the model has the parameters before the
    last step, and the direction of that step. max_ratio: the bound of an episode's importance
    ratio.
    """

    horizon: Annotated[int, Meta(ge=1, le=100_000)] = 500
    gamma: Annotated[float, Meta(ge=0, le=1)] = 0.999
    step_weights: StepWeights = "whitened"
    squash_logits: bool = False
    keeps_previous: bool = False
    max_ratio: Annotated[float, Meta(ge=1)] = 10.0


class PolicyKwargs(Fields, frozen=True):
    """The network's hidden layers."""

    net_arch: tuple[Annotated[int, Meta(ge=1, le=MAX_WIDTH)], ...] = (16, 16)
    activation_fn: Literal["tanh", "relu"] = "tanh"


class GradientPlan(NamedTuple):
    """An order's learner, ready to be used."""

    given: Hyperparameters
    network: PolicyNetwork
    learning_rate: Schedule
    spaces: Spaces

    @property
    def model_specs(self) -> dict[str, TensorSpec]:
        """Every tensor of a model."""
        policy = self.network.specs
        specs = dict(policy)
        below = [f"{ADAM_PREFIX}mean/", f"{ADAM_PREFIX}square/"]
        if self.given.keeps_previous:
            below += [PREVIOUS_PREFIX, DIRECTION_PREFIX]
        for name, spec in policy.items():
            specs |= {below_prefix + name.partition("/")[2]: spec for below_prefix in below}
        specs[f"{ADAM_PREFIX}step"] = TensorSpec("int64", ())
        return specs

    def learning_rate_at(self, progress: float) -> float:
        """The learning rate once `progress` (0 to 1) of the run is done."""
        return value_at(self.learning_rate, progress)


def plan_of(learner: LearnerSpec, spaces: Spaces) -> GradientPlan:
    """The plan for a specification and an environment's spaces; raises LearnerRefused."""
    try:
        return _plan(learner, spaces)
    except Misfit as misfit:
        raise LearnerRefused(f"algorithm pg does not fit: {misfit}") from misfit


def _plan(learner: LearnerSpec, spaces: Spaces) -> GradientPlan:
    if learner.policy != "MlpPolicy":
        raise Misfit(f"policy is {learner.policy}; it has MlpPolicy")
    given = converted("hyperparameters", learner.hyperparameters, Hyperparameters)
    kwargs = converted("policy_kwargs", learner.policy_kwargs, PolicyKwargs)
    if not 1 <= len(kwargs.net_arch) <= MAX_DEPTH:
        raise Misfit(f"policy_kwargs.net_arch has {len(kwargs.net_arch)} layers; use 1 to 4")
    action = spaces.action
    if action.kind != "discrete" or action.start != 0 or action.n < 2:
        raise Misfit(f"the action space is {action.text}; it takes Discrete(2) and more, from 0")
    unknown = set(learner.schedules) - {"learning_rate"}
    if unknown:
        raise Misfit(f"schedules has {', '.join(sorted(unknown))}; it has learning_rate")
    network = PolicyNetwork(
        (observation_size(spaces.observation), *kwargs.net_arch, action.n),
        kwargs.activation_fn,
        given.squash_logits,
    )
    rate = learner.schedules.get("learning_rate", Schedule("constant", 1e-3))
    return GradientPlan(given, network, rate, spaces)


def check_environment_rules(order_normalize: object, rules: msgspec.Struct) -> None:
    """Refuse what the algorithm has no place for."""
    if order_normalize is not None:
        raise LearnerRefused("algorithm pg does not normalise; set environment.normalize to null")
    for name, empty in (("optimizer", "reset"), ("replay", "reset"), ("drift", "none")):
        if getattr(rules, name) != empty:
            raise LearnerRefused(f"rules.{name} has no meaning for pg; use {empty}")
