"""Environments: one Gymnasium environment, made from its specification.

`make_environment` is all that learners need; learners vectorise. Read `construction.py` next (ids,
classes, wrappers, and what is said when one is missing), then `frame_stack.py`.
"""

from provider_image.environments.construction import (
    EnvironmentRefused,
    import_environment,
    make_environment,
)

__all__ = ["EnvironmentRefused", "import_environment", "make_environment"]
