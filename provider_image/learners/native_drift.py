"""What holds the native PPO near the other clients: FedProx's term, SCAFFOLD's control variates.

Definitions: `StateRules.drift`, and `wire/FORMAT.md`, sections 5, 6 and 9. P parameters.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from native_kernels.ppo import Drift, PolicyShape
from provider_image.learners.native_state import joined, pieces
from provider_image.wire import CONTROL_PREFIX, StateRules, Tensors, TensorSpec

Float32 = npt.NDArray[np.float32]


def control_specs(shape: PolicyShape, rules: StateRules) -> dict[str, TensorSpec]:
    """`control/<parameter>` float32, where the rules have control variates."""
    if rules.drift != "scaffold":
        return {}
    return {CONTROL_PREFIX + name: TensorSpec("float32", s) for name, s in shape.tensors.items()}


def fresh_controls(shape: PolicyShape, rules: StateRules) -> Tensors:
    """The control variates of a fresh model: zeros."""
    specs = control_specs(shape, rules)
    return {name: np.zeros(spec.shape, np.float32) for name, spec in specs.items()}


class Controls:
    """The control variates of one round: *c* of all clients, *c_i* of this one, and the gradients.

    `gradients` float64[P] is the sum of those of the `steps` gradient steps so far.
    """

    def __init__(self, shape: PolicyShape, received: Tensors, client_state: Tensors | None) -> None:
        """Take *c* from the model and *c_i* from the client's state, 0 if it has none."""
        self._shape = shape
        self._all = _joined_controls(received, shape)
        kept = client_state is not None
        self._own = _joined_controls(client_state, shape) if kept else np.zeros_like(self._all)
        self.gradients = np.zeros(shape.parameter_count)
        self.steps = 0

    def correction(self) -> Float32:
        """What every gradient gets: c - c_i, float32[P]."""
        return np.subtract(self._all, self._own, dtype=np.float32)

    def note(self, gradient_sum: Float32, steps: int) -> None:
        """Take in the gradients of one update, summed over its steps."""
        self.gradients += gradient_sum
        self.steps += steps

    def state(self) -> Tensors:
        """The client's own variate after the round, `control/<parameter>`: the mean gradient."""
        return self._named(self._renewed())

    def change(self) -> Tensors:
        """What the client's own variate changed by."""
        return self._named(np.subtract(self._renewed(), self._own, dtype=np.float32))

    def _renewed(self) -> Float32:
        return (self.gradients / self.steps).astype(np.float32) if self.steps else self._own

    def _named(self, vector: Float32) -> Tensors:
        return {CONTROL_PREFIX + name: piece for name, piece in pieces(vector, self._shape).items()}


def drift_of(rules: StateRules, received: Float32, controls: Controls | None) -> Drift | None:
    """What every gradient of a round gets, from the received parameters float32[P]."""
    if controls is not None:
        return Drift(correction=controls.correction())
    if rules.drift == "fedprox":
        return Drift(proximal=rules.proximal, anchor=received)
    return None


def _joined_controls(tensors: Tensors | None, shape: PolicyShape) -> Float32:
    assert tensors is not None
    return joined([tensors[CONTROL_PREFIX + name] for name in shape.tensors])
