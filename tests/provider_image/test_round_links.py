"""Orders for a part of a round's work: what an audit replays, at any processor level."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from native_kernels import _native
from native_kernels.environments import ENVIRONMENTS
from provider_image.round_runner import execute
from provider_image.wire import (
    ENCODED_NAME,
    CompressionSpec,
    EnvironmentSpec,
    FileRef,
    InitialiseOrder,
    LearnerSpec,
    LinkRange,
    LinkState,
    NormalizeSpec,
    StateRules,
    TrainOrder,
    TrainResult,
    WireError,
    base_digest,
    client_has_state,
    decode_metadata,
    order_digest,
    read_bundle,
    tensors_digest,
    write_bundle,
)

LEVELS = ["v2", "avx2", "avx512"]
LEARNER = LearnerSpec(
    "ppo",
    hyperparameters={"n_steps": 40, "batch_size": 32, "n_epochs": 2},
    policy_kwargs={"net_arch": [16]},
    learner="native",
)
PENDULUM = EnvironmentSpec("Pendulum-v1", n_envs=2, normalize=NormalizeSpec())


def reference(path: Path) -> FileRef:
    """A reference to the file as it is now."""
    content = path.read_bytes()
    return FileRef(path.name, hashlib.sha256(content).hexdigest(), len(content))


def order_in(
    directory: Path,
    environment: EnvironmentSpec,
    rules: StateRules | None = None,
    compression: CompressionSpec | None = None,
) -> TrainOrder:
    """An order for four updates of a fresh model that lies in `directory`."""
    rules = rules or StateRules()
    initialise = InitialiseOrder(
        run_id="r",
        seed=1,
        environment=environment,
        learner=LEARNER,
        rules=rules,
        output="model.st",
    )
    execute(initialise, directory)
    return TrainOrder(
        run_id="r",
        round=0,
        client=0,
        seed=7,
        environment=environment,
        learner=LEARNER,
        rules=rules,
        compression=compression,
        local_steps=160 * environment.n_envs,
        steps_done=0,
        steps_total=10_000,
        model=reference(directory / "model.st"),
        output="update.st",
        client_state_output="client.st" if client_has_state(rules, compression) else None,
    )


def result_of(directory: Path, order: TrainOrder) -> tuple[TrainResult, str]:
    """Have it done; what the result says, and the digest of its tensors."""
    execute(order, directory)
    bundle = read_bundle(directory / order.output, max_bytes=1 << 20)
    return decode_metadata(bundle, TrainResult), tensors_digest(bundle.tensors)


def after(order: TrainOrder, links: tuple[str, ...], first: int, state: FileRef) -> TrainOrder:
    """The same order from link `first` on, to the end."""
    chain = (base_digest(order), *links)
    asked = LinkRange(
        first=first,
        last=len(links),
        state=state,
        state_link=chain[first],
        state_previous=chain[first - 1],
    )
    return msgspec.structs.replace(order, links=asked)


def test_a_round_is_done_in_two_parts(tmp_path: Path) -> None:
    order = order_in(
        tmp_path,
        PENDULUM,
        rules=StateRules(optimizer="kept"),
        compression=CompressionSpec("int8", feedback=True),
    )
    whole, digest = result_of(tmp_path, order)
    assert len(whole.links) == 4
    assert (whole.order_sha256, whole.steps) == (order_digest(order), 320)
    (tmp_path / "client.st").unlink()

    asked = LinkRange(last=2, state_output="link.st")
    head, _ = result_of(tmp_path, msgspec.structs.replace(order, links=asked))
    assert (head.links, head.steps) == (whole.links[:2], 160)
    state = read_bundle(tmp_path / "link.st", max_bytes=1 << 20)
    assert decode_metadata(state, LinkState) == LinkState(base_sha256=order_digest(order), link=2)
    assert tensors_digest(state.tensors, whole.links[0]) == whole.links[1]

    rest = after(order, whole.links, 2, reference(tmp_path / "link.st"))
    tail, found = result_of(tmp_path, rest)
    assert (tail.links, tail.steps) == (whole.links[2:], 160)
    assert tail.order_sha256 == order_digest(rest) != base_digest(rest) == order_digest(order)
    assert found == digest  # encoded as ever
    update = read_bundle(tmp_path / "update.st", max_bytes=1 << 20)
    assert ENCODED_NAME in update.tensors
    assert not (tmp_path / "client.st").exists()


def test_a_state_of_something_else_is_refused(tmp_path: Path) -> None:
    order = order_in(tmp_path, PENDULUM)
    whole, _ = result_of(tmp_path, order)
    asked = LinkRange(last=2, state_output="link.st")
    execute(msgspec.structs.replace(order, links=asked), tmp_path)
    state = read_bundle(tmp_path / "link.st", max_bytes=1 << 20)
    path = tmp_path / "link.st"

    write_bundle(path, state.tensors, LinkState(base_sha256=base_digest(order), link=3))
    with pytest.raises(WireError, match="is link 3 of another work"):
        execute(after(order, whole.links, 2, reference(path)), tmp_path)
    write_bundle(path, state.tensors, LinkState(base_sha256="0" * 64, link=2))
    with pytest.raises(WireError, match="is link 2 of another work"):
        execute(after(order, whole.links, 2, reference(path)), tmp_path)
    forged = state.tensors | {"environment/returns": np.ones(2)}
    write_bundle(path, forged, LinkState(base_sha256=base_digest(order), link=2))
    with pytest.raises(WireError, match=r"does not have the digest links\.state_link"):
        execute(after(order, whole.links, 2, reference(path)), tmp_path)
    model = tmp_path / "model.st"
    with pytest.raises(WireError, match="metadata"):
        execute(after(order, whole.links, 2, reference(model)), tmp_path)


@pytest.fixture
def any_level() -> Iterator[None]:
    before = _native.levels.in_force()
    yield
    _native.levels.force(before)


KINDS = {
    f"{id}, {kind}": EnvironmentSpec(id, n_envs=3, normalize=normalize)
    for id in ENVIRONMENTS
    for kind, normalize in (("fused", None), ("batch", NormalizeSpec()))
} | {"stepped by Gymnasium": EnvironmentSpec("CartPole-v1", n_envs=2, frame_stack=2)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_level_gives_the_same_result_and_links(
    kind: str, tmp_path: Path, any_level: None
) -> None:
    best = _native.levels.of_this_machine()
    if best not in LEVELS:
        pytest.skip(f"NOT RUN: needs x86-64, this is {best}")
    rules = StateRules(optimizer="merged", drift="scaffold")
    found = {}
    for level in LEVELS[: LEVELS.index(best) + 1]:
        _native.levels.force(level)
        order = order_in(tmp_path, KINDS[kind], rules=rules)
        result, digest = result_of(tmp_path, order)
        assert result.packages["native_kernels"] == level
        kept = read_bundle(tmp_path / "client.st", max_bytes=1 << 20).tensors
        found[level] = (result.links, digest, tensors_digest(kept))
    assert len(set(found.values())) == 1, found
    assert len(result.links) == 4
