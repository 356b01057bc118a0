"""Values of service-bus calls: flexbuffers, zlib-compressed where they came through the net layer.

What comes in is a stranger's: a few bytes can unfold into a huge value, so nodes, depth, the bytes
of texts (which may be shared by many nodes) and inflated bytes are counted.
"""

import zlib
from typing import Any

from flatbuffers import flexbuffers  # type: ignore[import-untyped]

MAX_VALUE_BYTES = 32 << 20
MAX_NODES = 200_000
MAX_DEPTH = 64


class ValueFormatError(ValueError):
    """Bytes that are not a value, or one too large."""


def dump(value: Any) -> bytes:
    """Return plain data (None, texts, numbers up to 1e38, lists, mappings) as flexbuffers."""
    return bytes(flexbuffers.Dumps(_with_encoded_keys(value)))


def load(data: bytes) -> Any:
    """Read a value, compressed or not.

    Raises:
        ValueFormatError: the bytes are no value, or it is too large.
    """
    plain = _inflate(data)
    if len(plain) < 3:
        raise ValueFormatError(f"{len(plain)} bytes are no flexbuffers value")
    try:
        return _Unfolding().value(flexbuffers.GetRoot(plain), 0)
    except ValueFormatError:
        raise
    # the library checks nothing: bytes that are no flexbuffers end in any of these
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueFormatError(f"not a flexbuffers value: {error!r:.200}") from error


def _with_encoded_keys(value: Any) -> Any:
    """Return the value with its keys as UTF-8: the library itself would write ASCII alone."""
    if isinstance(value, dict):
        return {name.encode(): _with_encoded_keys(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_encoded_keys(item) for item in value]
    return value


def _inflate(data: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        plain = decompressor.decompress(data, MAX_VALUE_BYTES)
    except zlib.error:
        return data
    if not decompressor.eof:
        if decompressor.unconsumed_tail:
            raise ValueFormatError(f"inflates to more than {MAX_VALUE_BYTES} bytes")
        return data
    return plain


class _Unfolding:
    """Turns references into data, counting what it makes."""

    def __init__(self) -> None:
        self._nodes = 0
        self._bytes = 0

    def value(self, ref: Any, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ValueFormatError(f"more than {MAX_NODES} parts")
        if depth > MAX_DEPTH:
            raise ValueFormatError(f"nested more than {MAX_DEPTH} deep")
        if ref.IsMap:
            return self._mapping(ref.AsMap, depth)
        if ref.IsTypedVector:
            return [self.value(item, depth + 1) for item in self._items(ref.AsTypedVector)]
        if ref.IsFixedTypedVector:
            return [self.value(item, depth + 1) for item in self._items(ref.AsFixedTypedVector)]
        if ref.IsVector:
            return [self.value(item, depth + 1) for item in self._items(ref.AsVector)]
        if ref.IsBlob:
            return self._counted(ref.AsBlob)
        if ref.IsString or ref.IsKey:
            return self._counted(ref.AsStringBytes).decode()
        for kind in ("Null", "Bool", "Int", "Float"):
            if getattr(ref, f"Is{kind}"):
                return None if kind == "Null" else getattr(ref, f"As{kind}")
        raise ValueFormatError("a part of an unknown type")

    def _mapping(self, mapping: Any, depth: int) -> dict[str, Any]:
        keys = self._items(mapping.Keys)
        values = self._items(mapping.Values)
        return {
            self._counted(key.AsKeyBytes).decode(): self.value(item, depth + 1)
            for key, item in zip(keys, values, strict=True)
        }

    def _counted(self, text: Any) -> bytes:
        read = bytes(text)
        self._bytes += len(read)
        if self._bytes > MAX_VALUE_BYTES:
            raise ValueFormatError(f"texts of more than {MAX_VALUE_BYTES} bytes")
        return read

    def _items(self, vector: Any) -> list[Any]:
        size = len(vector)
        if not 0 <= size <= MAX_NODES - self._nodes:
            raise ValueFormatError(f"{size} parts")
        return [vector[index] for index in range(size)]
