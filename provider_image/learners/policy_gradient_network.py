"""A small policy network in NumPy: probabilities of actions, and gradients of their logarithms.

Sums are taken in float64 and in a stated order (no BLAS), exponentials, logarithms and tanh by
`native_kernels`: the same bits on every processor, and each row's as if it stood alone.
Axes: N samples, O observation, A actions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from native_kernels._native import elementary
from provider_image.wire import POLICY_PREFIX, Tensors, TensorSpec

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Parameters = dict[str, Float64]
"""The network's tensors by their names in a model, in float64."""


@dataclass(frozen=True)
class PolicyNetwork:
    """A perceptron that gives the logits of a categorical policy.

    sizes: units of every layer, from O to A. With `squash_logits` the logits go through tanh,
    so that no action of two ever has more than 88 %.
    """

    sizes: tuple[int, ...]
    activation: Literal["tanh", "relu"] = "tanh"
    squash_logits: bool = False

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Names and shapes of the tensors, in the order of their names."""
        specs: dict[str, TensorSpec] = {}
        for layer, (inputs, outputs) in enumerate(self._pairs()):
            specs[_name(layer, "bias")] = TensorSpec("float32", (outputs,))
            specs[_name(layer, "weight")] = TensorSpec("float32", (outputs, inputs))
        return specs

    def fresh(self, seed: int) -> Tensors:
        """Tensors float32 as PyTorch's `Linear` has them: uniform within 1 / sqrt(inputs)."""
        draws = np.random.Generator(np.random.Philox(key=seed))
        tensors: Tensors = {}
        for layer, (inputs, outputs) in enumerate(self._pairs()):
            bound = 1.0 / math.sqrt(inputs)
            for part, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
                values = (2.0 * draws.random(shape) - 1.0) * bound
                tensors[_name(layer, part)] = values.astype(np.float32)
        return tensors

    def logits(self, parameters: Parameters, observations: Float64) -> Float64:
        """Logits float64[N, A] for observations float64[N, O]."""
        return np.ascontiguousarray(self._activations(parameters, observations)[-1].T)

    def log_probabilities(self, parameters: Parameters, observations: Float64) -> Float64:
        """Logarithms float64[N, A] of the probabilities of all actions."""
        return np.ascontiguousarray(_log_softmax(self._activations(parameters, observations)[-1]).T)

    def score_gradient(
        self,
        parameters: Parameters,
        observations: Float64,
        actions: Integers,
        coefficients: Float64,
    ) -> Parameters:
        """The gradient of sum_n coefficients[n] * log pi(actions[n] | observations[n]).

        observations: float64[N, O]. actions: int64[N]. coefficients: float64[N].
        """
        seen = self._activations(parameters, observations)
        logits = seen[-1]
        slope = -_exp(_log_softmax(logits))
        slope[actions, np.arange(len(actions))] += 1.0
        slope *= coefficients
        if self.squash_logits:
            slope *= 1.0 - logits * logits
        gradient: Parameters = {}
        for layer in reversed(range(len(self.sizes) - 1)):
            before = seen[layer]
            gradient[_name(layer, "bias")] = np.add.reduce(slope, axis=1)
            gradient[_name(layer, "weight")] = _outer_sums(slope, before)
            if layer:
                slope = _product(parameters[_name(layer, "weight")].T, slope)
                if self.activation == "tanh":
                    slope *= 1.0 - before * before
                else:
                    slope *= before > 0
        return gradient

    def _activations(self, parameters: Parameters, observations: Float64) -> list[Float64]:
        """What goes into each layer, and the logits; units are rows, samples columns."""
        found = [np.ascontiguousarray(observations.T)]
        last = len(self.sizes) - 2
        for layer in range(last + 1):
            now = _product(parameters[_name(layer, "weight")], found[-1])
            now += parameters[_name(layer, "bias")][:, None]
            if layer == last:
                now = _tanh(now) if self.squash_logits else now
            else:
                now = _tanh(now) if self.activation == "tanh" else np.maximum(now, 0.0)
            found.append(now)
        return found

    def _pairs(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self.sizes, self.sizes[1:], strict=False))


def parameters_of(tensors: Tensors, prefix: str = POLICY_PREFIX) -> Parameters:
    """The tensors below `prefix`, as the network names them."""
    return {
        POLICY_PREFIX + name.removeprefix(prefix): np.asarray(tensor, np.float64)
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _name(layer: int, part: str) -> str:
    return f"{POLICY_PREFIX}layers.{layer}.{part}"


def _product(left: Float64, right: Float64) -> Float64:
    """left [J, I] times right [I, N], summed over I in order."""
    total: Float64 = left[:, :1] * right[0]
    part = np.empty_like(total)
    for index in range(1, len(right)):
        np.multiply(left[:, index : index + 1], right[index], out=part)
        total += part
    return total


def _outer_sums(left: Float64, right: Float64) -> Float64:
    """Sums over n of left[j, n] * right[i, n]: [J, I]."""
    return np.stack([np.add.reduce(row * right, axis=1) for row in left])


def _log_softmax(logits: Float64) -> Float64:
    """Logarithms of shares, over the rows of logits [A, N]."""
    shifted: Float64 = logits - logits.max(axis=0)
    parts = _exp(shifted)
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return shifted - _log(total)


def _elementwise(function: Callable[[Float32], Float32], values: npt.NDArray[Any]) -> Float64:
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    return function(flat).reshape(values.shape).astype(np.float64)


def _exp(values: Float64) -> Float64:
    return _elementwise(elementary.exp, values)


def _log(values: Float64) -> Float64:
    return _elementwise(elementary.log, values)


def _tanh(values: Float64) -> Float64:
    return _elementwise(elementary.tanh, values)


def exponential(values: Float64) -> Float64:
    """e to the power of values, within 1.2e-7 of itself, the same bits everywhere."""
    return _exp(values)
