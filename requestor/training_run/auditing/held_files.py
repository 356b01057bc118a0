"""Holds the files of work that is to be done again: where the merge does not wait for verdicts,
checkpoints may have dropped theirs by then."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from requestor.training_run.auditing.provenance_log import link_or_copy
from requestor.training_run.auditing.replaying import Work


@dataclass
class HeldFiles:
    """Names of our own for such files, in a folder that is emptied when a process begins."""

    folder: Path
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        """Empty the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def hold(self, work: Work) -> Work:
        """Return the work with files that stay until `release`."""
        held = {}
        for name, path in work.inputs.items():
            held[name] = self.folder / f"{next(self._numbers)}-{name}"
            link_or_copy(path, held[name])
        return replace(work, inputs=held)

    def release(self, work: Work) -> None:
        """Drop what is held for a work that `hold` returned."""
        for path in work.inputs.values():
            path.unlink(missing_ok=True)
