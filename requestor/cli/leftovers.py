"""Runs whose processes died and left something open in the user's daemon."""

from __future__ import annotations

from pathlib import Path

from requestor.config import load_config
from requestor.errors import DerlError
from requestor.marketplace.money.ledger import read_ledger
from requestor.training_run.run_directory import RunDirectory, list_runs


def runs_left_open(runs: Path) -> list[str]:
    """Return the names of runs with the user's daemon whose books are open and nobody works on.

    A damaged run counts as open: what it holds is not known.
    """
    return [directory.name for directory in list_runs(runs) if _is_left_open(directory)]


def _is_left_open(directory: RunDirectory) -> bool:
    if directory.is_locked or not directory.ledger.exists():
        return False
    try:
        if load_config(directory.config).golem.mode != "yagna":
            return False
        return read_ledger(directory.ledger).is_open
    except (DerlError, OSError, ValueError, KeyError):
        return True
