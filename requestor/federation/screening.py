"""What a client update must be before it may reach the merge.

Everything here is judged against what the requestor itself assigned; nothing that a provider
reports about its own work is believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provider_image.wire import MOMENTS_PREFIX, TensorSpec, WireError, check_tensors, result_specs
from requestor.federation.model import NORMALIZER_KINDS, Tensors

MAX_STEPS = {"policy/": 1e4, "extra/": 50.0, "optimizer/": 1e20, "control/": 1e8}
"""How far an honest round moves a number of each kind at the very most; none comes near.

A finite update that goes farther would make the model fail: `extra/` is a logarithm, whose
exponential must stay finite, optimizer moments must not overflow float32 when they are added, and
`control/` is added to gradients.
"""

MAX_MOMENT = 1e100
"""Greatest mean, and root of a variance, of samples: the merged moments must not overflow."""


class UpdateRejected(ValueError):
    """An update that must not be merged; the message says why."""


@dataclass(frozen=True)
class Assignment:
    """What was ordered, as far as the update can be held against it.

    `episodes`: so many whole ones were ordered, of `local_steps` at the most; 0: exactly the steps.
    """

    model_specs: Mapping[str, TensorSpec]
    local_steps: int
    n_envs: int
    episodes: int = 0

    def expected_samples(self, kind: str) -> int:
        """Return how many samples the moments of `kind` must count.

        Observations: one a step and one for each environment's first reset. Returns: one a step.
        """
        return self.local_steps + (self.n_envs if kind == "observation" else 0)


def screen_update(tensors: Tensors, reported_steps: int, assignment: Assignment) -> None:
    """Raise `UpdateRejected` unless the update is one that the order could have led to.

    Checks the exact set of names, dtypes, shapes, finiteness, the number of steps, that no number
    moves absurdly far, and that the normaliser moments count what was assigned, have non-negative
    variance and can be merged. An update that passes can always be merged.
    """
    try:
        check_tensors(dict(tensors), result_specs(assignment.model_specs))
    except WireError as error:
        raise UpdateRejected(str(error)) from error
    least = assignment.episodes or assignment.local_steps
    if not least <= reported_steps <= assignment.local_steps:
        raise UpdateRejected(
            f"{reported_steps} steps were done where {assignment.local_steps} were ordered"
        )
    for name, tensor in tensors.items():
        _check_step(name, tensor)
    for kind in NORMALIZER_KINDS:
        _check_moments(tensors, kind, assignment)


def _check_step(name: str, tensor: NDArray[Any]) -> None:
    limit = next((far for prefix, far in MAX_STEPS.items() if name.startswith(prefix)), None)
    if limit is not None and tensor.size and float(np.abs(tensor).max()) > limit:
        raise UpdateRejected(f"{name} moves a number by more than {limit:g}")


def _check_moments(tensors: Tensors, kind: str, assignment: Assignment) -> None:
    count = tensors.get(f"{MOMENTS_PREFIX}{kind}/count")
    if count is None:
        return
    expected = assignment.expected_samples(kind)
    if float(count) != expected:
        raise UpdateRejected(
            f"the {kind} moments claim {float(count):g} samples where {expected} were ordered"
        )
    mean, variance = tensors[f"{MOMENTS_PREFIX}{kind}/mean"], tensors[f"{MOMENTS_PREFIX}{kind}/var"]
    if np.any(variance < 0):
        raise UpdateRejected(f"the {kind} moments have a negative variance")
    if np.any(np.abs(mean) > MAX_MOMENT) or np.any(np.sqrt(variance) > MAX_MOMENT):
        raise UpdateRejected(f"the {kind} moments are of numbers beyond {MAX_MOMENT:g}")
