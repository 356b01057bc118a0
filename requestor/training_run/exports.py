"""The models of a run in files for others, written beside the work on its rounds."""

from __future__ import annotations

import asyncio

from requestor.training_run.checkpoints import Checkpoint
from requestor.training_run.judging.referee import Referee
from requestor.training_run.run_directory import RunDirectory


class Exports:
    """Writes a run's model and its best model whenever one of them has changed."""

    def __init__(self, referee: Referee, directory: RunDirectory, *, is_wanted: bool) -> None:
        """Have `referee` write into `directory`; nothing is written unless it `is_wanted`."""
        self._referee = referee
        self._directory = directory
        self._is_wanted = is_wanted
        self._writing: asyncio.Task[None] | None = None
        self._written: tuple[str, str] | None = None

    def write_soon(self, checkpoint: Checkpoint) -> None:
        """Write both beside the next round's work: after a crash they are there."""
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write(checkpoint))

    async def finish(self, checkpoint: Checkpoint) -> None:
        """Write what is not written yet of the run's last checkpoint."""
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)
        await self._write(checkpoint)

    async def _write(self, checkpoint: Checkpoint) -> None:
        models = (checkpoint.model.sha256, checkpoint.best.model.sha256)
        if self._is_wanted and models != self._written:
            await self._referee.export(checkpoint, self._directory)
            self._written = models
