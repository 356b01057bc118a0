"""What stands after a link of a native round's chain, and going on from it with the same bits.

`wire/FORMAT.md`, section 6, lists the tensors. A state may come from a stranger: names, shapes and
values are checked before any is used, and it is small whatever it claims. Axes: B environments.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from native_kernels.environments import ENVIRONMENTS
from native_kernels.ppo import Ppo
from provider_image.learners.base import LearnerRefused
from provider_image.learners.native_batches import ELAPSED, EPISODES, RETURNS, STATES
from provider_image.learners.native_drift import Controls
from provider_image.learners.native_model import NativeModel
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
    Tensors,
    TensorSpec,
    TrainOrder,
    check_tensors,
    specs_of,
)

_EPOCHS, _GRADIENTS, _STEPS = "progress/epochs", "progress/gradients", "progress/gradient_steps"
_LARGEST = 1e9
"""Beyond anything that a native environment shows or pays; its square is finite in float64."""
_LAST_EPISODE = 2**32 - 2


class Round(NamedTuple):
    """A round on its way: the model, what holds it back, and the passes over rollouts so far."""

    model: NativeModel
    controls: Controls | None
    epochs: int


def link_tensors(now: Round, environment: Tensors) -> Tensors:
    """The tensors of a link; `environment` is empty where the learner could not go on from it."""
    model, controls = now.model, now.controls
    tensors = policy_tensors(model.ppo.parameters, model.plan.shape)
    tensors |= optimizer_tensors(model.ppo, model.plan.shape)
    if model.normalizer is not None:
        tensors |= model.normalizer.round_moments()
    if not environment:
        return tensors
    tensors |= environment
    tensors[_EPOCHS] = np.array(now.epochs, np.int64)
    if model.normalizer is not None:
        tensors |= model.normalizer.standing()
    if controls is not None:
        tensors[_GRADIENTS] = np.array(controls.gradients)
        tensors[_STEPS] = np.array(controls.steps, np.int64)
    return tensors


def go_on(now: Round, state: Tensors, order: TrainOrder, updates: int) -> Round:
    """The round as it stood after so many `updates`, environments aside.

    Raises WireError or LearnerRefused where the state is not one of this work.
    """
    model, controls = now.model, now.controls
    check_tensors(state, _specs(now, order.environment), source="link state")
    _check_environment(state, order.environment)
    epochs = _counted(state, _EPOCHS, updates, updates * model.plan.hyperparameters.n_epochs)
    shape = model.plan.shape
    model = model._replace(ppo=Ppo(shape, policy_parameters(state, shape)))
    load_optimizer(model.ppo, state, model.plan)
    if model.normalizer is not None:
        statistics = [name for name in state if name.startswith(("normalizer/", "squares/"))]
        _check_size(state, statistics, _LARGEST**2)
        model.normalizer.go_on(state, updates * model.plan.hyperparameters.n_steps)
    if controls is not None:
        controls.gradients = np.array(state[_GRADIENTS])
        controls.steps = _counted(state, _STEPS, 0, epochs * order.local_steps)
    return Round(model, controls, epochs)


def _specs(now: Round, environment: EnvironmentSpec) -> dict[str, TensorSpec]:
    shape, count = now.model.plan.shape, environment.n_envs
    specs = policy_specs(shape) | optimizer_specs(shape)
    specs[STATES] = TensorSpec("float64", (count, ENVIRONMENTS[environment.id].state_size))
    specs[ELAPSED] = specs[EPISODES] = TensorSpec("int64", (count,))
    specs[RETURNS] = TensorSpec("float64", (count,))
    specs[_EPOCHS] = TensorSpec("int64", ())
    normalizer = now.model.normalizer
    if normalizer is not None:
        specs |= specs_of(normalizer.round_moments()) | specs_of(normalizer.standing())
    if now.controls is not None:
        specs[_GRADIENTS] = TensorSpec("float64", (shape.parameter_count,))
        specs[_STEPS] = TensorSpec("int64", ())
    return specs


def _check_environment(state: Tensors, environment: EnvironmentSpec) -> None:
    limit = ENVIRONMENTS[environment.id].max_episode_steps
    for name, most in ((ELAPSED, limit - 1), (EPISODES, _LAST_EPISODE)):
        if (state[name] < 0).any() or (state[name] > most).any():
            raise LearnerRefused(f"link state: {name} must be from 0 to {most}")
    _check_size(state, [STATES], 1e6)
    _check_size(state, [n for n in state if n.endswith("returns")], _LARGEST)


def _check_size(state: Tensors, names: list[str], most: float) -> None:
    for name in names:
        if (np.abs(state[name]) > most).any():
            raise LearnerRefused(f"link state: {name} must be within {most:g}")


def _counted(state: Tensors, name: str, least: int, most: int) -> int:
    value = int(state[name])
    if not least <= value <= most:
        raise LearnerRefused(f"link state: {name} must be from {least} to {most}, is {value}")
    return value
