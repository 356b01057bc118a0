"""One round of training of one client by the native PPO; the counterpart of `sb3_training.py`."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from native_kernels.ppo import Rollout, UpdateReport
from provider_image.learners.base import LearnerRefused, TrainingFailed, TrainOutcome
from provider_image.learners.hash_chain import HashChain
from provider_image.learners.native_choice import Stepping, stepping_of
from provider_image.learners.native_model import NativeModel, open_model, spaces_for
from provider_image.learners.native_plan import NativePlan
from provider_image.learners.native_state import (
    load_optimizer,
    optimizer_specs,
    optimizer_tensors,
    policy_tensors,
)
from provider_image.wire import UPDATED_PREFIXES, Tensors, TrainOrder, check_tensors

if TYPE_CHECKING:
    from provider_image.learners.native_stepping import VectorStepper

_ERROR_LETTERS = 300
STEPPING_METRIC: dict[Stepping, float] = {"gymnasium": 0.0, "batch": 1.0, "fused": 2.0}
"""`rollout/native_stepping`: how much of the rollout was native."""


class Collector(Protocol):
    """`native_kernels.rollouts.Collector`, and `native_collecting.SteppedCollector`."""

    def collect(self, n_steps: int, *, gamma: float, gae_lambda: float) -> Rollout:
        """Take `n_steps` steps of every environment."""
        ...

    @property
    def episode_returns(self) -> npt.NDArray[np.float64]:
        """Returns of the episodes that ended in the last rollout."""
        ...

    @property
    def episode_lengths(self) -> npt.NDArray[np.int64]:
        """Their lengths."""
        ...


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
    stepper = _stepper(model, order, stepping)
    try:
        return _train_on(stepper, model, order, received)
    finally:
        if stepper is not None:
            stepper.close()


def _train_on(
    stepper: VectorStepper | None, model: NativeModel, order: TrainOrder, received: Tensors
) -> TrainOutcome:
    journal = Journal(model.plan, order)
    given = model.plan.hyperparameters
    updates = order.local_steps // (given.n_steps * order.environment.n_envs)
    chain = HashChain(order, updates, can_resume=False)
    try:
        collector = _collector(stepper, model, order)
        _learn(collector, model, order, journal, chain)
    except (ArithmeticError, AssertionError, RuntimeError, ValueError) as error:
        raise TrainingFailed(
            f"training broke off: {type(error).__name__}: {str(error)[:_ERROR_LETTERS]}; where "
            "values are not finite, lower learning_rate"
        ) from error
    trained = model.tensors(order.rules)
    moments = model.normalizer.round_moments() if model.normalizer is not None else {}
    kept = order.rules.optimizer == "kept"
    done = chain.last_update - chain.first_update
    return TrainOutcome(
        tensors=_update(trained, received) | moments,
        client_state=optimizer_tensors(model.ppo, model.plan.shape) if kept else None,
        steps=done * given.n_steps * order.environment.n_envs,
        episodes=journal.episodes,
        metrics=journal.metrics(model.ppo.parameters),
        links=chain.links,
        link_state=chain.state,
    )


def _learn(
    collector: Collector, model: NativeModel, order: TrainOrder, journal: Journal, chain: HashChain
) -> None:
    plan, ppo = model.plan, model.ppo
    given = plan.hyperparameters
    rollout_steps = given.n_steps * order.environment.n_envs
    for number in range(chain.first_update + 1, chain.last_update + 1):
        rollout = collector.collect(given.n_steps, gamma=given.gamma, gae_lambda=given.gae_lambda)
        done = order.steps_done + number * rollout_steps
        settings = plan.settings_at(done / order.steps_total)
        report = ppo.update(rollout, settings, seed=order.seed, first_epoch=journal.epochs)
        journal.note(collector, report, number)
        if not np.isfinite(ppo.parameters).all():
            raise FloatingPointError(f"weights are not finite after {done} steps")
        chain.note(number, lambda: _standing(model))


def _standing(model: NativeModel) -> Tensors:
    """The tensors of a link."""
    tensors = policy_tensors(model.ppo.parameters, model.plan.shape)
    tensors |= optimizer_tensors(model.ppo, model.plan.shape)
    return tensors | (model.normalizer.round_moments() if model.normalizer is not None else {})


class Journal:
    """What a round reports, under SB3's logger names; the last value of each counts."""

    def __init__(self, plan: NativePlan, order: TrainOrder) -> None:
        """Begin with nothing."""
        self._plan, self._order = plan, order
        self._window: deque[tuple[float, int]] = deque(
            maxlen=plan.hyperparameters.stats_window_size
        )
        self._rows: dict[str, float] = {}
        self.episodes = 0
        self.epochs = 0

    def note(self, collector: Collector, report: UpdateReport, number: int) -> None:
        """Take in the rollout and the update of iteration `number`, from 1."""
        lengths = collector.episode_lengths
        self.episodes += len(lengths)
        self._window.extend(zip(collector.episode_returns.tolist(), lengths.tolist(), strict=True))
        self.epochs += report.epochs
        order, given = self._order, self._plan.hyperparameters
        done = order.steps_done + number * given.n_steps * order.environment.n_envs
        self._rows |= {
            "time/iterations": number,
            "time/total_timesteps": done,
            "train/approx_kl": report.approx_kl,
            "train/clip_fraction": report.clip_fraction,
            "train/entropy_loss": report.entropy_loss,
            "train/explained_variance": report.explained_variance,
            "train/loss": report.loss,
            "train/n_updates": self.epochs,
            "train/policy_gradient_loss": report.policy_gradient_loss,
            "train/value_loss": report.value_loss,
        }
        for name, value in self._plan.scheduled_at(done / order.steps_total).items():
            self._rows[f"train/{name}"] = value

    def metrics(self, parameters: npt.NDArray[np.float32]) -> dict[str, float]:
        """All finite values; `parameters` are the trained ones."""
        rows = dict(self._rows)
        rows["rollout/native_stepping"] = STEPPING_METRIC[stepping_of(self._order.environment)]
        if self._window:
            rows["rollout/ep_rew_mean"] = sum(r for r, _ in self._window) / len(self._window)
            rows["rollout/ep_len_mean"] = sum(n for _, n in self._window) / len(self._window)
        if self._plan.shape.distribution == "gaussian":
            log_std = parameters[: self._plan.shape.action_size].astype(np.float64)
            rows["train/std"] = float(np.exp(log_std).mean())
        return {name: float(value) for name, value in rows.items() if math.isfinite(value)}


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
        from native_kernels import rollouts
        from native_kernels.environments import BatchEnvironment

        spec = order.environment
        environment = BatchEnvironment(spec.id, spec.n_envs, seed=order.seed)
        return rollouts.Collector(model.ppo, environment, seed=order.seed)
    from provider_image.learners.native_collecting import SteppedCollector

    return SteppedCollector(model.ppo, stepper, model.normalizer, seed=order.seed)


def _check_local_steps(plan: NativePlan, order: TrainOrder) -> None:
    unit = plan.hyperparameters.n_steps * order.environment.n_envs
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
    kept = order.rules.optimizer == "kept"
    specs = optimizer_specs(model.plan.shape) if kept else {}
    check_tensors(client_state, specs, source="client state")
    if kept:
        load_optimizer(model.ppo, client_state, model.plan)


def _update(trained: Tensors, received: Tensors) -> Tensors:
    update: dict[str, Any] = {}
    for name, tensor in trained.items():
        if not name.startswith(UPDATED_PREFIXES):
            continue
        update[name] = np.subtract(tensor, received[name], dtype=np.float32)
        if not np.isfinite(update[name]).all():
            raise TrainingFailed(
                f"training diverged: {name} is no longer finite; lower learning_rate or "
                "max_grad_norm"
            )
    return update
