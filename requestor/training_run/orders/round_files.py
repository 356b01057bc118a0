"""What the orders of one round have in common, and the names of their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provider_image.wire import (
    MAX_FILE_BYTES,
    CompressionSpec,
    EnvironmentSpec,
    FileRef,
    LearnerSpec,
    StateRules,
    TensorSpec,
    client_has_state,
    sha256_file,
)

MODEL_NAME = "model.safetensors"
STATE_NAME = "state-in.safetensors"
RESULT_NAME = "result.safetensors"
STATE_OUTPUT_NAME = "state-out.safetensors"
MAX_STATE_BYTES = 256 << 20


@dataclass(frozen=True)
class RoundFiles:
    """What the orders of one round have in common."""

    run_id: str
    environment: EnvironmentSpec
    learner: LearnerSpec
    rules: StateRules
    model: FileRef
    model_path: Path
    model_specs: Mapping[str, TensorSpec]
    client_states: Mapping[int, tuple[FileRef, Path]]
    inbox: Path
    order_timeout_seconds: float
    max_state_bytes: int = MAX_STATE_BYTES
    compression: CompressionSpec | None = None

    @property
    def client_has_state(self) -> bool:
        """True where a client carries something of its own from round to round."""
        return client_has_state(self.rules, self.compression)


def state_reference(path: Path, name: str) -> FileRef:
    """Return the reference of a client's state file under `name`."""
    return FileRef(name=name, sha256=sha256_file(path, MAX_FILE_BYTES), bytes=path.stat().st_size)
