"""Checkpoints: the newest whole one is found, whatever was damaged; the rest is cleared away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider_image.wire import ClientStateMetadata, FileRef, ModelMetadata, WireError, write_bundle
from requestor.errors import RunFailed
from requestor.training_run.checkpoints import BestModel, Checkpoint, CheckpointStore

METADATA = ModelMetadata(
    algorithm="ppo", environment_id="CartPole-v1", observation_space="Box", action_space="Discrete"
)


def save_model(store: CheckpointStore, number: int) -> FileRef:
    """A model that differs from all others."""
    tensors = {"policy/weight": np.full(20, number, np.float32)}
    return store.save_model(f"model-{number:05d}.safetensors", tensors, METADATA)


def save_state(store: CheckpointStore, client: int, round_index: int) -> FileRef:
    """A client's state after a round."""
    metadata = ClientStateMetadata(run_id="r", client=client, round=round_index, algorithm="dqn")
    path = store.folder / f"client-{client:03d}-{round_index:05d}.safetensors"
    return write_bundle(path, {"replay/actions": np.full(10, round_index)}, metadata)


def checkpoint(store: CheckpointStore, number: int, best: FileRef | None = None) -> Checkpoint:
    """Round `number` with a model, a best model and two clients' states."""
    model = save_model(store, number)
    return Checkpoint(
        round=number,
        total_steps=100 * number,
        model=model,
        judged=model,
        judged_returns=(1.0, float(number)),
        best=BestModel(best or model, float(number), number),
        client_states={client: save_state(store, client, number) for client in (0, 7)},
    )


def filled(folder: Path, rounds: int = 3) -> CheckpointStore:
    """A store after `rounds` rounds; the best model is that of round 1."""
    store = CheckpointStore(folder)
    best: FileRef | None = None
    for number in range(1, rounds + 1):
        written = checkpoint(store, number, best)
        best = best or written.model
        store.write(written)
    return store


def names(folder: Path) -> set[str]:
    """The files of a folder."""
    return {path.name for path in folder.iterdir()}


def test_nothing_was_written_yet(tmp_path: Path) -> None:
    assert CheckpointStore(tmp_path).latest() is None


def test_what_was_written_is_read(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    written = checkpoint(store, 4)
    store.write(written)
    assert CheckpointStore(tmp_path).latest() == written
    bundle = store.load(written.model)
    assert bundle.tensors["policy/weight"].tolist() == [4.0] * 20


def test_a_model_that_was_changed_is_not_loaded(tmp_path: Path) -> None:
    store = filled(tmp_path, 1)
    latest = store.latest()
    assert latest is not None
    save_model(store, 9)
    store.path(latest.model).write_bytes((tmp_path / "model-00009.safetensors").read_bytes())
    with pytest.raises(WireError, match="SHA-256"):
        store.load(latest.model)


def test_two_checkpoints_are_kept_with_all_that_they_name(tmp_path: Path) -> None:
    filled(tmp_path, 5)
    assert names(tmp_path) == {
        "round-00004.json",
        "round-00005.json",
        "model-00001.safetensors",  # the best one
        "model-00004.safetensors",
        "model-00005.safetensors",
        "client-000-00004.safetensors",
        "client-007-00004.safetensors",
        "client-000-00005.safetensors",
        "client-007-00005.safetensors",
    }


def test_models_that_came_to_nothing_and_torn_files_are_cleared_away(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    save_model(store, 99)
    (tmp_path / ".model-00001.safetensors.4711.tmp").write_bytes(b"torn by a crash")
    store.write(checkpoint(store, 1))
    assert not {name for name in names(tmp_path) if "99" in name or name.endswith(".tmp")}


def test_five_digits_are_not_the_end(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for number in (99_998, 99_999, 100_000, 100_001):
        store.write(checkpoint(store, number))
    latest = store.latest()
    assert latest is not None
    assert latest.round == 100_001
    assert {"round-100000.json", "round-100001.json"} <= names(tmp_path)
    assert len([name for name in names(tmp_path) if name.startswith("round-")]) == 2


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def delete(path: Path) -> None:
    path.unlink()


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


DAMAGES: list[Callable[[Path], None]] = [truncate, empty, flip, delete, link]


@given(
    damaged=st.sets(st.integers(0, 8), max_size=4),
    damages=st.lists(st.sampled_from(DAMAGES), min_size=9, max_size=9),
)
@settings(max_examples=40, deadline=None)
def test_the_newest_whole_checkpoint_is_found(
    tmp_path_factory: pytest.TempPathFactory,
    damaged: set[int],
    damages: list[Callable[[Path], None]],
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    store = filled(folder, 3)
    files = sorted(names(folder))
    assert len(files) == 9
    for index in damaged:
        is_description = files[index].endswith(".json")
        # of these only whole bytes matter: they are written by rename, and have no digest
        damage = truncate if is_description and damages[index] in (flip, link) else damages[index]
        damage(folder / files[index])
    broken = {files[index] for index in damaged}
    needed = {
        number: {
            f"round-{number:05d}.json",
            f"model-{number:05d}.safetensors",
            f"client-000-{number:05d}.safetensors",
            f"client-007-{number:05d}.safetensors",
            "model-00001.safetensors",
        }
        for number in (2, 3)
    }
    whole = [number for number in (3, 2) if not needed[number] & broken]
    if whole:
        latest = store.latest()
        assert latest is not None
        assert latest.round == whole[0]
    elif any(folder.glob("round-*.json")):
        with pytest.raises(RunFailed, match=r"every checkpoint in .* is damaged"):
            store.latest()
    else:
        assert store.latest() is None


def test_a_fallback_is_followed_by_the_same_round_again(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    delete(tmp_path / "model-00003.safetensors")
    latest = store.latest()
    assert latest is not None
    assert latest.round == 2
    store.write(checkpoint(store, 3, latest.best.model))
    again = store.latest()
    assert again is not None
    assert again.round == 3
    assert {"round-00002.json", "round-00003.json"} <= names(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"round": 3}', b"null"])
def test_a_damaged_description_is_passed_over(tmp_path: Path, content: bytes) -> None:
    store = filled(tmp_path, 3)
    (tmp_path / "round-00003.json").write_bytes(content)
    latest = store.latest()
    assert latest is not None
    assert latest.round == 2


def test_a_description_cannot_point_out_of_its_folder(tmp_path: Path) -> None:
    store = filled(tmp_path, 1)
    path = tmp_path / "round-00001.json"
    path.write_text(path.read_text().replace("model-00001.safetensors", "../model.safetensors"))
    with pytest.raises(RunFailed, match="damaged"):
        store.latest()
