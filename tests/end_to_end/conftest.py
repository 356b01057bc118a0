"""The whole program as a user runs it: subprocesses, run folders, the daemon's books."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from requestor.federation.seeds import held_out_seeds

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0
GLANCE_SECONDS = 0.002
_PR_SET_CHILD_SUBREAPER = 36

TINY_CONFIG = """
seed: 0
env: {id: CartPole-v1, n_envs: 2}
algo: {name: ppo, n_steps: 64, batch_size: 64, n_epochs: 4, gae_lambda: 0.8, gamma: 0.98,
       learning_rate: lin_1e-3}
federation: {rounds: 3, clients: 4, local_steps: 256}
golem: {providers: 2, startup_timeout_seconds: 60, invoice_timeout_seconds: 4}
evaluation: {episodes: 5, final_episodes: 10}
"""


@dataclass(frozen=True)
class Finished:
    """How a program ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What it printed with --json."""
        return json.loads(self.out)

    @property
    def text(self) -> str:
        """All that it printed, with lines joined that a narrow terminal has wrapped."""
        return " ".join((self.out + "\n" + self.err).split())


@dataclass(frozen=True)
class RunFolder:
    """A run's folder, read with nothing of ours: what is in it is the promise."""

    path: Path

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Return the whole lines of a JSON-lines file."""
        file = self.path / name
        if not file.exists():
            return []
        whole = file.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in whole]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one kind."""
        return [event for event in self.lines("events.jsonl") if event["kind"] == kind]

    @property
    def spent_glm(self) -> Decimal:
        """What the ledger adds up to: the last accepted total of each agreement."""
        totals: dict[str, Decimal] = {}
        for entry in self.lines("ledger.jsonl"):
            if entry["kind"] in ("debit_note_accepted", "invoice_accepted"):
                before = totals.get(entry["agreement_id"], Decimal(0))
                totals[entry["agreement_id"]] = max(before, Decimal(entry["total_glm"]))
        return sum(totals.values(), Decimal(0))

    @property
    def books(self) -> dict[str, Any]:
        """The private daemon's own books."""
        return read_books(self.path / "mock-golem")

    @property
    def checkpoint(self) -> dict[str, Any]:
        """The last checkpoint."""
        newest = sorted((self.path / "checkpoints").glob("round-*.json"))[-1]
        document: dict[str, Any] = json.loads(newest.read_text())
        return document

    @property
    def weights(self) -> tuple[str, str]:
        """SHA-256 of the last model's bundle, and of all tensors in model.zip."""
        return self.checkpoint["model"]["sha256"], archive_digest(self.path / "model.zip")


def read_books(state: Path) -> dict[str, Any]:
    """Return what `mock-golem books --json` says."""
    command = [sys.executable, "-m", "requestor.mock_golem", "books", "--state", str(state)]
    shown = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(shown.stdout)
    return document


def archive_digest(archive: Path) -> str:
    """Return one SHA-256 over the names, shapes and bytes of all parameters in an SB3 archive."""
    with zipfile.ZipFile(archive) as file:
        state = torch.load(BytesIO(file.read("policy.pth")), weights_only=True)
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def assert_settled(spent_glm: Decimal, books: dict[str, Any]) -> None:
    """Nothing is open in the daemon, and both sides have the same sum to the last digit."""
    assert [a for a in books["allocations"] if a["state"] == "open"] == []
    assert [a for a in books["agreements"] if a["state"] == "Approved"] == []
    assert [a for a in books["activities"] if a["state"] == "open"] == []
    assert spent_glm == Decimal(books["totals"]["spent_glm"])
    assert spent_glm == Decimal(books["totals"]["charged_glm"])


@dataclass
class Workbench:
    """A place with a tiny config, a runs folder and `derl-request`; knows all it has started."""

    folder: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def config(self) -> Path:
        """The tiny config."""
        path = self.folder / "tiny.yaml"
        if not path.exists():
            path.write_text(TINY_CONFIG)
        return path

    @property
    def runs(self) -> Path:
        """Where runs are kept."""
        return self.folder / "runs"

    @property
    def run(self) -> RunFolder:
        """The only run."""
        (identity,) = self.runs.glob("*/*/run.json")
        return RunFolder(identity.parent)

    def write(self, name: str, text: str) -> Path:
        """Write a file here; return its path."""
        path = self.folder / name
        path.write_text(text)
        return path

    def environment(self, **changes: str) -> dict[str, str]:
        """Return the environment of programs: this one's without a trace of a daemon."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("YAGNA_", "DERL_"))}
        return {**kept, "DERL_RUNS_DIR": str(self.runs), "COLUMNS": "100", **changes}

    def start(self, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
        """Start `derl-request`, in a process group of its own as a shell does."""
        output = (self.folder / f"out-{len(self.started)}").open("w")
        errors = (self.folder / f"err-{len(self.started)}").open("w")
        with output, errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "requestor.cli.main", *map(str, arguments)],
                cwd=self.folder,
                env=self.environment(**environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                text=True,
                process_group=0,
            )
        self.started.append(process)
        return process

    def finish(self, process: subprocess.Popen[str], seconds: float = 110.0) -> Finished:
        """Wait for a program that was started here."""
        code = process.wait(seconds)
        number = self.started.index(process)
        out, err = (self.folder / f"{kind}-{number}" for kind in ("out", "err"))
        return Finished(code, out.read_text(), err.read_text())

    def derl(self, *arguments: str | Path, **environment: str) -> Finished:
        """Run `derl-request` to its end."""
        return self.finish(self.start(*arguments, **environment))

    def beside(self, name: str) -> Workbench:
        """Return another workbench in a folder of this one."""
        folder = self.folder / name
        folder.mkdir()
        return Workbench(folder)

    def train(self, *overrides: str) -> RunFolder:
        """Run the tiny config, which must work; return its folder."""
        done = self.derl("run", self.config, *overrides)
        assert done.code == 0, done.text
        return self.run

    def follow(
        self,
        process: subprocess.Popen[str],
        name: str,
        is_reached: Callable[[list[dict[str, Any]]], bool],
    ) -> bool:
        """Wait until the lines of a file of the run are as wanted; False if the program ended."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        size_bytes = -1
        while time.monotonic() < deadline:
            for file in self.runs.glob(f"*/*/{name}"):
                if file.stat().st_size != size_bytes:
                    size_bytes = file.stat().st_size
                    if is_reached(RunFolder(file.parent).lines(name)):
                        return True
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GLANCE_SECONDS)
                return False
        raise AssertionError(f"{name} was not as wanted within {PATIENCE_SECONDS:g} s")

    def kill(self, process: subprocess.Popen[str]) -> None:
        """`kill -9` of the requestor alone; what it has started must notice by itself."""
        process.kill()
        process.wait()

    def interrupt(self, process: subprocess.Popen[str]) -> None:
        """Ctrl-C: SIGINT to the whole process group, as a terminal does it."""
        os.killpg(process.pid, signal.SIGINT)

    def assert_no_process_left(self, spare: Sequence[psutil.Process] = ()) -> None:
        """All that was ever started from here, directly or not, is gone (or soon is)."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while left := [p for p in psutil.Process().children(recursive=True) if p not in spare]:
            _, alive = psutil.wait_procs(left, timeout=max(0.0, deadline - time.monotonic()))
            assert not alive, [_command(process) for process in alive]

    def close(self) -> None:
        """Kill what a failed test has left running."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()


def _command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} {process.status()} {' '.join(process.cmdline())[:300]}"
    return str(process.pid)


@pytest.fixture(scope="session")
def adopts_orphans() -> Iterator[None]:
    """Make orphaned grandchildren ours, so that none can hide from `assert_no_process_left`."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture
def bench(tmp_path: Path, adopts_orphans: None) -> Iterator[Workbench]:
    """A workbench of the test's own."""
    made = Workbench(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def make_bench(adopts_orphans: None) -> type[Workbench]:
    """Make workbenches that several tests share."""
    return Workbench


@pytest.fixture(scope="session")
def settled() -> Callable[[Decimal, dict[str, Any]], None]:
    """The check that both sides' books agree and nothing is open."""
    return assert_settled


@dataclass(frozen=True)
class Reference:
    """A clean run of the tiny config, what it printed, and what plain SB3 makes of its models.

    `played`: returns of model.zip over the final evaluation's seeds, of best_model.zip over the
    held-out ones.
    """

    run: RunFolder
    printed: Finished
    played: dict[str, list[float]]


_PLAIN_SB3 = """
import importlib.abc, json, sys

class Forbidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("requestor", "provider_image", "native_kernels"):
            raise ImportError(f"{name} must not be needed")

sys.meta_path.insert(0, Forbidden())
import gymnasium
from stable_baselines3 import PPO

def play(archive, seeds):
    model = PPO.load(archive)
    env = gymnasium.make("CartPole-v1")
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            action, _ = model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        yield total

print(json.dumps({name: list(play(sys.argv[1] + name, seeds))
                  for name, seeds in json.loads(sys.argv[2]).items()}))
"""


def play_in_plain_sb3(run: RunFolder) -> dict[str, list[float]]:
    """Load and play a run's models where nothing of ours can be imported."""
    seeds = {
        "model.zip": held_out_seeds(0, "final evaluation", 10),
        "best_model.zip": held_out_seeds(0, "evaluation", 5),
    }
    command = [sys.executable, "-c", _PLAIN_SB3, f"{run.path}/", json.dumps(seeds)]
    played = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert played.returncode == 0, played.stderr
    returns: dict[str, list[float]] = json.loads(played.stdout)
    return returns


@pytest.fixture(scope="session")
def plain_sb3() -> Callable[[RunFolder], dict[str, list[float]]]:
    """What plain SB3 makes of a run's models."""
    return play_in_plain_sb3


@pytest.fixture(scope="session")
def reference(
    tmp_path_factory: pytest.TempPathFactory, adopts_orphans: None
) -> Iterator[Reference]:
    """One clean run for all tests to compare with; not to be changed."""
    made = Workbench(tmp_path_factory.mktemp("reference"))
    printed = made.derl("run", made.config, "--json")
    made.assert_no_process_left()
    assert printed.code == 0, printed.text
    yield Reference(made.run, printed, play_in_plain_sb3(made.run))
    made.close()
