"""Bundles: what is written is read; what a stranger may have written is judged and bounded."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provider_image.wire import (
    Bundle,
    EvaluateResult,
    Tensors,
    TensorSpec,
    WireError,
    bundle_bytes,
    check_tensors,
    decode_metadata,
    read_bundle,
    sha256_file,
    specs_of,
    write_bundle,
)

RESULT = EvaluateResult(order_sha256="0" * 64, episodes=2)
LIMIT = 1 << 20


def sample_tensors() -> Tensors:
    """One tensor of each dtype; axes from none to two, one of them empty."""
    return {
        "policy/net.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "normalizer/observation/count": np.array(3.5),
        "lengths": np.arange(4),
        "image": np.zeros((0, 3), np.uint8),
        "replay/full": np.array([True, False]),
    }


def framed(header: Any, data: bytes = b"") -> bytes:
    """A file with the given header (an object, or raw text) and data, correctly framed."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def with_metadata(**entries: Any) -> dict[str, Any]:
    """A header that has the metadata every bundle must have."""
    return {"__metadata__": {"derl": "{}"}, **entries}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    tensors = sample_tensors()
    reference = write_bundle(tmp_path / "b", tensors, RESULT)
    assert reference.bytes == (tmp_path / "b").stat().st_size
    bundle = read_bundle(tmp_path / "b", max_bytes=reference.bytes, sha256=reference.sha256)
    assert bundle.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert bundle.tensors[name].dtype == tensor.dtype
        np.testing.assert_array_equal(bundle.tensors[name], tensor)
    assert decode_metadata(bundle, EvaluateResult) == RESULT
    assert sha256_file(tmp_path / "b", LIMIT) == reference.sha256
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_same_content_gives_same_bytes_whatever_the_order_and_layout(tmp_path: Path) -> None:
    tensors = sample_tensors()
    other = {name: np.array(tensors[name], order="F") for name in reversed(tensors)}
    first = write_bundle(tmp_path / "a", tensors, RESULT)
    second = write_bundle(tmp_path / "b", other, RESULT)
    assert first.sha256 == second.sha256


def test_the_safetensors_library_reads_our_files_and_we_read_its(tmp_path: Path) -> None:
    tensors = sample_tensors()
    write_bundle(tmp_path / "ours", tensors, RESULT)
    loaded = safetensors.numpy.load_file(tmp_path / "ours")
    assert specs_of(loaded) == specs_of(tensors)
    safetensors.numpy.save_file(tensors, tmp_path / "theirs", metadata={"derl": "{}"})
    assert specs_of(read_bundle(tmp_path / "theirs", max_bytes=LIMIT).tensors) == specs_of(tensors)


def test_bundle_bytes_bounds_every_file_with_these_tensors(tmp_path: Path) -> None:
    tensors = sample_tensors() | {"n" * 200: np.zeros((1,) * 8, np.uint8)}
    text = '"' * 32_000

    class Longest(msgspec.Struct):
        quotes: str = text

    reference = write_bundle(tmp_path / "b", tensors, Longest())
    assert reference.bytes <= bundle_bytes(specs_of(tensors))


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "b"
    write_bundle(path, sample_tensors(), RESULT)
    before = path.read_bytes()
    with pytest.raises(WireError, match=r"b: tensor x is complex64"):
        write_bundle(path, {"x": np.zeros(2, np.complex64)}, RESULT)
    with pytest.raises(WireError, match=r"tensor name '\.\./x y'"):
        write_bundle(path, {"../x y": np.zeros(2)}, RESULT)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes are too short"),
        (b"\x80\x04\x95PICKLE..", "header length"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "header length"),
        ((3).to_bytes(8, "little") + b"{} ", "no multiple of 8"),
        (framed(b"[1, 2]"), "header: Expected `object`"),
        (framed(b"[" * 4000), "header"),
        (framed({}), "metadata must have the one key 'derl'"),
        (framed({"__metadata__": {"derl": "{}", "x": ""}}), "the one key 'derl'"),
        (framed({"__metadata__": {"derl": 1}}), "header"),
        (framed({"__metadata__": {"derl": "x" * 70_000}}), "metadata has 70000 bytes"),
        (
            framed(with_metadata(t={"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}), b"00"),
            "Invalid enum value 'F16'",
        ),
        (
            framed(with_metadata(t={"dtype": "U8", "shape": [-1], "data_offsets": [0, 0]})),
            "header",
        ),
        (
            framed(
                with_metadata(t={"dtype": "U8", "shape": [1] * 9, "data_offsets": [0, 1]}), b"0"
            ),
            "header",
        ),
        (
            framed(with_metadata(t={"dtype": "U8", "shape": [2], "data_offsets": [0, 3]}), b"000"),
            "do not fit",
        ),
        (
            framed(
                with_metadata(t={"dtype": "F32", "shape": [1 << 40] * 8, "data_offsets": [0, 4]})
            ),
            "do not fit",
        ),
        (
            framed(
                with_metadata(t={"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}), b"0" * 8
            ),
            "do not fit",
        ),
        (
            framed(with_metadata(t={"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}), b"000"),
            "do not fit",
        ),
        (
            framed(with_metadata(t={"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}), b"00"),
            "1 bytes belong to no tensor",
        ),
        (
            framed(
                with_metadata(t={"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}), b"\x02"
            ),
            "a bool is neither 0 nor 1",
        ),
        (
            framed(
                with_metadata(**{"../t": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}),
                b"0",
            ).replace(b"../t", b"./ t"),
            "tensor name",
        ),
        (
            framed(
                with_metadata(
                    t={"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
                    u={"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
                ),
                b"0",
            ),
            "do not fit",
        ),
        (
            framed(
                with_metadata(
                    **{
                        f"t{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
                        for i in range(4097)
                    }
                )
            ),
            "4097 tensors, the limit is 4096",
        ),
    ],
)
def test_lying_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "b").write_bytes(content)
    with pytest.raises(WireError, match=message) as refused:
        read_bundle(tmp_path / "b", max_bytes=LIMIT)
    assert str(refused.value).startswith("b: ")


def test_a_shape_numpy_cannot_hold_is_refused(tmp_path: Path) -> None:
    entry = {"dtype": "F64", "shape": [0, *[1 << 40] * 7], "data_offsets": [0, 0]}
    (tmp_path / "b").write_bytes(framed(with_metadata(t=entry)))
    with pytest.raises(WireError, match="tensor t: shape"):
        read_bundle(tmp_path / "b", max_bytes=LIMIT)


def test_a_file_above_the_bound_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    tracemalloc.start()
    with pytest.raises(WireError, match=rf"huge: has {1 << 40} bytes, the limit is 1000"):
        read_bundle(tmp_path / "huge", max_bytes=1000)
    with pytest.raises(WireError, match="the limit is 1000"):
        sha256_file(tmp_path / "huge", 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


def test_links_folders_pipes_and_missing_files_are_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "real", sample_tensors(), RESULT)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "folder", "pipe", "missing"):
        with pytest.raises(WireError, match=f"{name}: (cannot be opened|is not a regular file)"):
            read_bundle(tmp_path / name, max_bytes=LIMIT)


def test_another_hash_than_announced_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", sample_tensors(), RESULT)
    with pytest.raises(WireError, match="b: SHA-256 is not the announced"):
        read_bundle(tmp_path / "b", max_bytes=LIMIT, sha256="0" * 64)


def test_check_tensors_names_what_differs() -> None:
    specs = {"a": TensorSpec("float32", (2,)), "b": TensorSpec("int64", ())}
    good: Tensors = {"a": np.zeros(2, np.float32), "b": np.array(1)}
    check_tensors(good, specs)
    changes: list[tuple[Tensors, str]] = [
        ({"c": np.zeros(1)}, "not expected: c"),
        ({"a": np.zeros(2)}, r"tensor a is float64\[2\], expected float32\[2\]"),
        ({"a": np.zeros((2, 1), np.float32)}, r"tensor a is float32\[2, 1\]"),
        ({"a": np.array([0, np.nan], np.float32)}, "tensor a has values that are not finite"),
        ({"a": np.array([0, np.inf], np.float32)}, "tensor a has values that are not finite"),
    ]
    for change, message in changes:
        with pytest.raises(WireError, match=message):
            check_tensors(good | change, specs)
    with pytest.raises(WireError, match="missing: b"):
        check_tensors({"a": good["a"]}, specs)
    check_tensors(good | {"a": np.array([0, np.nan], np.float32)}, specs, finite=False)


def judged(path: Path, content: bytes, specs: dict[str, TensorSpec]) -> str:
    """What becomes of a file: refused when read, refused when checked, or accepted."""
    path.write_bytes(content)
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    try:
        bundle = read_bundle(path, max_bytes=bundle_bytes(specs))
    except WireError:
        return "unreadable"
    finally:
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before < 4 * bundle_bytes(specs) + (2 << 20)
    assert isinstance(bundle, Bundle)
    try:
        check_tensors(bundle.tensors, specs)
        decode_metadata(bundle, EvaluateResult)
    except WireError:
        return "refused"
    for tensor in bundle.tensors.values():
        assert tensor.nbytes <= len(content)
    return "accepted"


mutation_budget = settings(
    max_examples=1000,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@mutation_budget
@given(data=st.data())
def test_a_thousand_mutated_files_never_get_past(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "b"
    tensors = sample_tensors()
    write_bundle(path, tensors, RESULT)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        position = data.draw(st.integers(0, len(content)))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip" if position < len(content):
                content[position] ^= data.draw(st.integers(1, 255))
            case "cut":
                del content[position : position + data.draw(st.integers(1, 64))]
            case _:
                content[position:position] = data.draw(st.binary(min_size=1, max_size=16))
    tracemalloc.start()
    try:
        outcome = judged(path, bytes(content), specs_of(tensors))
    finally:
        tracemalloc.stop()
    assert outcome in {"unreadable", "refused", "accepted"}


odd_values: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, -1, 0, 1.5, 1e300, "x", "", [], {}, [[]], {"a": [1]}]
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F64", "I64", "U8", "BOOL", "F16", 7]),
        "shape": st.lists(st.integers(-1, 1 << 45), max_size=9) | odd_values,
        "data_offsets": st.lists(st.integers(-8, 1 << 45), min_size=1, max_size=3) | odd_values,
    },
    optional={"surplus": odd_values},
)
near_right = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F64", "U8", "BOOL"]),
        "shape": st.lists(st.integers(0, 4), max_size=2),
        "data_offsets": st.tuples(st.integers(0, 8), st.integers(0, 64)),
    }
)
headers = st.dictionaries(
    st.sampled_from(["policy/w", "policy/v", "../w", "", "w" * 201, "__metadata__"]),
    near_right | entries | odd_values,
    max_size=4,
)


@mutation_budget
@given(header=headers, has_metadata=st.booleans(), body=st.binary(max_size=64))
def test_a_thousand_lying_headers_never_get_past(
    tmp_path: Path, header: dict[str, Any], has_metadata: bool, body: bytes
) -> None:
    if has_metadata:
        header = {**header, "__metadata__": {"derl": "{}"}}
    tracemalloc.start()
    try:
        outcome = judged(
            tmp_path / "b", framed(header, body), {"policy/w": TensorSpec("float32", (2,))}
        )
    finally:
        tracemalloc.stop()
    assert outcome in {"unreadable", "refused"}


@pytest.mark.parametrize("name", ["\x1b]0;owned\x07" + "x" * 100_000, "\n" * 100_000])
def test_an_error_does_not_repeat_what_a_stranger_wrote_into_it(tmp_path: Path, name: str) -> None:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0], name: 1}
    header = json.dumps({"__metadata__": {"derl": "{}"}, "a": entry}).encode()
    header += b" " * (-len(header) % 8)
    path = tmp_path / "bundle"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(WireError, match="bundle: header: Object contains unknown field") as caught:
        read_bundle(path, max_bytes=1 << 20)
    assert len(str(caught.value)) <= 500
    assert str(caught.value).isprintable()
