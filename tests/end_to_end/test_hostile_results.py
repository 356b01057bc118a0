"""A thousand mutated result files: refused in words or harmless, in bounded memory.

What a mutation changes is drawn from a real trained result: its bytes, its header, its tensors,
its metadata. The digest that comes with the file is the original's (damage on the way) or the
mutated file's own (a liar whose checksums agree).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import pickle
import tracemalloc
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provider_image.wire import (
    ModelMetadata,
    Tensors,
    WireError,
    decode_metadata,
    result_specs,
    settled,
    specs_of,
    write_bundle,
)
from requestor.config import (
    compression_spec,
    environment_spec,
    learner_spec,
    load_config,
    state_rules,
)
from requestor.evaluation.judge import Judge
from requestor.evaluation.local_worker import LocalWorker
from requestor.federation.rounds import FederationSettings, WorkItem, plan_round
from requestor.federation.screening import UpdateRejected
from requestor.training_run.orders.order_desk import RoundDesk
from requestor.training_run.orders.round_files import MODEL_NAME, RESULT_NAME, RoundFiles

CONFIG = """
env: {id: CartPole-v1, n_envs: 2, normalize: true}
algo: {name: ppo, n_steps: 64, batch_size: 64, n_epochs: 1, policy_kwargs: "dict(net_arch=[8])"}
federation: {rounds: 1, clients: 1, local_steps: 128}
"""
EXAMPLES = 1000
ENCODED_EXAMPLES = 250


@dataclass(frozen=True)
class Trained:
    """A desk, an item, and what an honest worker returned for it."""

    desk: RoundDesk
    item: WorkItem
    content: bytes
    inbox: Path
    tensors: Tensors

    def receive(self, claimed: str) -> Tensors:
        """Have the desk receive what lies in the inbox; return the accepted tensors."""
        job = self.desk.job(self.item, "lease", 1)
        return dict(self.desk.receive(self.item, job, {RESULT_NAME: claimed}).update.tensors)

    @property
    def path(self) -> Path:
        """Where the transferred file is expected."""
        return self.desk.job(self.item, "lease", 1).outputs[RESULT_NAME].path

    @property
    def limit_bytes(self) -> int:
        """The most a result of this order may have."""
        return self.desk.job(self.item, "lease", 1).outputs[RESULT_NAME].max_bytes

    def clear(self) -> None:
        """Forget what was received."""
        for path in self.inbox.iterdir():
            path.unlink()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return asyncio.run(_train(tmp_path_factory.mktemp("trained")))


@pytest.fixture(scope="module", params=["int8", "topk"])
def encoded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The same where updates travel encoded; feedback would only add a file."""
    compression = f"federation.compression={{codec: {request.param}, feedback: false}}"
    return asyncio.run(_train(tmp_path_factory.mktemp("encoded"), compression))


async def _train(folder: Path, *overrides: str) -> Trained:
    (folder / "config.yaml").write_text(CONFIG)
    config = load_config(folder / "config.yaml", overrides)
    inbox = folder / "inbox"
    inbox.mkdir()
    async with LocalWorker(folder / "worker") as worker:
        environment, learner, rules = (
            environment_spec(config),
            learner_spec(config),
            state_rules(config),
        )
        model = await Judge(worker, environment, learner, rules).initialise("run", 1)
        path = folder / "model.safetensors"
        metadata = decode_metadata(model, ModelMetadata)
        reference = write_bundle(path, model.tensors, metadata)
        specs = (environment, settled(learner, metadata), rules)
        files = RoundFiles("run", *specs, reference, path, specs_of(model.tensors), {}, inbox, 60.0)
        desk = RoundDesk(replace(files, compression=compression_spec(config)))
        (item,) = plan_round(FederationSettings(0, 1, 1, 128, 1), 0).items
        await worker.execute(desk.order(item), {MODEL_NAME: path})
        content = (worker.folder / RESULT_NAME).read_bytes()
    made = Trained(desk, item, content, inbox, {})
    made.path.write_bytes(content)
    tensors = made.receive(digest_of(content))
    assert set(tensors) == set(result_specs(specs_of(model.tensors)))
    made.clear()
    return Trained(desk, item, content, inbox, tensors)


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def taken_apart(content: bytes) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def put_together(header: Any, data: bytes, *, size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return (len(text) if size is None else size).to_bytes(8, "little") + text + data


NUMBERS = st.one_of(
    st.integers(-4, 4), st.sampled_from([2**31, 2**32 + 1, 2**63 - 1, 2**64, 1e300, 0.5])
)
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8), st.binary(max_size=0)).filter(
        lambda value: not isinstance(value, bytes)
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@st.composite
def mutated_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Damage without knowledge of the format: flips, cuts, insertions."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        where = draw(st.one_of(st.integers(0, 200), st.integers(0, len(content)))) % len(content)
        kind = draw(st.sampled_from(["flip", "cut", "insert", "drop", "zero"]))
        if kind == "flip":
            data[where : where + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "cut":
            del data[where:]
        elif kind == "insert":
            data[where:where] = draw(st.binary(min_size=1, max_size=64))
        elif kind == "drop":
            del data[where : where + draw(st.integers(1, 64))]
        else:
            data[where : where + 16] = bytes(len(data[where : where + 16]))
    return bytes(data)


@st.composite
def mutated_header(draw: st.DrawFn, content: bytes) -> bytes:
    """A header that lies: sizes, types, offsets, names, nesting."""
    header, data = taken_apart(content)
    names = sorted(name for name in header if name != "__metadata__")
    name = draw(st.sampled_from(names))
    kind = draw(
        st.sampled_from(
            ["size", "field", "value", "rename", "remove", "add", "twice", "deep", "junk"]
        )
    )
    if kind == "size":
        return put_together(
            header, data, size=8 * draw(st.integers(0, 400) | st.integers(0, 2**61 - 1))
        )
    if kind == "field":
        field = draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
        plausible = st.sampled_from(
            ["F64", "F16", "I64", "U8", "BOOL", [2**40], [-1], [1] * 40, [0, 4], [4, 0], [0, 2**62]]
        )
        header[name][field] = draw(plausible | JUNK)
    elif kind == "value":
        header[name] = draw(JUNK)
    elif kind == "rename":
        header[draw(st.text(max_size=300))] = header.pop(name)
    elif kind == "remove":
        del header[name]
    elif kind == "add":
        header[draw(st.text(min_size=1, max_size=20))] = dict(header[name])
    elif kind == "twice":
        text = json.dumps(header)[:-1] + "," + json.dumps({name: header[name]})[1:]
        return put_together(text.encode(), data)
    elif kind == "deep":
        depth = draw(st.sampled_from([100, 10_000, 60_000]))
        return put_together(b'{"a":' + b"[" * depth + b"]" * depth + b"}", data)
    else:
        return put_together(draw(JUNK), data)
    return put_together(header, data)


@st.composite
def mutated_metadata(draw: st.DrawFn, content: bytes) -> bytes:
    """Metadata of another order, of other types, or too much of it."""
    header, data = taken_apart(content)
    metadata = json.loads(header["__metadata__"]["derl"])
    kind = draw(st.sampled_from(["field", "extra", "large", "text", "none", "keys"]))
    if kind == "field":
        metadata[draw(st.sampled_from(sorted(metadata)))] = draw(
            JUNK | st.sampled_from(["0" * 64, 127, 129, -1, {"x": "y"}, {"train/loss": 1e999}])
        )
    elif kind == "extra":
        metadata[draw(st.text(max_size=8))] = draw(JUNK)
    elif kind == "large":
        metadata["metrics"] = {f"m{i}": float(i) for i in range(draw(st.integers(0, 9000)))}
    elif kind == "text":
        header["__metadata__"]["derl"] = draw(st.text(max_size=40))
        return put_together(header, data)
    elif kind == "none":
        header["__metadata__"] = draw(JUNK)
        return put_together(header, data)
    else:
        header["__metadata__"][draw(st.text(max_size=8))] = draw(st.text(max_size=8))
    header["__metadata__"]["derl"] = json.dumps(metadata)
    return put_together(header, data)


@st.composite
def mutated_update(draw: st.DrawFn, encoded: bytes) -> bytes:
    """An encoded update of the same length with other bytes in it."""
    data = bytearray(encoded)
    for _ in range(draw(st.integers(1, 3))):
        where = draw(st.one_of(st.integers(0, 24), st.integers(0, len(data) - 1))) % len(data)
        data[where] = draw(st.integers(0, 255))
    return bytes(data)


@st.composite
def mutated_payload(draw: st.DrawFn, content: bytes) -> bytes:
    """A sound container around a payload that is not, or is far too long."""
    header, data = taken_apart(content)
    begin, end = header["encoded/update"]["data_offsets"]
    payload = zstandard.ZstdDecompressor().decompress(data[begin + 12 : end])
    kind = draw(st.sampled_from(["bytes", "bytes", "length", "bomb"]))
    changed = bytearray(payload)
    if kind == "bomb":
        changed = bytearray(1 << draw(st.integers(10, 24)))
    elif kind == "length":
        changed = changed[: draw(st.integers(0, len(changed)))]
    else:
        for _ in range(draw(st.integers(1, 3))):
            where = draw(st.one_of(st.integers(0, 8), st.integers(0, len(changed) - 1)))
            changed[where] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    frame = zstandard.ZstdCompressor(level=3).compress(bytes(changed))
    sent = data[begin : begin + 12] + frame
    # the encoded update comes last or in the middle: what follows moves
    for entry in header.values():
        offsets = entry.get("data_offsets")
        if offsets is not None and offsets[0] >= end:
            entry["data_offsets"] = [offset + len(sent) - (end - begin) for offset in offsets]
    header["encoded/update"]["data_offsets"] = [begin, begin + len(sent)]
    header["encoded/update"]["shape"] = [len(sent)]
    return put_together(header, data[:begin] + sent + data[end:])


@st.composite
def mutated_tensors(draw: st.DrawFn, content: bytes) -> bytes:
    """Whole files with other numbers in them, some of them fit to be merged."""
    header, data = taken_apart(content)
    name = draw(st.sampled_from(sorted(name for name in header if name != "__metadata__")))
    begin, end = header[name]["data_offsets"]
    if header[name]["dtype"] == "U8":
        return put_together(
            header, data[:begin] + draw(mutated_update(data[begin:end])) + data[end:]
        )
    kind = {"F32": np.float32, "F64": np.float64}[header[name]["dtype"]]
    values = np.frombuffer(data[begin:end], kind).copy()
    special = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0, 3e38, 1e-40])
    number = draw(special | st.floats(-10, 10) | st.floats(-10, 10))
    with np.errstate(over="ignore"):
        values[draw(st.integers(0, len(values) - 1))] = kind(number)
    return put_together(header, data[:begin] + values.tobytes() + data[end:])


@st.composite
def other_files(draw: st.DrawFn, content: bytes) -> bytes:
    """Something else altogether."""
    chosen: bytes = draw(
        st.one_of(
            st.binary(max_size=64),
            st.just(pickle.dumps({"policy": [1, 2, 3]}, protocol=4)),
            st.just(b"PK\x03\x04" + content),
            st.just(b'{"not": "safetensors"}'),
            st.just(content + bytes(1 << 20)),
            st.just(content[:8] + content),
            st.just(put_together({}, b"")),
        )
    )
    return chosen


def mutations(content: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(
        mutated_bytes(content),
        mutated_header(content),
        mutated_metadata(content),
        mutated_tensors(content),
        other_files(content),
    )


def test_a_thousand_mutated_results(trained: Trained) -> None:
    outcomes = receive_mutations(trained, mutations(trained.content), EXAMPLES)
    assert outcomes["refused"] > EXAMPLES // 2, outcomes
    assert outcomes["accepted changed"] > 10, outcomes


def test_hundreds_of_mutated_encoded_results(encoded: Trained) -> None:
    content = encoded.content
    strategy = mutated_payload(content) | mutated_tensors(content) | mutations(content)
    outcomes = receive_mutations(encoded, strategy, ENCODED_EXAMPLES)
    assert outcomes["refused"] > ENCODED_EXAMPLES // 3, outcomes
    assert outcomes["accepted changed"] > 10, outcomes


def receive_mutations(
    trained: Trained, contents: st.SearchStrategy[bytes], examples: int
) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    honest = digest_of(trained.content)
    memory_bound_bytes = 8 * trained.limit_bytes + (1 << 20)
    corpus: list[tuple[bytes, str]] = []
    tracemalloc.start()

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(content=contents, is_consistent=st.sampled_from([True, True, False]))
    def receives(content: bytes, is_consistent: bool) -> None:
        is_changed = content != trained.content
        claimed = digest_of(content) if is_consistent else honest
        corpus.append((content, claimed))
        trained.clear()
        trained.path.write_bytes(content)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        try:
            accepted = trained.receive(claimed)
        except (WireError, UpdateRejected) as error:
            assert is_changed, "an honest result must be accepted"
            assert str(error).strip(), "a refusal says why"
            assert len(str(error)) < 2000, "and does not repeat a stranger's file"
            outcomes["refused"] += 1
            assert list(trained.inbox.glob("*.result")) in ([], [trained.path]), "nothing is kept"
        else:
            assert is_consistent or not is_changed, "the digest is the original's, the bytes not"
            assert_well_formed(accepted, trained.tensors)
            outcomes["accepted changed" if is_changed else "accepted"] += 1
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before <= memory_bound_bytes
        outcomes["all"] += 1

    try:
        receives()
    finally:
        tracemalloc.stop()
    assert outcomes["all"] >= examples
    assert_resident_memory_is_bounded(trained, corpus)
    return outcomes


def assert_resident_memory_is_bounded(trained: Trained, corpus: list[tuple[bytes, str]]) -> None:
    """The same again, for memory that Python does not account for."""
    process = psutil.Process()
    resident_bytes = process.memory_info().rss
    for content, claimed in corpus:
        trained.clear()
        trained.path.write_bytes(content)
        with contextlib.suppress(WireError, UpdateRejected):
            trained.receive(claimed)
        grown_bytes = process.memory_info().rss - resident_bytes
        assert grown_bytes < 32 << 20


def assert_well_formed(accepted: Tensors, original: Tensors) -> None:
    """What may be merged has exactly the names, types and shapes ordered, and finite numbers."""
    assert accepted.keys() == original.keys()
    for name, tensor in accepted.items():
        assert tensor.dtype == original[name].dtype, name
        assert tensor.shape == original[name].shape, name
        assert np.isfinite(tensor).all(), name


def test_a_huge_file_is_never_read(trained: Trained) -> None:
    trained.clear()
    with trained.path.open("wb") as file:
        file.write(trained.content)
        file.truncate(1 << 34)
    tracemalloc.start()
    try:
        with pytest.raises(WireError, match="bytes"):
            trained.receive(digest_of(trained.content))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "nothing"])
def test_what_is_no_plain_file_is_refused(trained: Trained, tmp_path: Path, kind: str) -> None:
    """A link would read a file of ours; a pipe would hang."""
    trained.clear()
    (tmp_path / "elsewhere").write_bytes(trained.content)
    if kind == "link":
        trained.path.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        trained.path.mkdir()
    elif kind == "pipe":
        os.mkfifo(trained.path)
    with pytest.raises(WireError):
        trained.receive(digest_of(trained.content))
    if kind == "folder":
        trained.path.rmdir()
