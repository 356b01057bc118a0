"""The folder of a run: new ones never collide, old ones are found, one process holds each."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from requestor.errors import UsageError
from requestor.training_run.run_directory import (
    RunDirectory,
    find_run,
    list_runs,
    new_run_directory,
    write_whole,
)


def new_run(runs: Path, algorithm: str = "ppo", environment: str = "CartPole-v1") -> RunDirectory:
    """A run that has got as far as its identity."""
    directory = new_run_directory(runs, algorithm, environment)
    directory.identity.write_text(json.dumps({"run_id": directory.path.name}))
    return directory


def test_runs_are_numbered_and_their_folders_are_there(tmp_path: Path) -> None:
    names = [new_run(tmp_path).name for _ in range(3)]
    assert names == ["ppo/CartPole-v1_1", "ppo/CartPole-v1_2", "ppo/CartPole-v1_3"]
    assert new_run(tmp_path, "dqn").name == "dqn/CartPole-v1_1"
    directory = new_run(tmp_path)
    assert all(
        folder.is_dir()
        for folder in (
            directory.checkpoints,
            directory.inbox,
            directory.local,
            directory.tensorboard,
            directory.logs,
        )
    )


def test_numbers_go_on_after_the_highest_whatever_else_is_there(tmp_path: Path) -> None:
    for name in ("Env_9", "Env_11", "Env_x", "Env_", "Env-v1_50", "1_Env_70"):
        (tmp_path / "ppo" / name).mkdir(parents=True)
    assert new_run(tmp_path, environment="Env").path.name == "Env_12"


@pytest.mark.parametrize(
    ("environment", "stem"),
    [
        ("my_package.envs:Maze", "my_package.envs-Maze"),
        ("ALE/Pong-v5", "ALE-Pong-v5"),
        ("../../etc", "..-..-etc"),
        ("a (b) + c?", "a-b-c-"),
    ],
)
def test_any_environment_makes_one_safe_folder(tmp_path: Path, environment: str, stem: str) -> None:
    runs = tmp_path / "runs"
    first, second = (new_run(runs, environment=environment) for _ in range(2))
    assert first.path == (runs / "ppo" / f"{stem}_1").resolve()
    assert second.path.name == f"{stem}_2"


def test_processes_that_start_together_get_folders_of_their_own(tmp_path: Path) -> None:
    made: list[Path] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        made.append(new_run(tmp_path).path)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8


def test_a_run_is_found_by_path_name_number_or_as_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, other = new_run(tmp_path), new_run(tmp_path), new_run(tmp_path, "dqn", "Maze")
    for age, directory in enumerate((other, new, old)):
        os.utime(directory.identity, (1000 - age, 1000 - age))
    monkeypatch.chdir(tmp_path / "dqn")
    for text, found in {
        "last": other,
        "ppo/CartPole-v1_2": new,
        str(old.path): old,
        "Maze_1": other,
        "CartPole-v1_2": new,
    }.items():
        assert find_run(tmp_path, text).path == found.path
    assert [run.name for run in list_runs(tmp_path)] == [other.name, old.name, new.name]


def test_the_last_run_of_none_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no runs in"):
        find_run(tmp_path, "last")


@pytest.mark.parametrize("text", ["nonsense", "ppo", "."])
def test_a_run_that_is_not_there_is_told_with_a_way_out(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_run(tmp_path, text)
    assert repr(text) in caught.value.message
    assert caught.value.fix is not None
    assert "derl-request ls" in caught.value.fix


def test_a_name_that_fits_two_runs_is_told_as_such(tmp_path: Path) -> None:
    new_run(tmp_path, "ppo")
    new_run(tmp_path, "dqn")
    with pytest.raises(UsageError, match=r"'CartPole-v1_1' means 2 runs.*dqn/.*ppo/"):
        find_run(tmp_path, "CartPole-v1_1")


def test_a_folder_without_identity_is_no_run(tmp_path: Path) -> None:
    new_run_directory(tmp_path, "ppo", "CartPole-v1")
    assert list_runs(tmp_path) == []
    assert list_runs(tmp_path / "none") == []


def test_one_process_holds_a_run(tmp_path: Path) -> None:
    directory = new_run(tmp_path)
    other = RunDirectory(directory.path)
    with directory.locked():
        assert other.is_locked
        with pytest.raises(UsageError, match="CartPole-v1_1 is being worked on"), other.locked():
            pytest.fail("two processes work on one run")
        assert other.is_locked
    with other.locked():
        pass
    assert RunDirectory(directory.path).is_locked is False


def test_the_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    directory = new_run(tmp_path)
    with pytest.raises(KeyError), directory.locked():
        raise KeyError
    assert not directory.is_locked


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def crash(*_: object) -> None:
        raise OSError("the power went")

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="the power went"):
        write_whole(path, b"new content")
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
