"""One round of training of one client: exactly `local_steps` steps, and what they changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq

from provider_image.learners.base import LearnerRefused, TrainingFailed, TrainOutcome
from provider_image.learners.sb3_drift import ControlVariates, hold_near
from provider_image.learners.sb3_environments import VectorEnvironment, training_environment
from provider_image.learners.sb3_links import LinkCallback, Links
from provider_image.learners.sb3_models import ModelPlan, build_model, is_on_policy
from provider_image.learners.sb3_replay import REPLAY_PREFIX, load_replay, replay_tensors
from provider_image.learners.sb3_state import (
    fresh_controls,
    load_model,
    load_optimizers,
    model_tensors,
    optimizer_tensors,
)
from provider_image.wire import (
    CONTROL_PREFIX,
    OPTIMIZER_PREFIX,
    UPDATED_PREFIXES,
    Tensors,
    TrainOrder,
    check_tensors,
    specs_of,
)

_ERROR_LETTERS = 300
_CLOCK_METRICS = frozenset({"time/fps", "time/time_elapsed"})


def train(order: TrainOrder, received: Tensors, client_state: Tensors | None) -> TrainOutcome:
    """Load, learn, subtract. See `base.Learner.train`."""
    if order.rules.replay == "kept" and is_on_policy(order.learner):
        raise LearnerRefused(
            f"rules.replay: kept has no meaning for {order.learner.algorithm}; use reset"
        )
    environment = training_environment(order.environment, order.rules)
    try:
        return _train_on(environment, order, received, client_state)
    finally:
        environment.close()


def _train_on(
    environment: VectorEnvironment,
    order: TrainOrder,
    received: Tensors,
    client_state: Tensors | None,
) -> TrainOutcome:
    model = build_model(_plan(order), environment.outermost)
    load_model(model, received, order.rules, environment.normalizer)
    _check_local_steps(model, order)
    links = Links(order, model, environment)
    _load_client_state(model, order, client_state)
    hold_near(model, order.rules)
    variates = _variates(model, order, received, client_state)
    _resume_counters(model, order, fresh_replay=not _has_replay(order, client_state))
    model.set_random_seed(order.seed)

    metrics = LatestMetrics()
    model.set_logger(Logger(folder=None, output_formats=[metrics]))
    counter = StepCounter(order.steps_done + links.steps)
    callbacks = CallbackList([counter, LinkCallback(links)])
    try:
        model.learn(links.steps, callback=callbacks, reset_num_timesteps=False)
    except (ArithmeticError, RuntimeError, ValueError) as error:
        raise TrainingFailed(
            f"training broke off: {type(error).__name__}: {str(error)[:_ERROR_LETTERS]}; where "
            "values are not finite, lower learning_rate"
        ) from error
    model.dump_logs()

    steps = model.num_timesteps - order.steps_done
    if steps != links.steps:
        raise TrainingFailed(f"{steps} steps were taken, {links.steps} were ordered")
    trained = model_tensors(model, order.rules, environment.normalizer)
    moments = environment.recorder.tensors() if environment.recorder is not None else {}
    return TrainOutcome(
        tensors=_update(trained, received, variates) | moments,
        client_state=_client_state(model, order, variates),
        steps=steps,
        episodes=counter.episodes,
        metrics=metrics.latest,
        links=links.chain.links,
    )


class EndingTrainFreq(TrainFreq):
    """SB3's `train_freq` with an end: the rollout in hand stops when the round's steps are done.

    SB3 looks at `frequency` after every step; without an end it would finish the last rollout
    (steps or whole episodes), and take more steps than were ordered.
    """

    has_ended = False

    @property
    def frequency(self) -> int:
        """Steps or episodes per rollout; 0, which is always reached, once the round has ended."""
        return 0 if self.has_ended else self[0]


class StepCounter(BaseCallback):
    """Counts episodes, and ends an off-policy round at its last step."""

    def __init__(self, last_step: int) -> None:
        super().__init__()
        self.episodes = 0
        self._last_step = last_step

    def _on_training_start(self) -> None:
        model = self.model
        model._update_current_progress_remaining(model.num_timesteps, 0)
        if isinstance(model, DQN) and model.num_timesteps > 0:
            model.exploration_rate = model.exploration_schedule(model._current_progress_remaining)

    def _on_step(self) -> bool:
        self.episodes += int(np.sum(self.locals["dones"]))
        if self.num_timesteps >= self._last_step and isinstance(self.model, OffPolicyAlgorithm):
            cast(EndingTrainFreq, self.model.train_freq).has_ended = True
        return True


class LatestMetrics(KVWriter):
    """Keeps the last finite value of each of SB3's logger names, those of clocks excepted."""

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: Mapping[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        """Take what SB3 dumps."""
        for name, value in key_values.items():
            if name not in _CLOCK_METRICS and isinstance(value, (int, float, np.number)):
                number = float(value)
                if math.isfinite(number):
                    self.latest[name] = number

    def close(self) -> None:
        """Nothing to close."""


def _plan(order: TrainOrder) -> ModelPlan:
    """With a replay buffer that lives for one round, no more than this round's steps fit in."""
    kept = order.rules.replay == "kept"
    return ModelPlan(
        environment=order.environment,
        learner=order.learner,
        seed=order.seed,
        buffer_steps=None if kept else order.local_steps + order.environment.n_envs,
        run_steps_total=order.steps_total,
    )


def _check_local_steps(model: BaseAlgorithm, order: TrainOrder) -> None:
    if isinstance(model, OnPolicyAlgorithm):
        unit, product = model.n_steps * model.n_envs, "n_steps * n_envs"
    else:
        unit, product = model.n_envs, "n_envs"
    if order.local_steps % unit:
        below = order.local_steps // unit * unit
        nearest = f"{below} or {below + unit}" if below else f"{unit}"
        raise LearnerRefused(
            f"local_steps {order.local_steps} is no multiple of {product} = {unit}; use {nearest}"
        )


def _has_replay(order: TrainOrder, client_state: Tensors | None) -> bool:
    return order.rules.replay == "kept" and client_state is not None


def _resume_counters(model: BaseAlgorithm, order: TrainOrder, *, fresh_replay: bool) -> None:
    """Go on counting where the run stands, so that everything scheduled by steps goes on too."""
    model.num_timesteps = order.steps_done
    if isinstance(model, OffPolicyAlgorithm):
        ending = EndingTrainFreq(*cast(TrainFreq, model.train_freq))
        model.train_freq = cast(tuple[int, str], ending)
        if fresh_replay:
            model.learning_starts += order.steps_done
    if isinstance(model, DQN):
        model._n_calls = order.steps_done // model.n_envs


def _load_client_state(
    model: BaseAlgorithm, order: TrainOrder, client_state: Tensors | None
) -> None:
    if client_state is None:
        return
    replay = {n: t for n, t in client_state.items() if n.startswith(REPLAY_PREFIX)}
    others = {n: t for n, t in client_state.items() if n not in replay}
    expected = specs_of(optimizer_tensors(model)) if order.rules.optimizer == "kept" else {}
    if order.rules.drift == "scaffold":
        expected |= specs_of(fresh_controls(model))
    check_tensors(others, expected, source="client state")
    if order.rules.optimizer == "kept":
        load_optimizers(model, others)
    if order.rules.replay == "kept" and isinstance(model, OffPolicyAlgorithm):
        assert model.replay_buffer is not None
        load_replay(model.replay_buffer, replay)
    elif replay:
        check_tensors(replay, {}, source="client state")


def _variates(
    model: BaseAlgorithm, order: TrainOrder, received: Tensors, client_state: Tensors | None
) -> ControlVariates | None:
    """A client's first round begins with a variate of its own of 0."""
    if order.rules.drift != "scaffold":
        return None
    return ControlVariates(model, received, client_state or fresh_controls(model))


def _client_state(
    model: BaseAlgorithm, order: TrainOrder, variates: ControlVariates | None
) -> Tensors | None:
    """None also for a part of the work, after which no state is handed on."""
    if not order.rules.client_has_state or order.links is not None:
        return None
    state: Tensors = {} if variates is None else variates.state()
    if order.rules.optimizer == "kept":
        state |= optimizer_tensors(model)
    if order.rules.replay == "kept" and isinstance(model, OffPolicyAlgorithm):
        assert model.replay_buffer is not None
        state |= replay_tensors(model.replay_buffer)
    assert all(n.startswith((CONTROL_PREFIX, OPTIMIZER_PREFIX, REPLAY_PREFIX)) for n in state)
    return state


def _update(trained: Tensors, received: Tensors, variates: ControlVariates | None) -> Tensors:
    update: Tensors = {} if variates is None else variates.change()
    for name, tensor in trained.items():
        if name.startswith(UPDATED_PREFIXES) and name not in update:
            update[name] = np.subtract(tensor, received[name], dtype=np.float32)
    for name in update:
        if not np.isfinite(update[name]).all():
            raise TrainingFailed(
                f"training diverged: {name} is no longer finite; lower learning_rate or "
                "max_grad_norm"
            )
    return update
