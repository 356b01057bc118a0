"""Orders executed from files: the whole cycle, and files that are not what they should be."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from provider_image.round_runner import execute
from provider_image.wire import (
    ENCODED_NAME,
    FEEDBACK_NAME,
    ClientStateMetadata,
    CompressionSpec,
    EnvironmentSpec,
    EvaluateOrder,
    EvaluateResult,
    ExportOrder,
    FileRef,
    InitialiseOrder,
    LearnerSpec,
    ModelMetadata,
    NormalizeSpec,
    Order,
    StateRules,
    Tensors,
    TrainOrder,
    TrainResult,
    WireError,
    bundle_bytes,
    check_tensors,
    decode_metadata,
    order_digest,
    read_bundle,
    restore,
    result_bytes,
    result_specs,
    specs_of,
    write_bundle,
)

ENVIRONMENT = EnvironmentSpec(id="Pendulum-v1", normalize=NormalizeSpec())
LEARNER = LearnerSpec(
    algorithm="sac",
    hyperparameters={"learning_starts": 10, "batch_size": 16, "buffer_size": 100},
    policy_kwargs={"net_arch": [8]},
)
RULES = StateRules(replay="kept")


def reference(path: Path) -> FileRef:
    """A reference to the file as it is now."""
    content = path.read_bytes()
    return FileRef(path.name, hashlib.sha256(content).hexdigest(), len(content))


@pytest.fixture
def model(tmp_path: Path) -> FileRef:
    """A fresh model in the order's directory."""
    order = InitialiseOrder(
        run_id="r",
        seed=3,
        environment=ENVIRONMENT,
        learner=LEARNER,
        rules=RULES,
        output="model.st",
    )
    files = execute(order, tmp_path)
    found = reference(tmp_path / "model.st")
    assert files == {"model.st": found.sha256}
    return found


def train_order(model: FileRef) -> TrainOrder:
    """40 steps with a kept replay buffer."""
    return TrainOrder(
        run_id="r",
        round=1,
        client=2,
        seed=9,
        environment=ENVIRONMENT,
        learner=LEARNER,
        rules=RULES,
        local_steps=40,
        steps_done=0,
        steps_total=400,
        model=model,
        output="update.st",
        client_state_output="state.st",
    )


def test_a_model_says_what_it_is(tmp_path: Path, model: FileRef) -> None:
    bundle = read_bundle(tmp_path / model.name, max_bytes=model.bytes, sha256=model.sha256)
    metadata = decode_metadata(bundle, ModelMetadata)
    assert (metadata.algorithm, metadata.environment_id) == ("sac", "Pendulum-v1")
    assert metadata.action_space.startswith("Box(-2.0, 2.0")
    assert bundle.tensors["extra/log_ent_coef"].shape == (1,)
    assert float(bundle.tensors["normalizer/return/count"]) == 1e-4


def test_the_whole_cycle(tmp_path: Path, model: FileRef) -> None:
    order = train_order(model)
    files = execute(order, tmp_path)
    update, state = reference(tmp_path / "update.st"), reference(tmp_path / "state.st")
    assert files == {update.name: update.sha256, state.name: state.sha256}
    received = read_bundle(tmp_path / model.name, max_bytes=model.bytes).tensors
    expected = result_specs(specs_of(received))
    bundle = read_bundle(tmp_path / "update.st", max_bytes=bundle_bytes(expected))
    check_tensors(bundle.tensors, expected)
    result = decode_metadata(bundle, TrainResult)
    assert (result.steps, result.order_sha256) == (40, order_digest(order))
    assert result.cpu_seconds > 0
    kept = read_bundle(tmp_path / "state.st", max_bytes=1 << 20)
    metadata = decode_metadata(kept, ClientStateMetadata)
    assert (metadata.client, metadata.round) == (2, 1)

    again = msgspec.structs.replace(order, steps_done=40, client_state=state)
    execute(again, tmp_path)
    kept = read_bundle(tmp_path / "state.st", max_bytes=1 << 20)
    assert int(kept.tensors["replay/position"]) == 80

    evaluation = EvaluateOrder(
        environment=ENVIRONMENT,
        learner=LEARNER,
        rules=RULES,
        model=model,
        seeds=(4, 5),
        output="returns.st",
    )
    execute(evaluation, tmp_path)
    returns = read_bundle(tmp_path / "returns.st", max_bytes=10_000)
    assert decode_metadata(returns, EvaluateResult).episodes == 2
    assert list(returns.tensors["lengths"]) == [200, 200]

    export = ExportOrder(
        environment=ENVIRONMENT,
        learner=LEARNER,
        rules=RULES,
        seed=1,
        model=model,
        output="model.zip",
        normalizer_output="normalizer.pkl",
    )
    exported = execute(export, tmp_path)
    assert exported == {
        name: reference(tmp_path / name).sha256 for name in ("model.zip", "normalizer.pkl")
    }
    assert not list(tmp_path.glob(".*"))


def trained(folder: Path, order: TrainOrder) -> Tensors:
    """Execute an order; return the tensors of the update."""
    execute(order, folder)
    return read_bundle(folder / order.output, max_bytes=1 << 20).tensors


def test_an_encoded_update_is_the_update_rounded(tmp_path: Path, model: FileRef) -> None:
    order = train_order(model)
    plain = trained(tmp_path, order)
    spec = CompressionSpec("int8")
    sent = trained(tmp_path, msgspec.structs.replace(order, compression=spec))
    received = read_bundle(tmp_path / model.name, max_bytes=model.bytes).tensors
    model_specs = specs_of(received)
    assert (tmp_path / order.output).stat().st_size <= result_bytes(model_specs, spec)
    decoded = restore(sent, spec, model_specs)
    check_tensors(decoded, result_specs(model_specs))
    for name, tensor in plain.items():
        if name.startswith("policy/"):
            # one unit of the coarsest scale: the largest number of all over 127, rounded up
            largest = max(np.abs(t).max() for n, t in plain.items() if n.startswith("policy/"))
            np.testing.assert_allclose(decoded[name], tensor, atol=largest / 126)
        else:
            np.testing.assert_array_equal(decoded[name], tensor)
    again = trained(tmp_path, msgspec.structs.replace(order, compression=spec))
    np.testing.assert_array_equal(again[ENCODED_NAME], sent[ENCODED_NAME])


@pytest.mark.parametrize("rules", [RULES, StateRules()], ids=["with replay", "alone"])
def test_what_the_codec_leaves_out_is_added_next_time(
    tmp_path: Path, model: FileRef, rules: StateRules
) -> None:
    spec = CompressionSpec("topk", fraction=0.05, rounding="nearest", feedback=True)
    order = msgspec.structs.replace(train_order(model), rules=rules, compression=spec)
    whole = trained(tmp_path, msgspec.structs.replace(train_order(model), compression=None))
    first = trained(tmp_path, order)
    state = reference(tmp_path / "state.st")
    kept = read_bundle(tmp_path / "state.st", max_bytes=1 << 20).tensors
    assert ("replay/position" in kept) == (rules == RULES)
    model_specs = specs_of(read_bundle(tmp_path / model.name, max_bytes=model.bytes).tensors)
    names = sorted(name for name in model_specs if name.startswith("policy/"))

    def flat(tensors: Tensors) -> np.ndarray:
        decoded = restore(tensors, spec, model_specs)
        return np.concatenate([decoded[name].reshape(-1) for name in names])

    if rules == RULES:
        update = np.concatenate([whole[name].reshape(-1) for name in names])
        np.testing.assert_array_equal(flat(first) + kept[FEEDBACK_NAME], update)
    trained(tmp_path, msgspec.structs.replace(order, client_state=state, steps_done=40))
    owed = read_bundle(tmp_path / "state.st", max_bytes=1 << 20).tensors[FEEDBACK_NAME]
    assert np.count_nonzero(owed) > 0.9 * len(owed)
    assert not np.array_equal(owed, kept[FEEDBACK_NAME])


def test_the_same_order_gives_the_same_tensors_after_others(tmp_path: Path, model: FileRef) -> None:
    order = train_order(model)
    execute(order, tmp_path)
    first = read_bundle(tmp_path / "update.st", max_bytes=1 << 20).tensors
    execute(msgspec.structs.replace(order, seed=10, output="other.st"), tmp_path)
    execute(order, tmp_path)
    second = read_bundle(tmp_path / "update.st", max_bytes=1 << 20).tensors
    other = read_bundle(tmp_path / "other.st", max_bytes=1 << 20).tensors
    assert {n: t.tobytes() for n, t in first.items()} == {n: t.tobytes() for n, t in second.items()}
    assert any((other[n] != first[n]).any() for n in first)


def orders_with(model: FileRef) -> list[Order]:
    """One order of each kind that reads a model."""
    common = {"environment": ENVIRONMENT, "learner": LEARNER, "rules": RULES, "model": model}
    return [
        train_order(model),
        EvaluateOrder(**common, seeds=(1,), output="e.st"),  # type: ignore[arg-type]
        ExportOrder(**common, seed=1, output="m.zip"),  # type: ignore[arg-type]
    ]


def test_files_that_are_not_as_announced_are_refused_and_nothing_is_written(
    tmp_path: Path, model: FileRef
) -> None:
    path = tmp_path / "model.st"
    good = path.read_bytes()
    bundle = read_bundle(path, max_bytes=model.bytes)
    other = dict(bundle.tensors)
    other["policy/surplus"] = np.zeros(3, np.float32)

    def attempt(announced: FileRef, message: str) -> None:
        before = sorted(tmp_path.iterdir())
        for order in orders_with(announced):
            with pytest.raises(WireError, match=message):
                execute(order, tmp_path)
        assert sorted(tmp_path.iterdir()) == before

    path.write_bytes(b"\x80\x04\x95" + good)
    attempt(model, "the limit is")
    attempt(reference(path), "header length")
    path.write_bytes(good[:-1])
    attempt(model, "SHA-256 is not the announced")
    attempt(reference(path), "do not fit")
    metadata = decode_metadata(bundle, ModelMetadata)
    attempt(write_bundle(path, other, metadata), "not expected: policy/surplus")
    path.unlink()
    attempt(model, "cannot be opened")
    path.symlink_to("/etc/passwd")
    attempt(model, "cannot be opened")
