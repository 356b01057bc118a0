"""What of a command's output is kept: pure buffers, one per output stream."""

from __future__ import annotations

from typing import Any


class Capture:
    """Cuts one output stream to what was asked for, in bounded memory.

    `mode` is an exe-script capture: None (nothing is kept), `{"stream": {"limit"?: bytes}}` or
    `{"atEnd": {"head" | "tail" | "headTail": bytes}}`; no mode ever keeps more than
    `limit_bytes`. `write` returns what is to be passed on now, `finish` what is left at the end.
    """

    def __init__(self, mode: dict[str, Any] | None, limit_bytes: int) -> None:
        self._streams = mode is not None and "stream" in mode
        self._held = bytearray()
        self._tail = bytearray()
        head, self._tail_room = _limits(mode, limit_bytes)
        self._head_room = head

    def write(self, data: bytes) -> bytes:
        """Take output; returns the part of it to pass on at once (streaming captures)."""
        head, rest = data[: self._head_room], data[self._head_room :]
        self._head_room -= len(head)
        if self._tail_room and rest:
            self._tail += rest
            del self._tail[: -self._tail_room]
        if self._streams:
            return head
        self._held += head
        return b""

    def finish(self) -> bytes:
        """What was held back until the end."""
        held = bytes(self._held + self._tail)
        self._held.clear()
        self._tail.clear()
        return held


def _limits(mode: dict[str, Any] | None, limit_bytes: int) -> tuple[int, int]:
    """Bytes to keep of the beginning and of the end."""
    if mode is None:
        return 0, 0
    if "stream" in mode:
        limit = (mode["stream"] or {}).get("limit")
        return limit_bytes if limit is None else min(limit, limit_bytes), 0
    part = mode["atEnd"] or {}
    if "head" in part:
        return min(part["head"], limit_bytes), 0
    if "tail" in part:
        return 0, min(part["tail"], limit_bytes)
    if "headTail" in part:
        both = min(part["headTail"], limit_bytes)
        return (both + 1) // 2, both // 2
    return limit_bytes, 0
