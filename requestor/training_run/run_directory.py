"""The folder of one run, and finding runs again."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from requestor.errors import UsageError

QUOTES_FOLDER = "quotes"
"""Holds the benchmarks of quotes, which are runs to whoever cleans up, and to nobody else."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class RunDirectory:
    """Names and places of everything that a run leaves behind."""

    def __init__(self, path: Path) -> None:
        """Use the folder at `path`."""
        self.path = path.resolve()
        self.config = self.path / "config.resolved.yaml"
        self.identity = self.path / "run.json"
        self.events = self.path / "events.jsonl"
        self.metrics = self.path / "metrics.jsonl"
        self.ledger = self.path / "ledger.jsonl"
        self.quote = self.path / "quote.json"
        self.checkpoints = self.path / "checkpoints"
        self.inbox = self.path / "inbox"
        self.local = self.path / "local"
        self.local_export = self.path / "local-export"
        self.local_audits = self.path / "local-audits"
        self.local_work = self.path / "local-work"
        self.daemon_state = self.path / "mock-golem"
        self.tensorboard = self.path / "tensorboard"
        self.logs = self.path / "logs"
        self.provenance = self.path / "provenance"
        self.evidence = self.path / "evidence"
        self.audits = self.path / "audits.jsonl"
        self.audit_key = self.path / "audit.key"
        self.model = self.path / "model.zip"
        self.best_model = self.path / "best_model.zip"
        self.model_bundle = self.path / "model.safetensors"
        self.best_model_bundle = self.path / "best_model.safetensors"
        self.normalizer = self.path / "vecnormalize.pkl"
        self.best_normalizer = self.path / "best_vecnormalize.pkl"

    @property
    def run_id(self) -> str:
        """The run's id: unique in the world, also the mark on its agreements."""
        return str(json.loads(self.identity.read_text())["run_id"])

    @property
    def name(self) -> str:
        """How a person calls the run: algorithm and folder, e.g. `ppo/CartPole-v1_1`."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def is_benchmark(self) -> bool:
        """True for what `derl-request quote --measure` rented, which is no run to look at."""
        return self.path.parent.name == QUOTES_FOLDER

    def prepare(self) -> None:
        """Create the sub-folders."""
        for folder in (self.checkpoints, self.inbox, self.local, self.tensorboard, self.logs):
            folder.mkdir(parents=True, exist_ok=True)

    def discard_if_unused(self) -> None:
        """Delete the folder if nothing has happened in the run: no event, no money."""
        if any(path.exists() and path.stat().st_size for path in (self.events, self.ledger)):
            return
        with self.locked():
            shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run; two processes on one run would pay twice.

        Raises:
            UsageError: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UsageError(
                f"{self.name} is being worked on by another process",
                fix="wait for it, or stop it with Ctrl-C in its terminal",
            ) from error
        try:
            yield
        finally:
            lock.release()

    @property
    def is_locked(self) -> bool:
        """True while a process works on the run."""
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:
            return False
        lock.release()
        return False


def new_run_directory(runs: Path, algorithm: str, environment_id: str) -> RunDirectory:
    """Create the next free folder `<runs>/<algorithm>/<environment>_<n>`."""
    parent = runs / algorithm
    parent.mkdir(parents=True, exist_ok=True)
    stem = _UNSAFE.sub("-", environment_id)
    taken = [
        int(match.group(1))
        for entry in parent.iterdir()
        if (match := re.fullmatch(re.escape(stem) + r"_(\d+)", entry.name))
    ]
    number = max(taken, default=0) + 1
    while True:
        path = parent / f"{stem}_{number}"
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
            continue
        directory = RunDirectory(path)
        directory.prepare()
        return directory


def find_run(runs: Path, text: str) -> RunDirectory:
    """Return the run that `text` means: a path, a name as `ls` prints it, or `last`.

    Raises:
        UsageError: there is none.
    """
    known = [run for run in list_runs(runs) if not run.is_benchmark]
    if text == "last":
        if not known:
            raise UsageError(
                f"there are no runs in {runs}",
                fix="start one with `derl-request run CONFIG`, or name another folder with "
                "--runs-dir",
            )
        return max(known, key=lambda run: run.identity.stat().st_mtime)
    for path in (Path(text), runs / text):
        if (path / "run.json").is_file():
            return RunDirectory(path)
    named = [run for run in known if run.path.name == text]
    if len(named) == 1:
        return named[0]
    if named:
        raise UsageError(
            f"{text!r} means {len(named)} runs in {runs}: {', '.join(run.name for run in named)}",
            fix="say which of them",
        )
    raise UsageError(
        f"there is no run {text!r} in {runs}",
        fix="`derl-request ls` lists the runs; give a name, a path, or `last`",
    )


def list_runs(runs: Path) -> list[RunDirectory]:
    """Return all runs in a runs folder, benchmarks included, by name."""
    return [RunDirectory(path.parent) for path in sorted(runs.glob("*/*/run.json"))]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, safe against a crash at any instant."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
