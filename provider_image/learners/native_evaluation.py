"""Evaluation by the native policy, in the real Gymnasium environments.

All running episodes share a forward pass, whose rows do not depend on each other; so each episode
goes as if it had been run alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from provider_image.environments import EnvironmentRefused, read_spaces
from provider_image.learners.base import Evaluation, LearnerRefused, TrainingFailed
from provider_image.learners.episodes import run_episodes
from provider_image.learners.native_collecting import flat
from provider_image.learners.native_model import NativeModel, open_model
from provider_image.learners.native_stepping import for_environment
from provider_image.wire import EvaluateOrder, Tensors, WireError

_ERROR_LETTERS = 300


def evaluate(order: EvaluateOrder, received: Tensors) -> Evaluation:
    """See `base.Learner.evaluate`."""
    model = open_model(order, received, read_spaces(order.environment))
    player = _Player(model, is_deterministic=order.deterministic)
    try:
        return run_episodes(order, player.act, player.begin)
    except (ArithmeticError, AssertionError, RuntimeError, ValueError) as error:
        if isinstance(error, TrainingFailed | LearnerRefused | WireError | EnvironmentRefused):
            raise
        raise TrainingFailed(
            f"evaluation broke off: {type(error).__name__}: {str(error)[:_ERROR_LETTERS]}"
        ) from error


class _Player:
    """Acts for side-by-side episodes; drawn actions follow the seed of the episode at hand."""

    def __init__(self, model: NativeModel, *, is_deterministic: bool) -> None:
        self._model, self._is_deterministic = model, is_deterministic
        self._seed = self._step = 0

    def begin(self, seed: int) -> None:
        """Seed what an environment may draw from beside its own generator, and our actions."""
        random.seed(seed)
        np.random.seed(seed)
        self._seed, self._step = seed, 0

    def act(self, observations: list[Any]) -> Sequence[Any]:
        """Actions as the environment takes them, one for each observation."""
        model = self._model
        stacked = np.stack(observations)
        if model.normalizer is not None:
            stacked = model.normalizer.observed(stacked)
        seen = flat(stacked)
        if self._is_deterministic:
            actions = model.ppo.best_actions(seen)
        else:
            actions, _, _ = model.ppo.act(seen, seed=self._seed, step=self._step)
            self._step += 1
        return list(for_environment(actions, model.plan.spaces.action))
