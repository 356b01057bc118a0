"""Metadata of bundles: read back as written, refused if anything is odd."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from provider_image.wire import (
    Bundle,
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


def test_metadata_above_the_limit_is_not_written(tmp_path: Path) -> None:
    metadata = ModelMetadata(
        algorithm="ppo", environment_id="x" * 70_000, observation_space="", action_space=""
    )
    with pytest.raises(WireError, match="the limit is 65536"):
        write_bundle(tmp_path / "b", {}, metadata)
