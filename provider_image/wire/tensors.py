"""Tensor bundles: safetensors files with one JSON text beside the tensors.

Nothing read here can execute code, and no more memory is taken than the caller allows: the size
is known before the first byte is read, and the header must describe exactly the bytes that are
there. Read `model_layout.py` next: which tensors a model and a result consist of.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors.numpy
from msgspec import Meta

from provider_image.wire.errors import WireError
from provider_image.wire.orders import FileRef

Tensors: TypeAlias = dict[str, npt.NDArray[Any]]

MAX_METADATA_BYTES = 64 * 1024
MAX_HEADER_BYTES = 2 * 1024 * 1024
MAX_TENSORS = 4096
MAX_NAME_LENGTH = 200
MAX_DIMENSIONS = 8
METADATA_KEY = "derl"

_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_DTYPE_NAMES = frozenset(dtype.name for dtype in _DTYPES.values())
_NAME = re.compile(r"\A[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*\Z")
_LENGTH_PREFIX_BYTES = 8


@dataclass(frozen=True)
class TensorSpec:
    """What a tensor must look like.

    `dtype` is NumPy's name: float32, float64, int64, uint8 or bool.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of the tensor's data in bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory: tensors by name, the metadata's JSON text, and the file it came from."""

    tensors: Tensors
    metadata: bytes
    source: str = "bundle"


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: Literal["F32", "F64", "I64", "U8", "BOOL"]
    shape: Annotated[
        tuple[Annotated[int, Meta(ge=0, le=1 << 40)], ...], Meta(max_length=MAX_DIMENSIONS)
    ]
    data_offsets: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]


_HEADER_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENTRY_DECODER = msgspec.json.Decoder(_Entry)
_METADATA_DECODER = msgspec.json.Decoder(dict[str, str])


def specs_of(tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, TensorSpec]:
    """The specifications that the given tensors themselves fulfil."""
    return {
        name: TensorSpec(tensor.dtype.name, tuple(tensor.shape)) for name, tensor in tensors.items()
    }


def write_bundle(
    path: Path, tensors: Mapping[str, npt.NDArray[Any]], metadata: msgspec.Struct
) -> FileRef:
    """Write tensors and metadata to `path`, whole or not at all, and say what was written.

    The same content gives the same bytes. Raises WireError if the content breaks a limit.
    """
    text = msgspec.json.encode(metadata, order="sorted")
    if len(text) > MAX_METADATA_BYTES:
        raise WireError(
            f"{path.name}: metadata has {len(text)} bytes, the limit is {MAX_METADATA_BYTES}"
        )
    _check_writable(path.name, tensors)
    data = safetensors.numpy.save(
        {
            name: np.ascontiguousarray(tensors[name]).reshape(tensors[name].shape)
            for name in sorted(tensors)
        },
        metadata={METADATA_KEY: text.decode()},
    )
    with atomic_writer(path) as descriptor:
        _write_all(descriptor, data)
    return FileRef(name=path.name, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def read_bundle(path: Path, *, max_bytes: int, sha256: str | None = None) -> Bundle:
    """Read a bundle of at most `max_bytes`, written by anyone.

    Memory taken is the file's size plus a bounded header. If `sha256` (hex) is given, the content
    must have it. Raises WireError for whatever is wrong, including a missing file.
    """
    content = read_file(path, max_bytes)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise WireError(f"{path.name}: SHA-256 is not the announced {sha256}")
    return _parse(path.name, content)


def check_tensors(
    tensors: Mapping[str, npt.NDArray[Any]],
    specs: Mapping[str, TensorSpec],
    *,
    finite: bool = True,
    source: str = "bundle",
) -> None:
    """Raise WireError unless names, dtypes and shapes are exactly `specs`, and values finite."""
    missing = sorted(specs.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - specs.keys())
    if missing or surplus:
        raise WireError(
            f"{source}: tensors missing: {_listed(missing)}; not expected: {_listed(surplus)}"
        )
    for name, spec in specs.items():
        tensor = tensors[name]
        if (tensor.dtype.name, tensor.shape) != (spec.dtype, spec.shape):
            raise WireError(
                f"{source}: tensor {name} is {tensor.dtype.name}{list(tensor.shape)}, "
                f"expected {spec.dtype}{list(spec.shape)}"
            )
        if finite and tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise WireError(f"{source}: tensor {name} has values that are not finite")


def bundle_bytes(specs: Mapping[str, TensorSpec], metadata_limit: int = MAX_METADATA_BYTES) -> int:
    """An upper bound for the size of a file with these tensors: what a reader should allow."""
    entries = sum(len(name) + 100 + 21 * (len(spec.shape) + 2) for name, spec in specs.items())
    escaped_metadata = 2 * metadata_limit + 100
    data = sum(spec.nbytes for spec in specs.values())
    return _LENGTH_PREFIX_BYTES + entries + escaped_metadata + 8 + data


def sha256_file(path: Path, max_bytes: int) -> str:
    """SHA-256 (hex) of a regular file of at most `max_bytes`, read piece by piece."""
    digest = hashlib.sha256()
    with _opened(path, max_bytes) as (descriptor, size):
        left = size
        while left and (piece := os.read(descriptor, min(left, 1 << 20))):
            digest.update(piece)
            left -= len(piece)
        if left or os.read(descriptor, 1):
            raise WireError(f"{path.name}: changed its size while it was read")
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[int]:
    """A descriptor to write; at the end the file is synced and takes the name `path` at once."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
    )
    try:
        try:
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextlib.contextmanager
def _opened(path: Path, max_bytes: int) -> Iterator[tuple[int, int]]:
    """A regular file of at most `max_bytes`, opened without following a link: (fd, size)."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise WireError(f"{path.name}: cannot be opened: {error}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise WireError(f"{path.name}: is not a regular file")
        if status.st_size > max_bytes:
            raise WireError(f"{path.name}: has {status.st_size} bytes, the limit is {max_bytes}")
        yield descriptor, status.st_size
    except OSError as error:
        raise WireError(f"{path.name}: cannot be read: {error}") from error
    finally:
        os.close(descriptor)


def read_file(path: Path, max_bytes: int) -> bytearray:
    """A regular file of at most `max_bytes`; no link is followed; WireError otherwise."""
    with _opened(path, max_bytes) as (descriptor, size):
        content = bytearray(size)
        view = memoryview(content)
        while view:
            count = os.readv(descriptor, [view])
            if count == 0:
                raise WireError(f"{path.name}: changed its size while it was read")
            view = view[count:]
    return content


def _parse(source: str, content: bytearray) -> Bundle:
    if len(content) < _LENGTH_PREFIX_BYTES:
        raise WireError(f"{source}: {len(content)} bytes are too short for a bundle")
    header_bytes = int.from_bytes(content[:_LENGTH_PREFIX_BYTES], "little")
    data_start = _LENGTH_PREFIX_BYTES + header_bytes
    if header_bytes > MAX_HEADER_BYTES or data_start > len(content) or header_bytes % 8:
        raise WireError(
            f"{source}: header length {header_bytes} is beyond the file or the limit "
            f"{MAX_HEADER_BYTES}, or no multiple of 8"
        )
    try:
        raw = _HEADER_DECODER.decode(content[_LENGTH_PREFIX_BYTES:data_start])
        metadata = _METADATA_DECODER.decode(raw.pop("__metadata__", msgspec.Raw(b"{}")))
        if len(raw) > MAX_TENSORS:
            raise WireError(f"{source}: {len(raw)} tensors, the limit is {MAX_TENSORS}")
        entries = {name: _ENTRY_DECODER.decode(text) for name, text in raw.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"{source}: header: {error}") from error
    return Bundle(
        tensors=_tensors(source, entries, np.frombuffer(content, np.uint8)[data_start:]),
        metadata=_metadata_text(source, metadata),
        source=source,
    )


def _metadata_text(source: str, metadata: dict[str, str]) -> bytes:
    if metadata.keys() != {METADATA_KEY}:
        raise WireError(f"{source}: metadata must have the one key {METADATA_KEY!r}")
    text = metadata[METADATA_KEY].encode("utf-8", "surrogatepass")
    if len(text) > MAX_METADATA_BYTES:
        raise WireError(
            f"{source}: metadata has {len(text)} bytes, the limit is {MAX_METADATA_BYTES}"
        )
    return text


def _tensors(source: str, entries: dict[str, _Entry], data: npt.NDArray[np.uint8]) -> Tensors:
    """Views into `data`; every byte of it must belong to exactly one tensor."""
    tensors: Tensors = {}
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        _check_name(source, name)
        begin, end = entry.data_offsets
        dtype = _DTYPES[entry.dtype]
        size = math.prod(entry.shape) * dtype.itemsize
        if begin != position or end - begin != size or end > data.size or begin % dtype.itemsize:
            raise WireError(
                f"{source}: tensor {name}: offsets {begin}..{end} do not fit "
                f"{dtype.name}{list(entry.shape)} at byte {position} of {data.size}"
            )
        piece = data[begin:end]
        if entry.dtype == "BOOL" and (piece > 1).any():
            raise WireError(f"{source}: tensor {name}: a bool is neither 0 nor 1")
        try:
            tensors[name] = piece.view(dtype).reshape(entry.shape)
        except ValueError as error:
            raise WireError(f"{source}: tensor {name}: shape {list(entry.shape)}") from error
        position = end
    if position != data.size:
        raise WireError(f"{source}: {data.size - position} bytes belong to no tensor")
    return tensors


def _check_name(source: str, name: str) -> None:
    if len(name) > MAX_NAME_LENGTH or not _NAME.match(name):
        raise WireError(
            f"{source}: tensor name {name[:60]!r} is longer than {MAX_NAME_LENGTH} or has "
            "characters other than A-Z a-z 0-9 _ . - and single slashes"
        )


def _check_writable(source: str, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    if len(tensors) > MAX_TENSORS:
        raise WireError(f"{source}: {len(tensors)} tensors, the limit is {MAX_TENSORS}")
    for name, tensor in tensors.items():
        _check_name(source, name)
        if tensor.dtype.name not in _DTYPE_NAMES:
            raise WireError(
                f"{source}: tensor {name} is {tensor.dtype.name}, known are {sorted(_DTYPE_NAMES)}"
            )
        if tensor.ndim > MAX_DIMENSIONS:
            raise WireError(
                f"{source}: tensor {name} has {tensor.ndim} axes, the limit is {MAX_DIMENSIONS}"
            )


def _listed(names: list[str], limit: int = 5) -> str:
    shown = ", ".join(name[:80] for name in names[:limit])
    rest = len(names) - limit
    return (shown or "none") + (f" and {rest} more" if rest > 0 else "")
