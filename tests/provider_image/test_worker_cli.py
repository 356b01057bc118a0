"""The worker's life: started once, fed many orders, surviving bad ones, gone when told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from provider_image.wire import (
    EnvironmentSpec,
    FileRef,
    InitialiseOrder,
    LearnerSpec,
    Order,
    TrainOrder,
    encode_order,
    order_digest,
    read_bundle,
)
from provider_image.worker_cli import main, worker_environment

COMMAND = [sys.executable, "-m", "provider_image.worker_cli"]
ENVIRONMENT = EnvironmentSpec(id="CartPole-v1", n_envs=2)
LEARNER = LearnerSpec(
    algorithm="ppo",
    hyperparameters={"n_steps": 32, "batch_size": 32, "n_epochs": 2},
    policy_kwargs={"net_arch": [8]},
)


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `derl-worker` in a directory."""
    return subprocess.run(
        [*COMMAND, *arguments], cwd=directory, capture_output=True, text=True, check=False
    )


@contextmanager
def working(directory: Path) -> Iterator[Path]:
    """A running worker in `directory`, stopped at the end."""
    started = run(directory, "start")
    assert started.returncode == 0, started.stderr
    try:
        yield directory
    finally:
        assert run(directory, "stop").returncode == 0


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A worker that the tests of this module share; orders leave no trace in it."""
    with working(tmp_path_factory.mktemp("worker")) as directory:
        yield directory


def handed(directory: Path, name: str, order: Order) -> subprocess.CompletedProcess[str]:
    """Write an order to a file and have it executed."""
    (directory / name).write_bytes(encode_order(order))
    return run(directory, "work", name)


def initialise_order(**changes: Any) -> InitialiseOrder:
    """Make a small model."""
    fields: dict[str, Any] = {
        "run_id": "r",
        "seed": 1,
        "environment": ENVIRONMENT,
        "learner": LEARNER,
        "output": "model.st",
    }
    return InitialiseOrder(**(fields | changes))


def train_order(directory: Path, **changes: Any) -> TrainOrder:
    """Train the model in `directory` for one rollout."""
    done = handed(directory, "initialise.json", initialise_order())
    sha256 = json.loads(done.stdout)["files"]["model.st"]
    fields: dict[str, Any] = {
        "run_id": "r",
        "round": 0,
        "client": 0,
        "seed": 7,
        "environment": ENVIRONMENT,
        "learner": LEARNER,
        "local_steps": 64,
        "steps_done": 0,
        "steps_total": 640,
        "model": FileRef("model.st", sha256, (directory / "model.st").stat().st_size),
        "output": "update.st",
    }
    return TrainOrder(**(fields | changes))


def worker_process(directory: Path) -> int:
    """The worker's process id."""
    return int((directory / "worker.lock").read_text().split("\n")[0])


def is_running(process: int) -> bool:
    """True for a process that is there and not merely waiting to be reaped."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def test_starting_twice_gives_one_worker(worker: Path) -> None:
    process = worker_process(worker)
    again = run(worker, "start")
    ready = json.loads(again.stdout)
    assert again.returncode == 0
    assert (ready["format"], ready["learner"], ready["threads"]) == (3, "sb3", 1)
    assert {"torch", "stable_baselines3", "numpy"} <= set(ready["packages"])
    assert worker_process(worker) == process


def test_work_says_what_was_written(worker: Path) -> None:
    order = train_order(worker)
    done = handed(worker, "train.json", order)
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert answer["order_sha256"] == order_digest(order)
    bundle = read_bundle(
        worker / "update.st", max_bytes=1 << 20, sha256=answer["files"]["update.st"]
    )
    assert bundle.tensors["policy/action_net.weight"].any()


def test_an_order_has_the_same_result_in_a_fresh_worker_and_after_others(
    worker: Path, tmp_path: Path
) -> None:
    order = train_order(worker)
    handed(worker, "other.json", train_order(worker, seed=8, output="other.st"))
    handed(worker, "broken.json", train_order(worker, local_steps=63))
    handed(worker, "train.json", order)
    used = read_bundle(worker / "update.st", max_bytes=1 << 20).tensors
    with working(tmp_path):
        fresh_order = train_order(tmp_path)
        assert fresh_order == order
        handed(tmp_path, "train.json", fresh_order)
    fresh = read_bundle(tmp_path / "update.st", max_bytes=1 << 20).tensors
    assert {n: t.tobytes() for n, t in used.items()} == {n: t.tobytes() for n, t in fresh.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local_steps": 63}, "local_steps 63 is no multiple of n_steps * n_envs = 64"),
        ({"environment": EnvironmentSpec(id="CartPol-v1")}, "near names: CartPole-v1"),
        ({"model": FileRef("nothing.st", "0" * 64, 10)}, "nothing.st: cannot be opened"),
        ({"output": "worker.sock"}, "output worker.sock is the name of a file that is in use"),
        ({"output": "bad.json"}, "output bad.json is the name of a file that is in use"),
    ],
)
def test_a_refused_order_is_one_line_and_leaves_the_worker_at_work(
    worker: Path, changes: dict[str, Any], message: str
) -> None:
    process = worker_process(worker)
    done = handed(worker, "bad.json", train_order(worker, **changes))
    assert (done.returncode, done.stdout) == (3, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert handed(worker, "good.json", initialise_order()).returncode == 0
    assert worker_process(worker) == process


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.json", None, "absent.json: cannot be opened"),
        ("junk.json", b"\x80\x04\x95junk", "order: "),
        ("huge.json", b" " * 300_000, "the limit is 262144"),
        ("../up.json", None, "a file name without a folder"),
        ("/etc/passwd", None, "a file name without a folder"),
    ],
)
def test_what_is_no_order_is_refused(
    worker: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (worker / name).write_bytes(content)
    done = run(worker, "work", name)
    assert done.returncode == 3
    assert message in done.stderr


def test_an_environment_that_exits_does_not_end_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaver.py").write_text(
        "import gymnasium\n"
        "class Leaver(gymnasium.Env):\n"
        "    def __init__(self):\n"
        "        raise SystemExit('I am leaving')\n"
    )
    inherited = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{inherited}" if inherited else str(tmp_path))
    with working(tmp_path):
        leaving = initialise_order(environment=EnvironmentSpec(id="leaver:Leaver"))
        done = handed(tmp_path, "leave.json", leaving)
        assert done.returncode == 3
        assert "SystemExit: I am leaving" in done.stderr
        assert handed(tmp_path, "good.json", initialise_order()).returncode == 0


def test_a_worker_that_was_killed_is_missed_and_can_be_started_again(tmp_path: Path) -> None:
    (tmp_path / "order.json").write_bytes(encode_order(initialise_order()))
    absent = run(tmp_path, "work", "order.json")
    assert (absent.returncode, absent.stdout) == (4, "")
    assert "no worker is running here" in absent.stderr
    with working(tmp_path):
        first = worker_process(tmp_path)
        os.kill(first, signal.SIGKILL)
        assert run(tmp_path, "stop").returncode == 0
        killed = run(tmp_path, "work", "order.json")
        assert killed.returncode == 4
        assert run(tmp_path, "start").returncode == 0
        assert worker_process(tmp_path) != first
        assert run(tmp_path, "work", "order.json").returncode == 0
        second = worker_process(tmp_path)
    assert not is_running(second)
    assert run(tmp_path, "stop").returncode == 0


def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "worker.sock").mkdir()
    failed = run(tmp_path, "start")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "the worker did not start" in failed.stderr
    assert "Error" in failed.stderr


def test_in_the_foreground_it_ends_with_its_stdin(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "serve", "--stop-on-stdin-eof"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert json.loads(server.stdout.readline())["format"] == 3
        assert worker_process(tmp_path) == server.pid
        assert handed(tmp_path, "order.json", initialise_order()).returncode == 0
        second = run(tmp_path, "serve")
        assert second.returncode == 1
        assert "already running" in second.stderr
        server.stdin.close()
        assert server.wait(timeout=30) == 0
    assert run(tmp_path, "work", "order.json").returncode == 4


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "work ORDER.json" in capsys.readouterr().out
    assert main(["work"]) == 2
    assert "usage:" in capsys.readouterr().err


def test_the_workers_environment_has_one_thread_and_no_display() -> None:
    environment = worker_environment({"PATH": "/bin", "OMP_NUM_THREADS": "8"})
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "1"
    assert environment["SDL_VIDEODRIVER"] == "dummy"
    assert environment["PATH"] == "/bin"
