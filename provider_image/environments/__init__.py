"""Environments: one Gymnasium environment, made from its specification.

`make_environment` and `read_spaces` are all that learners need; learners vectorise. Gymnasium is
imported by the first call. Read `spaces.py` next, then `construction.py` (ids, classes, wrappers,
and what is said when one is missing) and `frame_stack.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from provider_image.environments.spaces import EnvironmentRefused, Space, Spaces
from provider_image.wire import EnvironmentSpec

if TYPE_CHECKING:
    from provider_image.environments.construction import Environment

__all__ = [
    "EnvironmentRefused",
    "Space",
    "Spaces",
    "import_environment",
    "make_environment",
    "read_spaces",
]


def make_environment(spec: EnvironmentSpec) -> Environment:
    """See `construction.make_environment`; raises EnvironmentRefused."""
    from provider_image.environments import construction

    return construction.make_environment(spec)


def import_environment(spec: EnvironmentSpec) -> None:
    """See `construction.import_environment`; raises EnvironmentRefused."""
    from provider_image.environments import construction

    construction.import_environment(spec)


def read_spaces(spec: EnvironmentSpec) -> Spaces:
    """The spaces of the environment, of which one is made for that; raises EnvironmentRefused."""
    from provider_image.environments import construction

    environment = construction.make_environment(spec)
    try:
        return construction.spaces_of(environment)
    finally:
        environment.close()
