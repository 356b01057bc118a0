"""Aggregation rules and server optimizers: how client updates become the next global model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from native_kernels.aggregation import weighted_mean

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class AggregationRule(Protocol):
    """Merge N client updates into one pseudo-gradient."""

    def __call__(self, updates: Float32, weights: Float64) -> Float32:
        """Return the pseudo-gradient `float32[P]`.

        Args:
            updates: `float32[N, P]`, one row a client, rows in client order.
            weights: `float64[N]`, non-negative, at least one positive: steps that the requestor
                assigned, never what a provider reported.
        """
        ...


class ServerOptimizer(Protocol):
    """Apply a pseudo-gradient to the global parameters."""

    def step(self, parameters: Float32, pseudo_gradient: Float32) -> Float32:
        """Return the next parameters `float32[P]` from `parameters` and `pseudo_gradient`."""
        ...


@dataclass(frozen=True)
class FedAvg:
    """Weighted mean of the updates: sum(p_i x_i) / sum(p_i) (McMahan et al. 2017).

    Accumulates in float64 in client order, so the result does not depend on who answered first.
    """

    def __call__(self, updates: Float32, weights: Float64) -> Float32:
        """Return the weighted mean `float32[P]` of `updates` (`float32[N, P]`)."""
        return weighted_mean(np.ascontiguousarray(updates), weights)


@dataclass(frozen=True)
class ServerSGD:
    """Add the pseudo-gradient times a learning rate; 1.0 is plain federated averaging."""

    learning_rate: float = 1.0

    def step(self, parameters: Float32, pseudo_gradient: Float32) -> Float32:
        """Return `parameters + learning_rate * pseudo_gradient`, all `float32[P]`."""
        return parameters + np.float32(self.learning_rate) * pseudo_gradient


AGGREGATION_RULES: dict[str, AggregationRule] = {"fedavg": FedAvg()}
"""The rules a config can name (`federation.aggregation`)."""
