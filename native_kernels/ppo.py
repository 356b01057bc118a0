"""Proximal policy optimisation of a perceptron actor-critic, as Stable-Baselines3 does it.

Weights pass in and out in the order and shapes of SB3's ``policy.state_dict()``. Given the same
weights, rollout and order of samples, gradients and weights are SB3's within 1e-5; and the same
bits come out at every processor level and for any number of threads.

Sources: Schulman et al. 2017 (arXiv 1707.06347); Stable-Baselines3 2.9, ``ppo/ppo.py``; Kingma and
Ba 2015 (Adam) as in PyTorch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from native_kernels import _native

__all__ = ["PolicyShape", "Ppo"]

MAX_DEPTH = 4
MAX_WIDTH = 512

Actions = NDArray[np.int64] | NDArray[np.float32]


@dataclass(frozen=True)
class PolicyShape:
    """The networks of SB3's ``MlpPolicy``: an actor and a critic that share nothing.

    observation_size: length of a flat observation, 1 or more.
    action_size: number of actions (categorical, 2 or more) or of action components (gaussian).
    pi, vf: widths of the hidden layers of actor and critic, 0 to 4 layers of 1 to 512 units.

    Raises ValueError or TypeError naming the field.
    """

    observation_size: int
    action_size: int
    distribution: Literal["categorical", "gaussian"] = "categorical"
    pi: tuple[int, ...] = (64, 64)
    vf: tuple[int, ...] = (64, 64)
    activation: Literal["tanh", "relu"] = "tanh"

    def __post_init__(self) -> None:
        object.__setattr__(self, "pi", _widths("pi", self.pi))
        object.__setattr__(self, "vf", _widths("vf", self.vf))
        _require_choice("distribution", self.distribution, ("categorical", "gaussian"))
        _require_choice("activation", self.activation, ("tanh", "relu"))
        _require_integer("observation_size", self.observation_size, 1, 1 << 16)
        least = 2 if self.distribution == "categorical" else 1
        _require_integer("action_size", self.action_size, least, 1 << 12)

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of SB3's ``policy.state_dict()``, in the order of ``parameters()``."""
        found: dict[str, tuple[int, ...]] = {}
        if self.distribution == "gaussian":
            found["log_std"] = (self.action_size,)
        last = {}
        for name, widths in (("policy_net", self.pi), ("value_net", self.vf)):
            inputs = self.observation_size
            for layer, outputs in enumerate(widths):
                place = f"mlp_extractor.{name}.{2 * layer}"  # activations have numbers, too
                found[f"{place}.weight"], found[f"{place}.bias"] = (outputs, inputs), (outputs,)
                inputs = outputs
            last[name] = inputs
        for head, outputs, inputs in (
            ("action_net", self.action_size, last["policy_net"]),
            ("value_net", 1, last["value_net"]),
        ):
            found[f"{head}.weight"], found[f"{head}.bias"] = (outputs, inputs), (outputs,)
        return found

    @property
    def parameter_count(self) -> int:
        """P: the number of entries of all tensors together."""
        return sum(prod(shape) for shape in self.tensors.values())


class Ppo:
    """An actor-critic and its Adam optimizer, whose memory is C++'s.

    shape: the networks. parameters: float32[P], the tensors of ``shape.tensors`` one after the
    other, each flat in C order; finite. threads: at most so many work on one call; the results do
    not depend on it.

    Raises TypeError for another dtype, ValueError for another length or entries that are not
    finite; the message names the argument.
    """

    def __init__(
        self, shape: PolicyShape, parameters: NDArray[np.float32], *, threads: int = 1
    ) -> None:
        _require_integer("threads", threads, 1, 1024)
        self.shape = shape
        self.native = _native.ppo.Ppo(
            observation_size=shape.observation_size,
            action_size=shape.action_size,
            is_gaussian=shape.distribution == "gaussian",
            pi=list(shape.pi),
            vf=list(shape.vf),
            is_relu=shape.activation == "relu",
            parameters=parameters,
            threads=threads,
        )

    @property
    def parameters(self) -> NDArray[np.float32]:
        """A copy of the weights, float32[P], in the order of ``shape.tensors``."""
        return self.native.parameters()

    def act(
        self, observations: NDArray[np.float32], *, seed: int, step: int
    ) -> tuple[Actions, NDArray[np.float32], NDArray[np.float32]]:
        """Sample an action for each of B observations, float32[B, O].

        Row b takes the random numbers of (seed, step, b), whatever else is in the batch.
        Returns (actions int64[B] or float32[B, A], values float32[B], log-probabilities
        float32[B]). Continuous actions are not clipped to the action space.
        """
        return self.native.act(observations, seed, step)

    def values(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """The critic's values of float32[B, O], float32[B]."""
        return self.native.values(observations)

    def best_actions(self, observations: NDArray[np.float32]) -> Actions:
        """The most probable actions: the first largest logit, int64[B], or the means, [B, A]."""
        return self.native.best_actions(observations)


def _widths(name: str, widths: Sequence[int]) -> tuple[int, ...]:
    if len(widths) > MAX_DEPTH:
        raise ValueError(
            f"{name}: must have at most {MAX_DEPTH} hidden layers, has {len(widths)}; "
            "fix: fewer layers, or SB3's own learner"
        )
    for width in widths:
        _require_integer(name, width, 1, MAX_WIDTH)
    return tuple(int(width) for width in widths)


def _require_integer(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: must be an integer, is {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name}: must be from {low} to {high}, is {value}")


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: must be one of {', '.join(choices)}, is {value!r}")
