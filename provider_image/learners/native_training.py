"""One round of training of one client by the native PPO; the counterpart of `sb3_training.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from native_kernels.ppo import Drift
from provider_image.learners.base import LearnerRefused, TrainingFailed, TrainOutcome
from provider_image.learners.hash_chain import HashChain
from provider_image.learners.native_batches import FusedCollector
from provider_image.learners.native_choice import Stepping, stepping_of
from provider_image.learners.native_collecting import Collector, SteppedCollector
from provider_image.learners.native_drift import Controls, control_specs, drift_of
from provider_image.learners.native_journal import Journal
from provider_image.learners.native_link_state import Round, go_on, link_tensors
from provider_image.learners.native_model import NativeModel, open_model, spaces_for
from provider_image.learners.native_plan import NativePlan
from provider_image.learners.native_state import (
    load_optimizer,
    optimizer_specs,
    optimizer_tensors,
    policy_parameters,
)
from provider_image.wire import UPDATED_PREFIXES, Tensors, TrainOrder, check_tensors

if TYPE_CHECKING:
    from provider_image.learners.native_stepping import VectorStepper

_ERROR_LETTERS = 300


def train(
    order: TrainOrder,
    received: Tensors,
    client_state: Tensors | None,
    link_state: Tensors | None = None,
) -> TrainOutcome:
    """Load, learn, subtract. See `base.Learner.train`."""
    if order.rules.replay == "kept":
        raise LearnerRefused(
            f"rules.replay: kept has no meaning for {order.learner.algorithm}; use reset"
        )
    stepping = stepping_of(order.environment)
    model = open_model(order, received, spaces_for(order.environment, stepping))
    _check_local_steps(model.plan, order)
    _load_client_state(model, order, client_state)
    updates = order.local_steps // _rollout_steps(model.plan, order)
    chain = HashChain(order, updates, can_resume=stepping != "gymnasium")
    controls = None
    if order.rules.drift == "scaffold":
        controls = Controls(model.plan.shape, received, client_state)
    now = Round(model, controls, 0)
    stepper = _stepper(model, order, stepping)
    try:
        return _train_on(stepper, now, order, Inputs(received, link_state), chain)
    finally:
        if stepper is not None:
            stepper.close()


class Inputs(NamedTuple):
    """What a round begins with: the model's tensors, and a link's where it begins there."""

    received: Tensors
    link_state: Tensors | None


def _train_on(
    stepper: VectorStepper | None,
    now: Round,
    order: TrainOrder,
    inputs: Inputs,
    chain: HashChain,
) -> TrainOutcome:
    if inputs.link_state is not None:
        now = go_on(now, inputs.link_state, order, chain.first_update)
    model, controls = now.model, now.controls
    journal = Journal(model.plan, order, now.epochs)
    try:
        collector = _collector(stepper, model, order)
        if inputs.link_state is not None:
            steps = chain.first_update * model.plan.hyperparameters.n_steps
            collector.go_on(inputs.link_state, steps)
        anchor = policy_parameters(inputs.received, model.plan.shape)
        drift = drift_of(order.rules, anchor, controls)
        _learn(collector, Lesson(now, order, journal, chain, drift))
    except (ArithmeticError, AssertionError, RuntimeError, ValueError) as error:
        raise TrainingFailed(
            f"training broke off: {type(error).__name__}: {str(error)[:_ERROR_LETTERS]}; where "
            "values are not finite, lower learning_rate"
        ) from error
    tensors = _update(model.tensors(order.rules), inputs.received)
    if model.normalizer is not None:
        tensors |= model.normalizer.round_moments()
    if controls is not None:
        tensors |= _finite(controls.change())
    done = chain.last_update - chain.first_update
    return TrainOutcome(
        tensors=tensors,
        client_state=_client_state(now, order),
        steps=done * _rollout_steps(model.plan, order),
        episodes=journal.episodes,
        metrics=journal.metrics(model.ppo.parameters),
        links=chain.links,
        link_state=chain.state,
    )


class Lesson(NamedTuple):
    """What is taught, and how."""

    now: Round
    order: TrainOrder
    journal: Journal
    chain: HashChain
    drift: Drift | None


def _learn(collector: Collector, lesson: Lesson) -> None:
    now, order, journal, chain, drift = lesson
    plan, ppo = now.model.plan, now.model.ppo
    given = plan.hyperparameters

    def standing() -> Tensors:
        return link_tensors(now._replace(epochs=journal.epochs), collector.standing())

    for number in range(chain.first_update + 1, chain.last_update + 1):
        rollout = collector.collect(given.n_steps, gamma=given.gamma, gae_lambda=given.gae_lambda)
        done = order.steps_done + number * _rollout_steps(plan, order)
        settings = plan.settings_at(done / order.steps_total)
        report = ppo.update(
            rollout, settings, seed=order.seed, first_epoch=journal.epochs, drift=drift
        )
        if now.controls is not None:
            now.controls.note(ppo.gradient_sum, report.updates)
        journal.note(collector, report, number)
        if not np.isfinite(ppo.parameters).all():
            raise FloatingPointError(f"weights are not finite after {done} steps")
        chain.note(number, standing)


def _stepper(model: NativeModel, order: TrainOrder, stepping: Stepping) -> VectorStepper | None:
    """What is stepped from Python; None if the environment is inside of the fused loop."""
    if stepping == "fused":
        return None
    from provider_image.learners.native_stepping import BatchStepper, GymnasiumStepper

    spaces = model.plan.spaces
    if stepping == "batch":
        return BatchStepper(order.environment, spaces.action, order.seed)
    return GymnasiumStepper(order.environment, spaces.action, spaces.observation, order.seed)


def _collector(stepper: VectorStepper | None, model: NativeModel, order: TrainOrder) -> Collector:
    if stepper is None:
        from native_kernels.environments import BatchEnvironment

        spec = order.environment
        environment = BatchEnvironment(spec.id, spec.n_envs, seed=order.seed)
        return FusedCollector(model.ppo, environment, seed=order.seed)
    return SteppedCollector(model.ppo, stepper, model.normalizer, seed=order.seed)


def _rollout_steps(plan: NativePlan, order: TrainOrder) -> int:
    return plan.hyperparameters.n_steps * order.environment.n_envs


def _check_local_steps(plan: NativePlan, order: TrainOrder) -> None:
    unit = _rollout_steps(plan, order)
    if order.local_steps % unit:
        below = order.local_steps // unit * unit
        nearest = f"{below} or {below + unit}" if below else f"{unit}"
        raise LearnerRefused(
            f"local_steps {order.local_steps} is no multiple of n_steps * n_envs = {unit}; "
            f"use {nearest}"
        )
    if unit == 1 and plan.hyperparameters.normalize_advantage:
        raise LearnerRefused(
            "a rollout of one step cannot be normalised; use n_steps of 2 or more, or "
            "normalize_advantage: false"
        )


def _load_client_state(model: NativeModel, order: TrainOrder, client_state: Tensors | None) -> None:
    if client_state is None:
        return
    shape = model.plan.shape
    specs = control_specs(shape, order.rules)
    if order.rules.optimizer == "kept":
        specs |= optimizer_specs(shape)
    check_tensors(client_state, specs, source="client state")
    if order.rules.optimizer == "kept":
        load_optimizer(model.ppo, client_state, model.plan)


def _client_state(now: Round, order: TrainOrder) -> Tensors | None:
    if not order.rules.client_has_state:
        return None
    state: Tensors = {}
    if order.rules.optimizer == "kept":
        state |= optimizer_tensors(now.model.ppo, now.model.plan.shape)
    return state | (now.controls.state() if now.controls is not None else {})


def _update(trained: Tensors, received: Tensors) -> Tensors:
    update: dict[str, Any] = {}
    for name, tensor in trained.items():
        if not name.startswith(UPDATED_PREFIXES):
            continue
        update[name] = np.subtract(tensor, received[name], dtype=np.float32)
    return _finite(update)


def _finite(update: Tensors) -> Tensors:
    for name, tensor in update.items():
        if not np.isfinite(tensor).all():
            raise TrainingFailed(
                f"training diverged: {name} is no longer finite; lower learning_rate or "
                "max_grad_norm"
            )
    return update
