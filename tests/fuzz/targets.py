"""All targets by name."""

from __future__ import annotations

from tests.fuzz import (
    federation_targets,
    image_targets,
    market_targets,
    run_file_targets,
    wire_targets,
)
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (
        wire_targets,
        federation_targets,
        market_targets,
        run_file_targets,
        image_targets,
    )
    for target in module.TARGETS
}
