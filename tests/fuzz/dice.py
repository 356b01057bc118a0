"""Values drawn from bytes, so that a fuzzer that changes bytes changes values with meaning."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

_NUMBERS: tuple[Any, ...] = (
    0,
    1,
    -1,
    2**31 - 1,
    2**53 + 1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**18,
    10**400,
    0.5,
    -0.0,
    1e308,
    5e-324,
    float("nan"),
    float("inf"),
    float("-inf"),
)
MAX_DEPTH = 4
MAX_LENGTH = 8


class Dice:
    """Draws from the front of some bytes; when they are used up, everything drawn is 0 or empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end."""
        taken = self._data[self._at : self._at + count]
        self._at += len(taken)
        return taken

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1."""
        size = 1 if limit <= 256 else 4
        return int.from_bytes(self.take(size), "little") % limit

    def flag(self) -> bool:
        """True or False; False at the end."""
        return self.below(2) == 1

    def pick(self, choices: Sequence[T]) -> T:
        """One of them; the first at the end."""
        return choices[self.below(len(choices))]

    def real(self) -> float:
        """Any float32 there is, or its half bits at the end."""
        value: float = struct.unpack("<f", self.take(4).ljust(4, b"\0"))[0]
        return value

    def text(self) -> str:
        """Up to 40 characters, surrogates and control characters among them."""
        raw = self.take(self.below(40))
        return (
            raw.decode("utf-8", "surrogatepass" if self.flag() else "replace")
            if _is(raw)
            else (raw.decode("latin-1"))
        )

    def number(self) -> Any:
        """A number as JSON may hold it, huge ones and those that are none included."""
        if self.flag():
            return self.pick(_NUMBERS)
        return self.real() if self.flag() else int.from_bytes(self.take(8), "little", signed=True)

    def json(self, words: Sequence[str] = (), depth: int = MAX_DEPTH) -> Any:
        """A value as a JSON text may hold; `words` are likely texts and names."""
        kind = self.below(8 if depth else 5)
        match kind:
            case 0:
                return None
            case 1:
                return self.flag()
            case 2:
                return self.number()
            case 3:
                return self.pick(words) if words else self.text()
            case 4:
                return self.text()
            case 5:
                return [self.json(words, depth - 1) for _ in range(self.below(MAX_LENGTH))]
            case _:
                return {
                    self.pick(words) if words and self.flag() else self.text(): self.json(
                        words, depth - 1
                    )
                    for _ in range(self.below(MAX_LENGTH))
                }

    def spoilt(self, sound: Any, words: Sequence[str] = ()) -> Any:
        """`sound` plain data with some values replaced, left out or added."""
        if isinstance(sound, dict):
            changed = {
                name: self.spoilt(value, words)
                for name, value in sound.items()
                if self.below(16) != 15
            }
            if self.below(16) == 15:
                changed[self.pick(words) if words else self.text()] = self.json(words, 2)
            return changed
        if isinstance(sound, list):
            return [self.spoilt(value, words) for value in sound if self.below(16) != 15]
        return self.json(words, 2) if self.below(8) == 7 else sound


def _is(raw: bytes) -> bool:
    try:
        raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True
