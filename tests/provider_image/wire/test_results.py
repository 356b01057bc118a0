"""Metadata of bundles: read back as written, refused if anything is odd."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from provider_image.wire import (
    Bundle,
    ClientStateMetadata,
    EvaluateResult,
    ModelMetadata,
    TrainResult,
    WireError,
    decode_metadata,
    read_bundle,
    write_bundle,
)

RESULT = TrainResult(
    order_sha256="ab" * 32,
    steps=2048,
    episodes=17,
    metrics={"train/loss": 0.25},
    wall_seconds=1.5,
    cpu_seconds=1.25,
    packages={"torch": "2.13.0"},
)


def test_metadata_is_read_back(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", {"x": np.zeros(1)}, RESULT)
    bundle = read_bundle(tmp_path / "b", max_bytes=10_000)
    assert decode_metadata(bundle, TrainResult) == RESULT


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"[]",
        b"{" * 10_000,
        msgspec.json.encode(EvaluateResult(order_sha256="ab" * 32, episodes=1)),
        msgspec.json.encode(RESULT).replace(b'"format":3', b'"format":1'),
        msgspec.json.encode(RESULT).replace(b"0.25", b"null"),
        msgspec.json.encode(RESULT).replace(b'"steps":2048', b'"steps":-1'),
        msgspec.json.encode(RESULT).replace(b'"steps":', b'"stepz":'),
        msgspec.json.encode(RESULT).replace(b"ab" * 32, b"zz" * 32),
    ],
)
def test_other_metadata_is_refused(metadata: bytes) -> None:
    with pytest.raises(WireError, match=r"result\.st: metadata: "):
        decode_metadata(Bundle({}, metadata, "result.st"), TrainResult)


@pytest.mark.parametrize(("version", "is_read"), [(1, False), (2, True), (3, True), (4, False)])
def test_what_runs_of_format_2_have_kept_is_read(version: int, is_read: bool) -> None:
    model = ModelMetadata(
        algorithm="ppo", environment_id="CartPole-v1", observation_space="", action_space=""
    )
    state = ClientStateMetadata(run_id="run", client=1, round=2, algorithm="ppo")

    def read() -> None:
        for_version = b'"format":%d' % version
        text = msgspec.json.encode(model).replace(b'"format":3', for_version)
        decode_metadata(Bundle({}, text, "kept.st"), ModelMetadata)
        text = msgspec.json.encode(state).replace(b'"format":3', for_version)
        decode_metadata(Bundle({}, text, "kept.st"), ClientStateMetadata)

    if is_read:
        read()
    else:
        with pytest.raises(WireError, match="format"):
            read()


def test_metadata_above_the_limit_is_not_written(tmp_path: Path) -> None:
    metadata = ModelMetadata(
        algorithm="ppo", environment_id="x" * 70_000, observation_space="", action_space=""
    )
    with pytest.raises(WireError, match="the limit is 65536"):
        write_bundle(tmp_path / "b", {}, metadata)
