"""Falsifying result files, reproducibly from a seed."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any, NamedTuple

from requestor.mock_golem.exe_unit.spec import Tamper

MOST_HEADER_BYTES = 100 << 20
_NAN_BYTES = {
    "F16": b"\x00\x7e",
    "BF16": b"\xc0\x7f",
    "F32": b"\x00\x00\xc0\x7f",
    "F64": b"\x00\x00\x00\x00\x00\x00\xf8\x7f",
}
# Unpickling it ends the process with exit code 66: whoever does, is seen.
_PICKLE = b"cos\n_exit\n(I66\ntR."


class _Container(NamedTuple):
    """A file of named tensors: 8 bytes header length (little-endian), JSON header, data."""

    header: dict[str, Any]
    data_start: int

    def tensors(self) -> list[tuple[str, dict[str, Any]]]:
        """Name and entry of every tensor that has data, in file order of their names."""
        return [
            (name, entry)
            for name, entry in sorted(self.header.items())
            if name != "__metadata__" and entry["data_offsets"][0] < entry["data_offsets"][1]
        ]


def tamper_file(path: Path, tamper: Tamper) -> None:
    """Falsify the file in place.

    `nan` and `wrong_shape` need a tensor container; any other file is corrupted instead.
    """
    rng = random.Random(f"{tamper.kind}:{tamper.seed}")
    match tamper.kind:
        case "empty":
            os.truncate(path, 0)
        case "truncate":
            size = path.stat().st_size
            os.truncate(path, rng.randrange(size // 4, max(size // 4 + 1, size * 3 // 4)))
        case "huge":
            os.truncate(path, max(tamper.huge_bytes, path.stat().st_size + 1))
        case "pickle":
            path.write_bytes(_PICKLE + path.read_bytes())
        case "not_json":
            _break_json(path)
        case "nan":
            if not _write_nan(path, rng):
                _corrupt(path, rng)
        case "wrong_shape":
            if not _change_shape(path, rng):
                _corrupt(path, rng)
        case "corrupt":
            _corrupt(path, rng)


def file_sha256(path: Path) -> str:
    """SHA-256 hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _corrupt(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if not data:
        data = bytearray(b"\x00")
    for position in rng.sample(range(len(data)), min(8, len(data))):
        data[position] ^= rng.randrange(1, 256)
    path.write_bytes(data)


def _break_json(path: Path) -> None:
    container = _read_container(path)
    if container is None:
        path.write_bytes(b"}" + path.read_bytes())
        return
    with path.open("r+b") as file:
        file.seek(8)
        file.write(b"x" * (container.data_start - 8))


def _write_nan(path: Path, rng: random.Random) -> bool:
    container = _read_container(path)
    floats = [
        (entry["dtype"], entry["data_offsets"])
        for _, entry in (container.tensors() if container else [])
        if entry["dtype"] in _NAN_BYTES
    ]
    if container is None or not floats:
        return False
    dtype, (start, end) = rng.choice(floats)
    pattern = _NAN_BYTES[dtype]
    index = rng.randrange((end - start) // len(pattern))
    with path.open("r+b") as file:
        file.seek(container.data_start + start + index * len(pattern))
        file.write(pattern)
    return True


def _change_shape(path: Path, rng: random.Random) -> bool:
    """Give one tensor one axis more; the container stays well formed."""
    container = _read_container(path)
    tensors = container.tensors() if container else []
    if container is None or not tensors:
        return False
    _, entry = rng.choice(tensors)
    entry["shape"] = [1, *entry["shape"]]
    header = json.dumps(container.header, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    data = path.read_bytes()[container.data_start :]
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return True


def _read_container(path: Path) -> _Container | None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MOST_HEADER_BYTES, path.stat().st_size - 8):
            return None
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return None
    entries = header.items() if isinstance(header, dict) else ()
    if not entries or not all(_is_entry(entry) for name, entry in entries if name[:2] != "__"):
        return None
    return _Container(header, 8 + length)


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and {"dtype", "shape", "data_offsets"} <= entry.keys()
