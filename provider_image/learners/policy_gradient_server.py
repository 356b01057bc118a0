"""The server's own training: Adam along the merged direction, corrected by episodes of its own.

SCSG as FedPG-BR has it (Fan et al. 2021, arXiv 2110.14074): from theta_0, the received parameters,
step n goes along g(theta_n) - rho g(theta_0) + mu, with g from a few episodes of theta_n, rho the
importance ratio of each of their steps, and mu the direction that was merged for theta_0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from provider_image.learners.native_stepping import VectorStepper
from provider_image.learners.policy_gradient_episodes import Source, play
from provider_image.learners.policy_gradient_estimates import (
    estimate,
    step_ratios,
    step_weights,
)
from provider_image.learners.policy_gradient_network import Parameters, PolicyNetwork
from provider_image.learners.policy_gradient_plan import ADAM_PREFIX, Hyperparameters
from provider_image.wire import POLICY_PREFIX, InnerSteps, Tensors

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


class Adam:
    """Adam's steps of ascent (Kingma and Ba 2015), with its state in a model's tensors."""

    def __init__(self, tensors: Tensors, learning_rate: float) -> None:
        """Go on from the state in `tensors`."""
        self._rate = learning_rate
        self._step = int(tensors[f"{ADAM_PREFIX}step"])
        self._means, self._squares = (
            {
                POLICY_PREFIX + name.removeprefix(prefix): tensor.astype(np.float64)
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
            for prefix in (f"{ADAM_PREFIX}mean/", f"{ADAM_PREFIX}square/")
        )

    def ascend(self, parameters: Parameters, direction: Parameters) -> Parameters:
        """The parameters after one step along `direction`."""
        self._step += 1
        first = second = 1.0
        for _ in range(self._step):  # as everywhere: no power whose bits a machine may choose
            first, second = first * _BETAS[0], second * _BETAS[1]
        moved: Parameters = {}
        for name, value in parameters.items():
            slope = direction[name]
            mean = _BETAS[0] * self._means[name] + (1 - _BETAS[0]) * slope
            square = _BETAS[1] * self._squares[name] + (1 - _BETAS[1]) * slope * slope
            self._means[name], self._squares[name] = mean, square
            scale = np.sqrt(square / (1 - second)) + _EPSILON
            moved[name] = value + self._rate * (mean / (1 - first)) / scale
        return moved

    def tensors(self) -> Tensors:
        """The state, as it stands in a model."""
        state: Tensors = {f"{ADAM_PREFIX}step": np.array(self._step, np.int64)}
        for kind, values in (("mean", self._means), ("square", self._squares)):
            for name, value in values.items():
                below = name.removeprefix(POLICY_PREFIX)
                state[f"{ADAM_PREFIX}{kind}/{below}"] = value.astype(np.float32)
        return state


class Ascent(NamedTuple):
    """Where the inner steps led, how many there were, and what was played for them."""

    parameters: Parameters
    inner_steps: int
    episodes: int
    steps: int


class InnerLoop(NamedTuple):
    """What the inner steps have in common."""

    network: PolicyNetwork
    given: Hyperparameters
    inner: InnerSteps
    seed: int

    def climb(
        self, stepper: VectorStepper, adam: Adam, parameters: Parameters, direction: Parameters
    ) -> Ascent:
        """Take the inner steps from `parameters`, in environments that go on from step to step."""
        start, now = parameters, parameters
        seeds = np.random.Generator(np.random.Philox(key=self.seed))
        played = steps = 0
        for number in range(self.inner.most):
            key = int(seeds.integers(2**63))
            source = Source(stepper, self.inner.episodes, key)
            (episodes,) = play(self.network, now, [source], self.given.horizon)
            played += self.inner.episodes
            steps += int(episodes.lengths.sum())
            ratios = step_ratios(self.network, start, now, episodes)
            if abs(float(np.add.reduce(ratios)) / len(ratios) - 1.0) > self.inner.ratio_bound:
                return Ascent(now, number, played, steps)
            weights = step_weights(episodes, self.given.gamma, self.given.step_weights)
            here = estimate(self.network, now, episodes, weights)
            there = estimate(self.network, start, episodes, weights * ratios)
            now = adam.ascend(
                now, {name: here[name] - there[name] + direction[name] for name in here}
            )
        return Ascent(now, self.inner.most, played, steps)
