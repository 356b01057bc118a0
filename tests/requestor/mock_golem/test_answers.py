"""Answers: what is known of the client at the other end."""

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from requestor.mock_golem.answers import has_gone


@pytest.mark.asyncio
async def test_a_hang_up_is_known_before_the_event_loop_has_read_of_it() -> None:
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    request: Any = SimpleNamespace(transport=transport)
    try:
        theirs.sendall(b"GET / HTTP/1.1")
        assert not has_gone(request)
        theirs.close()
        assert has_gone(request)
        assert not transport.is_closing(), "nothing was awaited, so nothing was read"
    finally:
        theirs.close()
        transport.close()
    assert has_gone(request)
    assert has_gone(SimpleNamespace(transport=None))  # type: ignore[arg-type]
