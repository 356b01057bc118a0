"""Floating-point operations of an actor-critic: what a rate is held against the FMA peak with."""

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from native_kernels.ppo import PolicyShape


def _networks(shape: "PolicyShape") -> list[list[int]]:
    return [
        [shape.observation_size, *shape.pi, shape.action_size],
        [shape.observation_size, *shape.vf, 1],
    ]


def forward_operations(shape: "PolicyShape") -> int:
    """Multiplications and additions of both matrix chains for one observation."""
    return sum(2 * a * b for sizes in _networks(shape) for a, b in pairwise(sizes))


def update_operations(shape: "PolicyShape") -> int:
    """The same for one sample of an update.

    Forward, gradient of the weights, and gradient of every layer's input but the first.
    """
    first = sum(2 * sizes[0] * sizes[1] for sizes in _networks(shape))
    return 3 * forward_operations(shape) - first
