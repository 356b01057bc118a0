"""Where a run stands: its newest checkpoint, and whether more is to be done."""

from __future__ import annotations

from collections.abc import Callable

from requestor.training_run import events
from requestor.training_run.checkpoints import Checkpoint, CheckpointStore


class Progress:
    """The newest checkpoint of a run of so many rounds."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        rounds: int,
        store: CheckpointStore,
        emit: Callable[[events.Event], None],
    ) -> None:
        """Go on from `checkpoint`, which is in `store`."""
        self._checkpoint = checkpoint
        self._rounds = rounds
        self._store = store
        self._emit = emit

    @property
    def checkpoint(self) -> Checkpoint:
        """The newest checkpoint."""
        return self._checkpoint

    @property
    def is_done(self) -> bool:
        """True if no round is left to do."""
        checkpoint = self._checkpoint
        return checkpoint.is_target_reached or checkpoint.round >= self._rounds

    def write(self, checkpoint: Checkpoint) -> None:
        """Have a new checkpoint outlast a crash."""
        self._checkpoint = checkpoint
        self._store.write(checkpoint)
        self._emit(events.CheckpointWritten(checkpoint.round, checkpoint.model.sha256))

    def go_back(self, checkpoint: Checkpoint) -> None:
        """Go on from an older checkpoint, which is the newest that is still in the store."""
        self._checkpoint = checkpoint
