"""Output buffers: what they keep equals what was asked for, whatever the pieces."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from requestor.mock_golem.guest.capture import Capture

pieces_strategy = st.lists(st.binary(max_size=20), max_size=20)
sizes = st.integers(0, 100)


def captured(mode: dict[str, Any] | None, limit_bytes: int, pieces: list[bytes]) -> bytes:
    capture = Capture(mode, limit_bytes)
    return b"".join([*(capture.write(piece) for piece in pieces), capture.finish()])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pieces_strategy, sizes, sizes)
def test_modes(pieces: list[bytes], size: int, limit: int) -> None:
    whole = b"".join(pieces)
    bound = min(size, limit)
    assert captured(None, limit, pieces) == b""
    assert captured({"stream": {}}, limit, pieces) == whole[:limit]
    assert captured({"stream": {"limit": size}}, limit, pieces) == whole[:bound]
    assert captured({"atEnd": {}}, limit, pieces) == whole[:limit]
    assert captured({"atEnd": {"head": size}}, limit, pieces) == whole[:bound]
    tail = whole[len(whole) - min(bound, len(whole)) :]
    assert captured({"atEnd": {"tail": size}}, limit, pieces) == tail
    both = captured({"atEnd": {"headTail": size}}, limit, pieces)
    assert len(both) == min(len(whole), bound)
    assert both.startswith(whole[: (bound + 1) // 2])
    assert whole.endswith(both[(bound + 1) // 2 :])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pieces_strategy, sizes)
def test_streams_pass_on_at_once_and_others_at_the_end(pieces: list[bytes], limit: int) -> None:
    stream, at_end = Capture({"stream": {}}, limit), Capture({"atEnd": {}}, limit)
    assert b"".join(stream.write(piece) for piece in pieces) == b"".join(pieces)[:limit]
    assert stream.finish() == b""
    assert all(at_end.write(piece) == b"" for piece in pieces)
    assert at_end.finish() == b"".join(pieces)[:limit]
    assert at_end.finish() == b""
