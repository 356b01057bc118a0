"""Whose work can be compared bit for bit with ours: what differs elsewhere may be honest too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from native_kernels.environments import ENVIRONMENTS
from provider_image.wire import EnvironmentSpec, LearnerSpec
from requestor.training_run.settings import RunSettings


def is_portable(learner: LearnerSpec, environment: EnvironmentSpec) -> bool:
    """Tell whether every CPU makes the same bits of an order (FORMAT.md, section 3)."""
    is_bare = not environment.kwargs and not environment.wrappers and environment.frame_stack <= 1
    return learner.learner == "native" and environment.id in ENVIRONMENTS and is_bare


def equal_bits_of(settings: RunSettings) -> Callable[[Any], bool]:
    """Return what tells whether work (of anybody) can be held against work of this machine."""
    portable = is_portable(settings.learner, settings.environment)
    return lambda _: portable
