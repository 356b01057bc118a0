"""The update of a train result in few bytes: one tensor `encoded/update` for all of the policy.

`compress` on the worker, `restore` at the requestor; both are pure functions of the order and the
update. `restore` may be given what anyone has written: it takes memory for the ordered model alone.
Payloads are `native_kernels.codecs`', compressed once more by zstd; FORMAT.md, section 6, has the
layout.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from native_kernels import codecs
from provider_image.wire.errors import WireError
from provider_image.wire.model_layout import POLICY_PREFIX, result_specs
from provider_image.wire.specs import CompressionSpec
from provider_image.wire.tensors import Tensors, TensorSpec, bundle_bytes, check_tensors

ENCODED_NAME = "encoded/update"
FEEDBACK_NAME = "feedback/update"

_MAGIC = b"DeRU"
_LAYOUT = 1
_HEADER = struct.Struct("<4sBBHI")
_LEVEL = 3

Vector = NDArray[np.float32]


def codec_of(spec: CompressionSpec) -> codecs.Codec:
    """The kernels' codec for a specification."""
    return codecs.Codec(spec.codec, spec.fraction, spec.rounding)


def encode_update(update: Vector, spec: CompressionSpec, seed: int) -> bytes:
    """An update float32[P] as header and zstd frame.

    The header and what the frame decompresses to depend on the arguments alone; the frame itself
    also on the version of zstd. Raises WireError for values that are not finite or beyond 1e30.
    """
    try:
        payload = codecs.encode(update, codec_of(spec), seed=seed)
    except ValueError as error:
        raise WireError(f"the update cannot be encoded: {error}") from error
    return _packed(payload, spec, len(update))


def decode_update(data: bytes, spec: CompressionSpec, count: int) -> Vector:
    """The update float32[count] in `data`, which anyone may have written.

    Raises WireError unless every byte is what `encode_update` could have written for this
    specification and count; whatever the bytes claim, no more memory is taken than that needs.
    """
    codec = codec_of(spec)
    if len(data) < _HEADER.size or len(data) > encoded_limit(spec, count):
        raise WireError(f"{len(data)} bytes cannot be {count} elements as {spec.codec}")
    header = _HEADER.unpack_from(data)
    expected = (_MAGIC, _LAYOUT, codec.kind, 0, count)
    if header != expected:
        raise WireError(f"the header says {header!r}, ordered was {expected!r}")
    try:
        return codecs.decode(_decompressed(data[_HEADER.size :], codec, count), codec, count)
    except codecs.CodecError as error:
        raise WireError(str(error)) from error


def encoded_limit(spec: CompressionSpec, count: int) -> int:
    """The most bytes of an encoded update of `count` elements."""
    most = codecs.payload_sizes(codec_of(spec), count)[1]
    return _HEADER.size + most + most // 128 + 256  # zstd's own bound is a little lower


def compress(
    tensors: Tensors, spec: CompressionSpec, seed: int, feedback: Vector | None = None
) -> tuple[Tensors, Vector | None]:
    """Replace the update of the policy by `encoded/update`; everything else stays as it is.

    `feedback` float32[P] is what earlier rounds have left out (None: nothing). Returns the tensors
    and, where the specification says `feedback`, what is left out now. Raises WireError for values
    that cannot be encoded.
    """
    names = _encoded_names(tensors)
    update = _flat(tensors, names)
    kept = {name: tensor for name, tensor in tensors.items() if name not in names}
    residual: Vector | None = None
    if spec.feedback:
        owed = np.zeros_like(update) if feedback is None else feedback
        try:
            encoded = codecs.encode_with_feedback(update, owed, codec_of(spec), seed=seed)
        except ValueError as error:
            raise WireError(f"the update cannot be encoded: {error}") from error
        data, residual = _packed(encoded.payload, spec, len(update)), encoded.residual
    else:
        data = encode_update(update, spec, seed)
    return {**kept, ENCODED_NAME: np.frombuffer(data, dtype=np.uint8)}, residual


def restore(
    tensors: Tensors,
    spec: CompressionSpec,
    model_specs: Mapping[str, TensorSpec],
    *,
    source: str = "bundle",
) -> Tensors:
    """Put the policy's update, decoded, in the place of `encoded/update`.

    Raises WireError if that tensor is missing or unsound, or if parts of the policy stand beside
    it. The other tensors are not looked at.
    """
    encoded = tensors.get(ENCODED_NAME)
    names = _encoded_names(model_specs)
    beside = sorted(_encoded_names(tensors))
    if encoded is None or beside:
        found = f"{beside[0][:80]} beside it" if beside else "none"
        raise WireError(f"{source}: tensor {ENCODED_NAME} was ordered, there is {found}")
    if encoded.dtype != np.uint8 or encoded.ndim != 1:
        raise WireError(
            f"{source}: tensor {ENCODED_NAME} is {encoded.dtype.name}{list(encoded.shape)}, "
            "expected uint8 and one axis"
        )
    try:
        update = decode_update(encoded.tobytes(), spec, feedback_count(model_specs))
    except WireError as error:
        raise WireError(f"{source}: tensor {ENCODED_NAME}: {error}") from error
    restored = {name: tensor for name, tensor in tensors.items() if name != ENCODED_NAME}
    start = 0
    for name in names:
        shape = model_specs[name].shape
        stop = start + int(np.prod(shape))
        restored[name] = update[start:stop].reshape(shape)
        start = stop
    return restored


def result_bytes(model_specs: Mapping[str, TensorSpec], spec: CompressionSpec | None) -> int:
    """What a reader should allow for a train result of a model."""
    specs = result_specs(model_specs)
    if spec is not None:
        limit = encoded_limit(spec, feedback_count(model_specs))
        specs = {n: s for n, s in specs.items() if not n.startswith(POLICY_PREFIX)}
        specs[ENCODED_NAME] = TensorSpec("uint8", (limit,))
    return bundle_bytes(specs)


def feedback_count(model_specs: Mapping[str, TensorSpec]) -> int:
    """How many numbers P the policy of a model has."""
    return sum(int(np.prod(model_specs[name].shape)) for name in _encoded_names(model_specs))


def split_feedback(state: Tensors, model: Tensors) -> tuple[Tensors, Vector]:
    """Take `feedback/update` out of a client's state, for a model with these tensors.

    Raises WireError if it is not there, or not float32[P] and finite.
    """
    count = sum(model[name].size for name in _encoded_names(model))
    found = {name: tensor for name, tensor in state.items() if name == FEEDBACK_NAME}
    check_tensors(found, {FEEDBACK_NAME: TensorSpec("float32", (count,))}, source="client state")
    rest = {name: tensor for name, tensor in state.items() if name != FEEDBACK_NAME}
    return rest, np.ascontiguousarray(found[FEEDBACK_NAME])


def _encoded_names(tensors: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(sorted(name for name in tensors if name.startswith(POLICY_PREFIX)))


def _flat(tensors: Tensors, names: tuple[str, ...]) -> Vector:
    parts = [np.asarray(tensors[name], dtype=np.float32).reshape(-1) for name in names]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def _packed(payload: bytes, spec: CompressionSpec, count: int) -> bytes:
    import zstandard  # 10 ms that only those pay who use it

    frame = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False).compress(payload)
    return _HEADER.pack(_MAGIC, _LAYOUT, codec_of(spec).kind, 0, count) + frame


def _decompressed(frame: bytes, codec: codecs.Codec, count: int) -> bytes:
    """The payload in a frame whose announced size is one that the payload may have."""
    import zstandard

    least, most = codecs.payload_sizes(codec, count)
    try:
        size = zstandard.get_frame_parameters(frame).content_size
        if not least <= size <= most:
            raise WireError(f"the payload has {size} bytes, {least} to {most} are expected")
        decompressor = zstandard.ZstdDecompressor()
        payload = decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise WireError(f"no sound zstd frame: {error}") from error
    if len(payload) != size:
        raise WireError(f"the payload has {len(payload)} bytes, {size} were announced")
    return payload
