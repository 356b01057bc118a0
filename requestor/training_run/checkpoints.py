"""Checkpoints: after each round, everything that the next one needs.

`checkpoints/round-00007.json` names the model bundle, the best model and the clients' states by
their SHA-256; it is written last, by rename, so it either names whole files or does not exist.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from provider_image.wire import (
    MAX_FILE_BYTES,
    Bundle,
    FileRef,
    ModelMetadata,
    Tensors,
    WireError,
    read_bundle,
    sha256_file,
    write_bundle,
)
from requestor.errors import RunFailed
from requestor.training_run.run_directory import write_whole

logger = logging.getLogger(__name__)


class BestModel(msgspec.Struct, frozen=True):
    """The model with the highest mean return on the held-out episodes so far."""

    model: FileRef
    mean_return: float
    round: int


class MergeStateMetadata(msgspec.Struct, frozen=True):
    """Which round left the merge's state."""

    round: int


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The state after `round` rounds (0: nothing trained yet).

    `judged` is the last model that was evaluated and published, `judged_returns` its returns on
    the held-out episodes; `final_returns` and `final_lengths` are there once the target is reached.
    `merge_state` is what rule and server optimizer hand to the next round, None where they keep
    nothing; `judged_merge_state` is the one that goes with the model `judged`.
    """

    format: int = 1
    round: int
    total_steps: int
    model: FileRef
    judged: FileRef
    judged_returns: tuple[float, ...]
    best: BestModel
    client_states: dict[int, FileRef] = {}
    merge_state: FileRef | None = None
    judged_merge_state: FileRef | None = None
    is_target_reached: bool = False
    final_returns: tuple[float, ...] | None = None
    final_lengths: tuple[int, ...] | None = None


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one run."""

    folder: Path

    def save_model(self, name: str, tensors: Tensors, metadata: ModelMetadata) -> FileRef:
        """Write a model bundle named `name`."""
        return write_bundle(self.folder / name, tensors, metadata)

    def save_merge_state(self, done: int, state: Tensors) -> FileRef | None:
        """Write what the merge after `done` rounds left; None if that is nothing."""
        if not state:
            return None
        path = self.folder / f"merge-{done:05d}.safetensors"
        return write_bundle(path, state, MergeStateMetadata(done))

    def path(self, file: FileRef) -> Path:
        """Return where a file of a checkpoint lies."""
        return self.folder / file.name

    def load(self, file: FileRef) -> Bundle:
        """Read a file of a checkpoint; WireError if it is not what was written."""
        return read_bundle(self.path(file), max_bytes=file.bytes, sha256=file.sha256)

    def write(self, checkpoint: Checkpoint) -> None:
        """Make `checkpoint` the newest, then drop files that no checkpoint needs."""
        text = msgspec.json.format(msgspec.json.encode(checkpoint), indent=1)
        write_whole(self.folder / f"round-{checkpoint.round:05d}.json", text)
        self._prune()

    def go_back(self, checkpoint: Checkpoint) -> None:
        """Make an earlier checkpoint, whose files are back, the newest: drop all later ones."""
        text = msgspec.json.format(msgspec.json.encode(checkpoint), indent=1)
        own = self.folder / f"round-{checkpoint.round:05d}.json"
        write_whole(own, text)
        for path in self._written():
            if _number(path) > checkpoint.round:
                path.unlink(missing_ok=True)

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint whose files are all there and whole; None if there is none.

        Raises:
            RunFailed: there are checkpoints, and all are damaged.
        """
        written = self._written()
        for path in reversed(written):
            checkpoint = _read(path)
            if checkpoint is not None and self._is_whole(checkpoint):
                return checkpoint
            logger.warning("checkpoint %s is damaged; falling back to the one before", path.name)
        if written:
            raise RunFailed(
                f"every checkpoint in {self.folder} is damaged",
                fix="put the folder back from a copy, or start a new run",
            )
        return None

    def _written(self) -> list[Path]:
        return sorted(self.folder.glob("round-*.json"), key=lambda path: (len(path.name), path))

    def _is_whole(self, checkpoint: Checkpoint) -> bool:
        try:
            return all(
                sha256_file(self.path(file), MAX_FILE_BYTES) == file.sha256
                for file in files_of(checkpoint).values()
            )
        except (OSError, WireError):
            return False

    def _prune(self) -> None:
        written = self._written()
        kept = [c for c in map(_read, written[-2:]) if c is not None]
        needed = {name for checkpoint in kept for name in files_of(checkpoint)}
        for path in written[:-2]:
            path.unlink(missing_ok=True)
        for path in self.folder.iterdir():
            if path.suffix in (".safetensors", ".tmp") and path.name not in needed:
                path.unlink(missing_ok=True)


def files_of(checkpoint: Checkpoint) -> Mapping[str, FileRef]:
    """Return all files that a checkpoint needs, by name."""
    files = [checkpoint.model, checkpoint.judged, checkpoint.best.model]
    files += checkpoint.client_states.values()
    files += filter(None, (checkpoint.merge_state, checkpoint.judged_merge_state))
    return {file.name: file for file in files}


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("round-"))


def _read(path: Path) -> Checkpoint | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Checkpoint)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
