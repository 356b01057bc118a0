"""How a merged update moves the global parameters. D is the merged update, the pseudo-gradient.

The adaptive ones are those of Reddi et al. 2021, arXiv 2003.00295, as the paper has them: no bias
correction, and v is tau^2 before the first round. Flower's differ: its FedAdam corrects the bias,
with the exponent of one round more, its FedYogi and FedAdagrad start v at 0.

They compute in float64 and keep their state so; parameters are `float32[P]`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from requestor.federation.merging.protocol import Float32, Float64, State


@dataclass(frozen=True)
class Sgd:
    """w <- w + rate D; with rate 1 this is plain federated averaging. No state."""

    learning_rate: float = 1.0

    def step(
        self, parameters: Float32, pseudo_gradient: Float32, state: State
    ) -> tuple[Float32, State]:
        """Return the next parameters, and no state."""
        return parameters + np.float32(self.learning_rate) * pseudo_gradient, {}


@dataclass(frozen=True)
class Momentum:
    """m <- beta m + D, w <- w + rate m (FedAvgM, Hsu et al. 2019, arXiv 1909.06335).

    As Flower's FedAvgM.
    """

    learning_rate: float = 1.0
    beta: float = 0.9

    def step(
        self, parameters: Float32, pseudo_gradient: Float32, state: State
    ) -> tuple[Float32, State]:
        """Return the next parameters, and m as `momentum`, `float64[P]`."""
        momentum = self.beta * _kept(state, "momentum", parameters, 0.0) + pseudo_gradient
        return _moved(parameters, self.learning_rate * momentum), {"momentum": momentum}


@dataclass(frozen=True)
class Nesterov:
    """m <- beta m + D, w <- w + rate (D + beta m): DiLoCo's outer step (arXiv 2311.08105)."""

    learning_rate: float = 0.7
    beta: float = 0.9

    def step(
        self, parameters: Float32, pseudo_gradient: Float32, state: State
    ) -> tuple[Float32, State]:
        """Return the next parameters, and m as `momentum`, `float64[P]`."""
        momentum = self.beta * _kept(state, "momentum", parameters, 0.0) + pseudo_gradient
        change = pseudo_gradient + self.beta * momentum
        return _moved(parameters, self.learning_rate * change), {"momentum": momentum}


@dataclass(frozen=True)
class _Adaptive(ABC):
    """m <- beta1 m + (1 - beta1) D, v as the kind says, w <- w + rate m / (sqrt(v) + tau)."""

    learning_rate: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    @abstractmethod
    def second(self, before: Float64, square: Float64) -> Float64:
        """Return v from the last v and D^2, `float64[P]` each."""

    def step(
        self, parameters: Float32, pseudo_gradient: Float32, state: State
    ) -> tuple[Float32, State]:
        """Return the next parameters, and m and v as `first` and `second`, `float64[P]`."""
        gradient = pseudo_gradient.astype(np.float64)
        first = self.beta1 * _kept(state, "first", parameters, 0.0) + (1 - self.beta1) * gradient
        before = _kept(state, "second", parameters, self.tau**2)
        second = self.second(before, gradient * gradient)
        change = self.learning_rate * first / (np.sqrt(second) + self.tau)
        return _moved(parameters, change), {"first": first, "second": second}


@dataclass(frozen=True)
class Adagrad(_Adaptive):
    """FedAdagrad: v <- v + D^2. The paper and Flower have beta1 = 0 here, and so has the default.

    beta2 is not used.
    """

    beta1: float = 0.0

    def second(self, before: Float64, square: Float64) -> Float64:
        """Return `before + square`."""
        return before + square


@dataclass(frozen=True)
class Adam(_Adaptive):
    """FedAdam: v <- beta2 v + (1 - beta2) D^2."""

    def second(self, before: Float64, square: Float64) -> Float64:
        """Return the running mean of the squares."""
        return self.beta2 * before + (1 - self.beta2) * square


@dataclass(frozen=True)
class Yogi(_Adaptive):
    """FedYogi: v <- v - (1 - beta2) D^2 sign(v - D^2)."""

    def second(self, before: Float64, square: Float64) -> Float64:
        """Return `before`, moved towards `square` by a share of `square`."""
        return before - (1 - self.beta2) * square * np.sign(before - square)


def _kept(state: State, name: str, like: Float32, default: float) -> Float64:
    kept = state.get(name)
    return np.full(like.shape, default) if kept is None else np.asarray(kept, dtype=np.float64)


def _moved(parameters: Float32, change: Float64) -> Float32:
    return np.asarray(parameters + change, dtype=np.float32)
