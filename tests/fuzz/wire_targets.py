"""Readers of what travels between requestor and providers: bundles, orders, codecs' payloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import zstandard

from native_kernels import codecs
from provider_image.wire import (
    ENCODED_NAME,
    MAX_ORDER_BYTES,
    Bundle,
    ClientStateMetadata,
    CompressionSpec,
    EnvironmentSpec,
    EvaluateOrder,
    EvaluateResult,
    FileRef,
    InitialiseOrder,
    LearnerSpec,
    LinkState,
    ModelMetadata,
    Order,
    ProbeResult,
    Tensors,
    TensorSpec,
    TrainOrder,
    TrainResult,
    WireError,
    check_tensors,
    compress,
    decode_metadata,
    decode_order,
    encode_order,
    order_digest,
    read_bundle,
    restore,
    result_bytes,
    result_specs,
    settled,
    specs_of,
    split_feedback,
    write_bundle,
)
from tests.fuzz.dice import Dice
from tests.fuzz.target import DEEP, Target

SHA = "0" * 64
MODEL_SPECS = {
    "policy/a": TensorSpec("float32", (2, 3)),
    "policy/b": TensorSpec("float32", (4,)),
    "extra/log": TensorSpec("float32", ()),
    "normalizer/observation/mean": TensorSpec("float64", (3,)),
    "normalizer/observation/var": TensorSpec("float64", (3,)),
    "normalizer/observation/count": TensorSpec("float64", ()),
}
METADATA = (
    ModelMetadata(
        algorithm="ppo", environment_id="CartPole-v1", observation_space="", action_space=""
    ),
    TrainResult(
        order_sha256=SHA,
        steps=128,
        episodes=3,
        metrics={"train/loss": 0.5},
        wall_seconds=1.0,
        cpu_seconds=1.0,
        packages={"numpy": "2"},
        links=(SHA, SHA),
    ),
    ProbeResult(order_sha256=SHA, measure="kl", samples=3),
    EvaluateResult(order_sha256=SHA, episodes=2),
    ClientStateMetadata(run_id="r", client=0, round=1, algorithm="sac"),
    LinkState(base_sha256=SHA, link=1),
)
CODECS = (
    CompressionSpec("fp16"),
    CompressionSpec("int8"),
    CompressionSpec("int8", rounding="nearest"),
    CompressionSpec("int4"),
    CompressionSpec("topk", fraction=0.3),
)
DTYPES = ("F32", "F64", "I64", "U8", "BOOL", "F16")


def read_any_bundle(data: bytes, folder: Path) -> None:
    """Read a bundle as each of the kinds there are."""
    path = folder / "bundle"
    path.write_bytes(data)
    bundle = read_bundle(path, max_bytes=result_bytes(MODEL_SPECS, None))
    if sum(tensor.nbytes for tensor in bundle.tensors.values()) > len(data):
        raise AssertionError("more numbers than bytes")
    _ask_everything(bundle)


def _ask_everything(bundle: Bundle) -> None:
    asked = [decode_any(bundle)]
    for specs in (result_specs(MODEL_SPECS), specs_of(bundle.tensors)):
        asked.append(_is_refused(lambda specs=specs: check_tensors(bundle.tensors, specs)))
    model = {name: np.zeros(spec.shape, np.float32) for name, spec in MODEL_SPECS.items()}
    asked.append(_is_refused(lambda: split_feedback(bundle.tensors, model)))
    asked += [
        _is_refused(lambda spec=spec: restore(bundle.tensors, spec, MODEL_SPECS)) for spec in CODECS
    ]
    if all(asked):
        raise WireError("it is of no kind")


def _is_refused(read: Any) -> bool:
    try:
        read()
    except WireError:
        return True
    return False


def decode_any(bundle: Bundle) -> bool:
    """Decode the metadata as each kind; True if it is none. Two kinds at once are a fault."""
    found = 0
    for sound in METADATA:
        try:
            decoded: Any = decode_metadata(bundle, type(sound))  # type: ignore[type-var]
        except WireError:
            continue
        found += 1
        again = msgspec.json.decode(msgspec.json.encode(decoded), type=type(sound))
        if again != decoded and "nan" not in repr(decoded).lower():
            raise AssertionError("what was read cannot be written")
        if isinstance(decoded, ModelMetadata):
            settled(LearnerSpec("ppo", learner="auto"), decoded)
    if found > 1:
        raise AssertionError("metadata of two kinds at once")
    return not found


def built_bundle(data: bytes) -> bytes:
    """A file whose length, header and offsets fit, mostly, with parts drawn from `data`."""
    dice = Dice(data)
    specs = {**result_specs(MODEL_SPECS), "encoded/update": TensorSpec("uint8", (dice.below(64),))}
    names = [*specs, "feedback/update", "returns", "lengths", "divergences", "updates", "a//b"]
    entries: dict[str, Any] = {}
    content = b""
    for _ in range(dice.below(10)):
        name = dice.pick(names) if dice.below(8) else dice.text()
        spec = specs.get(name, TensorSpec("float32", (dice.below(20),)))
        code = {"float32": "F32", "float64": "F64", "uint8": "U8"}[spec.dtype]
        dtype = code if dice.below(8) else dice.pick(DTYPES)
        shape = list(spec.shape) if dice.below(8) else [dice.pick((0, 1, 2, 1 << 40, 1 << 20))]
        size = int(np.prod(shape)) * {"F64": 8, "I64": 8, "F32": 4, "F16": 2}.get(dtype, 1)
        piece = dice.take(min(size, 200)).ljust(min(size, 200), b"\0")
        begin, end = len(content), len(content) + size
        if not dice.below(16):
            begin, end = dice.below(1 << 20), dice.below(1 << 20)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        content += piece
    sound = json.loads(msgspec.json.encode(dice.pick(METADATA)))
    text = json.dumps(dice.spoilt(sound, ("model", "train_result", SHA)))
    entries["__metadata__"] = {"derl": text} if dice.below(16) != 15 else dice.json()
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content


def _bundle_seeds() -> list[bytes]:
    import tempfile

    tensors = _zeros(result_specs(MODEL_SPECS))
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed"
        for metadata in METADATA:
            write_bundle(path, tensors, metadata)
            found.append(path.read_bytes())
        encoded, _ = compress(tensors, CODECS[2], 1)
        write_bundle(path, encoded, METADATA[1])
        found.append(path.read_bytes())
    return found


def _zeros(specs: dict[str, TensorSpec]) -> Tensors:
    return {name: np.zeros(spec.shape, np.dtype(spec.dtype)) for name, spec in specs.items()}


def read_metadata(data: bytes, folder: Path) -> None:
    """Read the JSON beside the tensors."""
    if decode_any(Bundle({}, data)):
        raise WireError("of no kind")


def read_order(data: bytes, folder: Path) -> None:
    """Read an order as a worker does; what is read is written as it was."""
    order = decode_order(data)
    if decode_order(encode_order(order)) != order and "nan" not in repr(order):
        raise AssertionError("an order changes when it is written")
    order_digest(order)


def _orders() -> list[bytes]:
    file = FileRef(name="model", sha256=SHA, bytes=10)
    environment = EnvironmentSpec("CartPole-v1", n_envs=2, kwargs={"a": 1})
    learner = LearnerSpec("ppo", learner="native", hyperparameters={"gamma": 0.9})
    orders: list[Order] = [
        InitialiseOrder(
            run_id="r", seed=1, environment=environment, learner=learner, output="model"
        ),
        EvaluateOrder(
            environment=environment, learner=learner, model=file, seeds=(1, 2), output="out"
        ),
        TrainOrder(
            run_id="r",
            round=0,
            client=0,
            seed=1,
            environment=environment,
            learner=learner,
            compression=CODECS[4],
            local_steps=128,
            steps_done=0,
            steps_total=256,
            model=file,
            output="update",
        ),
    ]
    return [encode_order(order) for order in orders]


def read_built_order(data: bytes, folder: Path) -> None:
    """Read an order some of whose fields are others."""
    dice = Dice(data)
    sound = json.loads(dice.pick(_ORDERS))
    words = ("native", "sb3", "auto", "ppo", "kept", "..", "a/b", SHA, "output", "links")
    read_order(json.dumps(dice.spoilt(sound, words)).encode()[: MAX_ORDER_BYTES + 1], folder)


_ORDERS = _orders()
_UPDATE = np.linspace(-1, 1, 10, dtype=np.float32)
_HEADER_BYTES = 12


def read_update(data: bytes, folder: Path) -> None:
    """Decode an encoded update: raw bytes, or a sound header and frame around any payload."""
    dice = Dice(data)
    spec = dice.pick(CODECS)
    kind = dice.below(4)
    content = dice.rest()
    if kind:
        head = _sound(spec)[:_HEADER_BYTES]
        content = head + zstandard.ZstdCompressor().compress(_resized(content, spec, kind))
    tensors: Tensors = {ENCODED_NAME: np.frombuffer(content, np.uint8)}
    update = restore(tensors, spec, MODEL_SPECS)
    if not all(np.isfinite(one).all() for one in update.values()):
        raise AssertionError("numbers that are not finite come out of a codec")
    if {n: s for n, s in specs_of(update).items() if s != MODEL_SPECS[n]}:
        raise AssertionError("another model comes out of a codec")


def _resized(payload: bytes, spec: CompressionSpec, kind: int) -> bytes:
    """The payload itself, or made as long as one can be."""
    least, most = codecs.payload_sizes(codecs.Codec(spec.codec, spec.fraction, spec.rounding), 10)
    return payload if kind == 1 else payload[:most].ljust(least, b"\0")


def _sound(spec: CompressionSpec) -> bytes:
    model: Tensors = {"policy/a": _UPDATE[:6].reshape(2, 3), "policy/b": _UPDATE[6:]}
    return compress(model, spec, 1)[0][ENCODED_NAME].tobytes()


def _update_seeds() -> list[bytes]:
    found = []
    for number, spec in enumerate(CODECS):
        content = _sound(spec)
        frame = zstandard.ZstdDecompressor().decompress(content[_HEADER_BYTES:])
        found += [bytes([number, 0]) + content, bytes([number, 1]) + frame]
    return found


TARGETS = (
    Target("bundle", read_any_bundle, (WireError,), _bundle_seeds),
    Target(
        "built-bundle",
        lambda data, folder: read_any_bundle(built_bundle(data), folder),
        (WireError,),
    ),
    Target(
        "metadata",
        read_metadata,
        (WireError,),
        lambda: [*(msgspec.json.encode(m) for m in METADATA), *DEEP],
    ),
    Target("order", read_order, (WireError,), lambda: [*_orders(), *DEEP]),
    Target("built-order", read_built_order, (WireError,)),
    Target("encoded-update", read_update, (WireError,), _update_seeds, 512),
)
