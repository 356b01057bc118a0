"""A native model's state as tensors, in and out: policy, optimizer, normaliser.

Names, shapes and order are those of SB3's policy and of torch's Adam over its parameters, so that
either learner goes on with what the other has left.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from native_kernels.ppo import PolicyShape, Ppo
from provider_image.learners.native_plan import NativePlan
from provider_image.learners.optimizer_bounds import bounded
from provider_image.wire import OPTIMIZER_PREFIX, POLICY_PREFIX, Tensors, TensorSpec

MAX_OPTIMIZER_STEP = 2**31 - 1

Float32 = npt.NDArray[np.float32]


def policy_tensors(parameters: Float32, shape: PolicyShape) -> Tensors:
    """`policy/<name>` from all parameters float32[P]; views of them."""
    return {
        policy: parameters[start:end].reshape(of) for (policy, *_), start, end, of in _layout(shape)
    }


def policy_parameters(tensors: Tensors, shape: PolicyShape) -> Float32:
    """All parameters float32[P] from `policy/<name>`, whose names and shapes were checked."""
    return joined([tensors[POLICY_PREFIX + name] for name in shape.tensors])


def policy_specs(shape: PolicyShape) -> dict[str, TensorSpec]:
    """What a model of this shape consists of, optimizer and normaliser aside."""
    return {POLICY_PREFIX + name: TensorSpec("float32", s) for name, s in shape.tensors.items()}


def optimizer_tensors(ppo: Ppo, shape: PolicyShape) -> Tensors:
    """`optimizer/policy/<index>/{step,exp_avg,exp_avg_sq}` float32, as the SB3 learner has them."""
    step, average, square = ppo.optimizer_state
    # all parameters are stepped together
    steps = np.array(step, np.float32)
    tensors: Tensors = {}
    for (_, step_name, average_name, square_name), start, end, of in _layout(shape):
        tensors[step_name] = steps
        tensors[average_name] = average[start:end].reshape(of)
        tensors[square_name] = square[start:end].reshape(of)
    return tensors


def optimizer_specs(shape: PolicyShape) -> dict[str, TensorSpec]:
    """What `optimizer_tensors` gives."""
    specs: dict[str, TensorSpec] = {}
    for index, of in enumerate(shape.tensors.values()):
        stem = f"{OPTIMIZER_PREFIX}policy/{index}/"
        specs[f"{stem}step"] = TensorSpec("float32", ())
        specs[f"{stem}exp_avg"] = specs[f"{stem}exp_avg_sq"] = TensorSpec("float32", tuple(of))
    return specs


def load_optimizer(ppo: Ppo, tensors: Tensors, plan: NativePlan) -> None:
    """Set Adam's state from checked tensors, of a stranger perhaps: held within bounds.

    Parameters are stepped together, so all of them have the same `step`; where a stranger's
    differ, the greatest counts, for a small one makes large steps.
    """
    group = {"betas": plan.adam_betas, "eps": plan.adam_epsilon}
    steps, averages, squares = [], [], []
    for index in range(len(plan.shape.tensors)):
        stem = f"{OPTIMIZER_PREFIX}policy/{index}/"
        held = bounded(
            {field: tensors[stem + field] for field in ("step", "exp_avg", "exp_avg_sq")}, group
        )
        steps.append(float(held["step"]))
        averages.append(held["exp_avg"])
        squares.append(held["exp_avg_sq"])
    step = min(round(max(steps)), MAX_OPTIMIZER_STEP)
    ppo.load_optimizer_state(step, joined(averages), joined(squares))


def pieces(vector: Float32, shape: PolicyShape) -> dict[str, Float32]:
    """Parameters float32[P] cut into the shape's tensors, by name; views of them."""
    return {
        policy.removeprefix(POLICY_PREFIX): vector[start:end].reshape(of)
        for (policy, *_), start, end, of in _layout(shape)
    }


class _Place(NamedTuple):
    """Where a parameter stands in a flat vector, and the names of what there is of it."""

    names: tuple[str, str, str, str]
    """`policy/…`, and `optimizer/policy/<index>/` with `step`, `exp_avg`, `exp_avg_sq`."""
    start: int
    end: int
    shape: tuple[int, ...]


# asked for after every update, which takes a few milliseconds
@functools.lru_cache(maxsize=64)
def _layout(shape: PolicyShape) -> tuple[_Place, ...]:
    places, start = [], 0
    for index, (name, of) in enumerate(shape.tensors.items()):
        stem = f"{OPTIMIZER_PREFIX}policy/{index}/"
        names = (POLICY_PREFIX + name, f"{stem}step", f"{stem}exp_avg", f"{stem}exp_avg_sq")
        end = start + math.prod(of)
        places.append(_Place(names, start, end, of))
        start = end
    return tuple(places)


def joined(tensors: list[Float32]) -> Float32:
    """The tensors one after the other, each flat in C order."""
    return np.concatenate([np.asarray(tensor, np.float32).ravel() for tensor in tensors])
