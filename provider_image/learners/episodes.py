"""Held-out episodes: one per seed, each in an environment of its own, stepped side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from provider_image.environments import make_environment
from provider_image.learners.base import Evaluation, TrainingFailed
from provider_image.wire import EvaluateOrder

MAX_EPISODE_STEPS = 1_000_000
SIDE_BY_SIDE = 64

Act: TypeAlias = Callable[[list[Any]], Sequence[Any]]
"""Actions for the observations of episodes that are running, in their order."""


@dataclass
class _Episode:
    index: int
    environment: Any
    observation: Any
    total: float = 0.0
    steps: int = 0


@dataclass
class _Tally:
    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    running: list[_Episode] = field(default_factory=list)


def run_episodes(order: EvaluateOrder, act: Act, begin: Callable[[int], None]) -> Evaluation:
    """Run all episodes, at most 64 at a time; one at a time if actions are drawn.

    `begin` is called with an episode's seed before its environment is made.
    """
    count = len(order.seeds)
    tally = _Tally(np.zeros(count, np.float64), np.zeros(count, np.int64))
    width = SIDE_BY_SIDE if order.deterministic else 1
    for start in range(0, count, width):
        try:
            for index in range(start, min(start + width, count)):
                tally.running.append(_begin(order, index, begin))
            while tally.running:
                _advance(tally, act)
        finally:
            for episode in tally.running:
                episode.environment.close()
            tally.running.clear()
    return Evaluation(tally.returns, tally.lengths)


def _begin(order: EvaluateOrder, index: int, begin: Callable[[int], None]) -> _Episode:
    seed = order.seeds[index]
    begin(seed)
    environment = make_environment(order.environment)
    observation, _ = environment.reset(seed=seed)
    return _Episode(index, environment, observation)


def _advance(tally: _Tally, act: Act) -> None:
    """One step of every running episode."""
    actions = act([episode.observation for episode in tally.running])
    still_running = []
    for episode, action in zip(tally.running, actions, strict=True):
        observation, reward, terminated, truncated, _ = episode.environment.step(action)
        episode.observation = observation
        episode.total += float(reward)
        episode.steps += 1
        if terminated or truncated:
            tally.returns[episode.index] = episode.total
            tally.lengths[episode.index] = episode.steps
            episode.environment.close()
        elif episode.steps >= MAX_EPISODE_STEPS:
            raise TrainingFailed(
                f"an episode did not end within {MAX_EPISODE_STEPS} steps; add the wrapper "
                "TimeLimit to the environment"
            )
        else:
            still_running.append(episode)
    tally.running[:] = still_running
