"""A model in memory for the native learner: plan, policy with its optimizer, normaliser."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from native_kernels.environments import ENVIRONMENTS
from native_kernels.ppo import Ppo, orthogonal_parameters
from provider_image.environments import Space, Spaces, read_spaces
from provider_image.learners.base import LearnerRefused
from provider_image.learners.native_choice import Stepping
from provider_image.learners.native_drift import control_specs
from provider_image.learners.native_normalizer import Normalizer
from provider_image.learners.native_plan import Misfit, NativePlan, plan_of
from provider_image.learners.native_state import (
    load_optimizer,
    optimizer_specs,
    optimizer_tensors,
    policy_parameters,
    policy_specs,
    policy_tensors,
)
from provider_image.wire import (
    EnvironmentSpec,
    EvaluateOrder,
    InitialiseOrder,
    LearnerSpec,
    ProbeOrder,
    StateRules,
    Tensors,
    TrainOrder,
    check_tensors,
    specs_of,
)


class NativeModel(NamedTuple):
    """What an order works on."""

    plan: NativePlan
    ppo: Ppo
    normalizer: Normalizer | None

    def tensors(self, rules: StateRules) -> Tensors:
        """Everything a model bundle contains under these rules but control variates; copies."""
        tensors = policy_tensors(self.ppo.parameters, self.plan.shape)
        if rules.optimizer == "merged":
            tensors |= optimizer_tensors(self.ppo, self.plan.shape)
        if self.normalizer is not None:
            tensors |= self.normalizer.tensors()
        return tensors


def spaces_for(environment: EnvironmentSpec, stepping: Stepping) -> Spaces:
    """The environment's spaces; a native one's are known without making it.

    Only their sizes, bounds and dtypes count; raises EnvironmentRefused.
    """
    if stepping == "gymnasium":
        return read_spaces(environment)
    facts = ENVIRONMENTS[environment.id]
    shown = Space(
        "box",
        environment.id,
        (facts.observation_size,),
        "float32",
        tuple(facts.observation_low),
        tuple(facts.observation_high),
    )
    if facts.n_actions:
        return Spaces(shown, Space("discrete", f"Discrete({facts.n_actions})", n=facts.n_actions))
    size = facts.action_size
    low, high = (
        tuple(np.broadcast_to(np.asarray(bound, np.float64), size).tolist())
        for bound in (facts.action_low, facts.action_high)
    )
    return Spaces(shown, Space("box", "Box", (size,), "float32", low, high))


def fresh_model(order: InitialiseOrder, spaces: Spaces) -> NativeModel:
    """A model drawn from the order's seed; raises LearnerRefused."""
    plan = _plan(order.learner, spaces)
    parameters = orthogonal_parameters(plan.shape, order.seed, plan.log_std_init)
    return _assembled(plan, Ppo(plan.shape, parameters), order)


def open_model(
    order: TrainOrder | EvaluateOrder | ProbeOrder, received: Tensors, spaces: Spaces
) -> NativeModel:
    """The model that was received; WireError if its tensors are not exactly what they must be."""
    plan = _plan(order.learner, spaces)
    specs = policy_specs(plan.shape) | control_specs(plan.shape, order.rules)
    if order.rules.optimizer == "merged":
        specs |= optimizer_specs(plan.shape)
    normalizer = _normalizer(plan, order)
    if normalizer is not None:
        specs |= specs_of(normalizer.tensors())
    check_tensors(received, specs, source="model")
    ppo = Ppo(plan.shape, policy_parameters(received, plan.shape))
    if order.rules.optimizer == "merged":
        load_optimizer(ppo, received, plan)
    if normalizer is not None:
        normalizer.load(received)
    return NativeModel(plan, ppo, normalizer)


def _assembled(plan: NativePlan, ppo: Ppo, order: InitialiseOrder) -> NativeModel:
    return NativeModel(plan, ppo, _normalizer(plan, order))


def _plan(learner: LearnerSpec, spaces: Spaces) -> NativePlan:
    try:
        return plan_of(learner, spaces)
    except Misfit as misfit:
        raise LearnerRefused(
            f"learner native does not fit: {misfit}. Change that, or set learner to sb3"
        ) from misfit


def _normalizer(
    plan: NativePlan, order: InitialiseOrder | TrainOrder | EvaluateOrder | ProbeOrder
) -> Normalizer | None:
    spec = order.environment.normalize
    if spec is None:
        return None
    return Normalizer(
        spec,
        plan.spaces.observation.shape,
        order.environment.n_envs,
        is_learning=order.rules.normalizer == "merged",
    )
