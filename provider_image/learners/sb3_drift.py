"""What holds a client near the others while it learns: FedProx's term, SCAFFOLD's variates.

Both are added to the gradient of each trainable parameter of the policy as soon as it is there,
before its norm is clipped. Sources: Li et al. 2020 (arXiv 1812.06127), Karimireddy et al. 2020
(arXiv 1910.06378); SCAFFOLD is derived for plain gradient descent, under Adam it is a heuristic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from provider_image.learners.sb3_state import optimizers, parameters_of, trainable_parameters
from provider_image.wire import CONTROL_PREFIX, StateRules, Tensors


def hold_near(model: BaseAlgorithm, rules: StateRules) -> None:
    """Add FedProx's `proximal` * (y - w) to every gradient; w are the present parameters."""
    if rules.drift != "fedprox":
        return
    for parameter in trainable_parameters(model).values():
        anchor = parameter.detach().clone()

        def pull(changed: torch.Tensor, anchor: torch.Tensor = anchor) -> None:
            assert changed.grad is not None
            changed.grad.add_(changed.detach() - anchor, alpha=rules.proximal)

        parameter.register_post_accumulate_grad_hook(pull)  # type: ignore[no-untyped-call]


class ControlVariates:
    """SCAFFOLD on the client: adds c - c_i to every gradient, and collects the new c_i.

    The new c_i is the mean of the gradients of the round's steps, each without the correction and
    before clipping: option II of the paper where the steps are plain and not clipped.
    """

    def __init__(self, model: BaseAlgorithm, shared: Tensors, own: Tensors) -> None:
        """Begin; `shared` has c and `own` c_i, as `control/<parameter>`, already checked."""
        self._own = {name: own[CONTROL_PREFIX + name] for name in trainable_parameters(model)}
        self._names: dict[int, str] = {}
        self._fresh: dict[str, torch.Tensor] = {}
        self._sums: dict[str, npt.NDArray[np.float64]] = {}
        self._steps: dict[str, int] = {}
        for name, parameter in trainable_parameters(model).items():
            self._names[id(parameter)] = name
            self._correct(name, parameter, shared[CONTROL_PREFIX + name] - self._own[name])
        for optimizer in optimizers(model).values():
            optimizer.register_step_pre_hook(self._count)

    def state(self) -> Tensors:
        """The new c_i, as `control/<parameter>` float32; where no step was taken, the old."""
        return {CONTROL_PREFIX + name: self._renewed(name) for name in self._own}

    def change(self) -> Tensors:
        """By how much it differs from the old."""
        return {
            CONTROL_PREFIX + name: np.subtract(self._renewed(name), old, dtype=np.float32)
            for name, old in self._own.items()
        }

    def _correct(self, name: str, parameter: torch.nn.Parameter, correction: Any) -> None:
        added = torch.from_numpy(np.array(correction, np.float32))

        def correct(changed: torch.Tensor) -> None:
            assert changed.grad is not None
            self._fresh[name] = changed.grad.detach().clone()
            changed.grad.add_(added)

        parameter.register_post_accumulate_grad_hook(correct)  # type: ignore[no-untyped-call]

    def _count(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Only gradients that are stepped with count: an actor's loss reaches critics, too."""
        for parameter, _group in parameters_of(optimizer):
            name = self._names.get(id(parameter))
            if name is None:
                continue
            self._steps[name] = self._steps.get(name, 0) + 1
            gradient = self._fresh.pop(name, None)
            if gradient is not None:
                before = self._sums.get(name, np.zeros(gradient.shape))
                self._sums[name] = before + gradient.numpy()

    def _renewed(self, name: str) -> npt.NDArray[np.float32]:
        steps, old = self._steps.get(name, 0), self._own[name]
        if not steps:
            return np.array(old)
        return np.asarray(self._sums.get(name, np.zeros(old.shape)) / steps, np.float32)
