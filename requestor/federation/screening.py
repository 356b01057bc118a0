"""What a client update must be before it may reach the merge.

Everything here is judged against what the requestor itself assigned; nothing that a provider
reports about its own work is believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from provider_image.wire import MOMENTS_PREFIX, TensorSpec, WireError, check_tensors, result_specs
from requestor.federation.model import NORMALIZER_KINDS, Tensors

MAX_STEP = 1e4
"""No honest round moves a weight this far; a finite update that does would make the model fail."""

_WEIGHTS = ("policy/", "extra/")


class UpdateRejected(ValueError):
    """An update that must not be merged; the message says why."""


@dataclass(frozen=True)
class Assignment:
    """What was ordered, as far as the update can be held against it."""

    model_specs: Mapping[str, TensorSpec]
    local_steps: int
    n_envs: int

    def expected_samples(self, kind: str) -> int:
        """Return how many samples the moments of `kind` must count.

        Observations: one a step and one for each environment's first reset. Returns: one a step.
        """
        return self.local_steps + (self.n_envs if kind == "observation" else 0)


def screen_update(tensors: Tensors, reported_steps: int, assignment: Assignment) -> None:
    """Raise `UpdateRejected` unless the update is one that the order could have led to.

    Checks the exact set of names, dtypes, shapes, finiteness, the number of steps, that no weight
    moves absurdly far, and that the normaliser moments count what was assigned and have
    non-negative variance.
    """
    try:
        check_tensors(dict(tensors), result_specs(assignment.model_specs))
    except WireError as error:
        raise UpdateRejected(str(error)) from error
    if reported_steps != assignment.local_steps:
        raise UpdateRejected(
            f"{reported_steps} steps were done where {assignment.local_steps} were ordered"
        )
    for name, tensor in tensors.items():
        if name.startswith(_WEIGHTS) and tensor.size and float(np.abs(tensor).max()) > MAX_STEP:
            raise UpdateRejected(f"{name} moves a weight by more than {MAX_STEP:g}")
    for kind in NORMALIZER_KINDS:
        _check_moments(tensors, kind, assignment)


def _check_moments(tensors: Tensors, kind: str, assignment: Assignment) -> None:
    count = tensors.get(f"{MOMENTS_PREFIX}{kind}/count")
    if count is None:
        return
    expected = assignment.expected_samples(kind)
    if float(count) != expected:
        raise UpdateRejected(
            f"the {kind} moments claim {float(count):g} samples where {expected} were ordered"
        )
    if np.any(tensors[f"{MOMENTS_PREFIX}{kind}/var"].astype(np.float64) < 0):
        raise UpdateRejected(f"the {kind} moments have a negative variance")
