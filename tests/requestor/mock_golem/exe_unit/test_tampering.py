"""Falsified files: what each kind does to a tensor container and to other files."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requestor.mock_golem.exe_unit.lying import falsify_reported_files, take_snapshot
from requestor.mock_golem.exe_unit.spec import Tamper, TamperKind
from requestor.mock_golem.exe_unit.tampering import tamper_file

KINDS: list[TamperKind] = [
    "truncate",
    "corrupt",
    "nan",
    "wrong_shape",
    "pickle",
    "huge",
    "empty",
    "not_json",
]
READING_KINDS: list[TamperKind] = ["nan", "wrong_shape", "not_json"]


def container() -> bytes:
    """Two tensors: float32[2, 3] of ones, int64[2] of zeros."""
    header = json.dumps(
        {
            "__metadata__": {"note": "kept"},
            "b": {"dtype": "I64", "shape": [2], "data_offsets": [24, 40]},
            "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        }
    ).encode()
    return struct.pack("<Q", len(header)) + header + struct.pack("<6f2q", *[1.0] * 6, 0, 0)


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def falsified(tmp_path: Path, content: bytes, tamper: Tamper) -> bytes:
    path = tmp_path / "file"
    path.write_bytes(content)
    tamper_file(path, tamper)
    return path.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [container(), b"some text", b"{}"])
def test_every_kind_changes_every_file_the_same_way_each_time(
    tmp_path: Path, kind: TamperKind, content: bytes
) -> None:
    tamper = Tamper(kind, seed=3, huge_bytes=1 << 16)
    first = falsified(tmp_path, content, tamper)
    assert first != content
    assert falsified(tmp_path, content, tamper) == first


def test_nan(tmp_path: Path) -> None:
    for seed in range(10):
        header, data = parts(falsified(tmp_path, container(), Tamper("nan", seed=seed)))
        values = struct.unpack("<6f2q", data)
        assert header == parts(container())[0]
        assert sum(math.isnan(value) for value in values[:6]) == 1
        assert values[6:] == (0, 0)


def test_wrong_shape_is_well_formed(tmp_path: Path) -> None:
    shapes = set()
    for seed in range(10):
        header, data = parts(falsified(tmp_path, container(), Tamper("wrong_shape", seed=seed)))
        assert data == parts(container())[1]
        assert header["__metadata__"] == {"note": "kept"}
        shapes.add((tuple(header["b"]["shape"]), tuple(header["w"]["shape"])))
    assert shapes == {((1, 2), (2, 3)), ((2,), (1, 2, 3))}


def test_not_json(tmp_path: Path) -> None:
    data = falsified(tmp_path, container(), Tamper("not_json"))
    assert len(data) == len(container())
    with pytest.raises(ValueError, match="Expecting value"):
        parts(data)
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(falsified(tmp_path, b"{}", Tamper("not_json")))


def test_sizes(tmp_path: Path) -> None:
    assert falsified(tmp_path, container(), Tamper("empty")) == b""
    short = falsified(tmp_path, container(), Tamper("truncate"))
    assert 0 < len(short) < len(container()) and container().startswith(short)
    path = tmp_path / "file"
    path.write_bytes(container())
    tamper_file(path, Tamper("huge", huge_bytes=5 << 30))
    assert path.stat().st_size == 5 << 30
    assert path.stat().st_blocks * 512 < 1 << 20, "it must not fill the disk"


def test_pickle_would_run_code(tmp_path: Path) -> None:
    import pickletools

    data = falsified(tmp_path, container(), Tamper("pickle"))
    operations = [operation.name for operation, _, _ in pickletools.genops(data)]
    assert "REDUCE" in operations and operations[-1] == "STOP"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(content=st.binary(max_size=200), kind=st.sampled_from(KINDS), seed=st.integers(0, 99))
def test_no_content_is_too_strange(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, kind: TamperKind, seed: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "strange"
    path.write_bytes(content)
    tamper_file(path, Tamper(kind, seed=seed, huge_bytes=1000))
    if content or kind not in ("truncate", "empty"):
        assert path.read_bytes() != content


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(max_size=3), st.none() | st.integers() | st.lists(st.integers())))
def test_no_header_is_too_strange(
    tmp_path_factory: pytest.TempPathFactory, header: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "strange-header"
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + b"data"
    for kind in READING_KINDS:
        path.write_bytes(content)
        tamper_file(path, Tamper(kind))
        assert path.read_bytes() != content


def test_a_consistent_liar_falsifies_what_it_wrote_and_reported(tmp_path: Path) -> None:
    old, new, silent = (tmp_path / name for name in ("old", "new", "silent"))
    old.write_bytes(b"order")
    before = take_snapshot([tmp_path])
    new.write_bytes(container())
    silent.write_bytes(b"not reported")
    (tmp_path / "link").symlink_to(new)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (old, new)]
    output = json.dumps(digests).encode()
    lie = falsify_reported_files(before, take_snapshot([tmp_path]), output, Tamper("nan"))
    assert json.loads(lie) == [digests[0], hashlib.sha256(new.read_bytes()).hexdigest()]
    assert new.read_bytes() != container()
    assert (old.read_bytes(), silent.read_bytes()) == (b"order", b"not reported")
