"""Whose work can be compared bit for bit with ours: what differs elsewhere may be honest too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from requestor.training_run.settings import RunSettings
from requestor.trust.fingerprints import fingerprint_without_canary


def equal_bits_of(settings: RunSettings) -> Callable[[Any], bool]:
    """Return what tells whether work (of anybody) can be held against work of this machine.

    settings: with the learner's name settled, not `auto`.
    """
    is_portable = fingerprint_without_canary(settings.learner, settings.environment) is not None
    return lambda _: is_portable
