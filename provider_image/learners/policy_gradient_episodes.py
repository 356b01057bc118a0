"""Whole episodes of a policy, all of an order's side by side. Axes: E episodes, N their steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from provider_image.learners.native_collecting import flat
from provider_image.learners.native_stepping import VectorStepper
from provider_image.learners.policy_gradient_network import (
    Float64,
    Integers,
    Parameters,
    PolicyNetwork,
    exponential,
)

Act = Callable[[npt.NDArray[Any]], Integers]


class Episodes(NamedTuple):
    """E episodes, the steps of one after those of the other.

    observations: float64[N, O]. actions: int64[N]. rewards: float64[N]. lengths: int64[E], whose
    sum is N.
    """

    observations: Float64
    actions: Integers
    rewards: Float64
    lengths: Integers

    @property
    def starts(self) -> Integers:
        """Where each episode begins: int64[E]."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def returns(self) -> Float64:
        """Sum of each episode's rewards: float64[E]."""
        return np.add.reduceat(self.rewards, self.starts)


class Source(NamedTuple):
    """Environments for some episodes, one each, and the seed of the actions in them."""

    stepper: VectorStepper
    episodes: int
    seed: int


def play(
    network: PolicyNetwork,
    parameters: Parameters,
    sources: Sequence[Source],
    horizon: int,
    act: Act | None = None,
) -> list[Episodes]:
    """Play one episode in each environment of each source, of at most `horizon` steps.

    The sources share the passes through the network; each gives the same bits as if it were alone.
    `act` takes observations and gives actions in place of the policy.
    """
    records = [_Record(source) for source in sources]
    ends = np.cumsum([source.episodes for source in sources])[:-1]
    for _ in range(horizon):
        if all(record.is_over for record in records):
            break
        seen = np.concatenate([record.observations for record in records])
        if act is None:
            uniforms = np.concatenate([record.uniforms() for record in records])
            actions = drawn(network.log_probabilities(parameters, seen), uniforms)
        else:
            actions = act(seen)
        for record, part in zip(records, np.split(actions, ends), strict=True):
            record.step(np.ascontiguousarray(part))
    return [record.episodes() for record in records]


class _Record:
    """One source's episodes as they go; environments that are through are stepped on unheard."""

    def __init__(self, source: Source) -> None:
        self._stepper = source.stepper
        self._draws = np.random.Generator(np.random.Philox(key=source.seed))
        self.observations = flat(source.stepper.reset()).astype(np.float64)
        self._is_running = np.ones(source.episodes, np.bool_)
        self._lengths = np.zeros(source.episodes, np.int64)
        self._steps: list[tuple[Float64, Integers, Float64]] = []

    @property
    def is_over(self) -> bool:
        """True once every episode has ended."""
        return not self._is_running.any()

    def uniforms(self) -> Float64:
        """A number from 0 to 1 for each episode's next action."""
        return self._draws.random(len(self._lengths))

    def step(self, actions: Integers) -> None:
        """Take one step everywhere; once all is over, none."""
        if self.is_over:
            return
        transition = self._stepper.step(actions)
        self._steps.append((self.observations, actions, transition.rewards))
        self._lengths += self._is_running
        self._is_running &= ~transition.dones
        self.observations = flat(transition.observations).astype(np.float64)

    def episodes(self) -> Episodes:
        """All that was played, in the order of the environments."""
        is_part = np.arange(len(self._steps))[None, :] < self._lengths[:, None]
        observations, actions, rewards = (
            np.stack(column, axis=1)[is_part] for column in zip(*self._steps, strict=True)
        )
        return Episodes(observations, actions, rewards, self._lengths)


def drawn(log_probabilities: Float64, uniforms: Float64) -> Integers:
    """The first action whose cumulative probability is above the uniform number."""
    probabilities = exponential(log_probabilities)
    actions = np.zeros(len(uniforms), np.int64)
    total = np.zeros(len(uniforms))
    for action in range(probabilities.shape[1] - 1):
        total += probabilities[:, action]
        actions += uniforms >= total
    return actions
