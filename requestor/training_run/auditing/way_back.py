"""The way back to before a round: with `trust.audits.on_fraud: redo` the checkpoints of all rounds
are kept, so that rounds into which fakes were merged can be done again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from provider_image.wire import FileRef
from requestor.errors import RunFailed
from requestor.training_run.auditing.provenance_log import ProvenanceFolder
from requestor.training_run.checkpoints import Checkpoint, CheckpointStore, files_of
from requestor.training_run.run_directory import write_whole


@dataclass(frozen=True)
class WayBack:
    """Keeps checkpoints beside the records, and puts them back."""

    folder: ProvenanceFolder
    store: CheckpointStore

    def files(self, checkpoint: Checkpoint) -> Mapping[str, Path]:
        """Return all files of a checkpoint by their SHA-256."""
        return {file.sha256: self.store.path(file) for file in files_of(checkpoint).values()}

    def keep(self, checkpoint: Checkpoint) -> None:
        """Keep what a checkpoint says; its files are kept with those of its round."""
        path = self._path(checkpoint.round)
        path.parent.mkdir(exist_ok=True)
        write_whole(path, msgspec.json.encode(checkpoint))

    def take(self, round_index: int) -> Checkpoint:
        """Make the checkpoint after `round_index` rounds the newest again.

        A crash in the middle leaves the newest one what it was.

        Raises:
            RunFailed: it, or a file of it, was not kept.
        """
        try:
            checkpoint = msgspec.json.decode(self._path(round_index).read_bytes(), type=Checkpoint)
            for file in files_of(checkpoint).values():
                self._put_back(file)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RunFailed(
                f"faked work was merged in round {round_index + 1}, and what that round began with "
                f"is not there any more: {error}",
                fix="start a new run with larger trust.keep_rounds and trust.keep_gib, or resume "
                "with trust.audits.on_fraud=mark",
            ) from error
        self.store.go_back(checkpoint)
        return checkpoint

    def _put_back(self, file: FileRef) -> None:
        target = self.store.path(file)
        temporary = target.with_name(target.name + ".tmp")
        shutil.copyfile(self.folder.file(file.sha256), temporary)
        os.replace(temporary, target)

    def _path(self, round_index: int) -> Path:
        return self.folder.path / "checkpoints" / f"round-{round_index:05d}.json"
