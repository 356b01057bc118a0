"""The exe-unit's end of the door: receives sockets and devices that the guest agent made."""

from __future__ import annotations

import asyncio
import os
import socket

_LONGEST_NAME_BYTES = 64


class Door:
    """A pair of Unix sockets; the agent inherits `guest_descriptor`. Make it in an event loop."""

    def __init__(self) -> None:
        self._own, self._guest = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._own.setblocking(False)
        self._expected: dict[str, asyncio.Future[int]] = {}
        asyncio.get_running_loop().add_reader(self._own, self._read)

    @property
    def guest_descriptor(self) -> int:
        """What the agent inherits; until `close_guest_end`."""
        return self._guest.fileno()

    def close_guest_end(self) -> None:
        """The agent has its own by now."""
        self._guest.close()

    def expect(self, name: str) -> asyncio.Future[int]:
        """Return a future of the descriptor of this name; see `received`."""
        future = self._expected[name] = asyncio.get_running_loop().create_future()
        return future

    def fail(self, name: str, error: Exception) -> None:
        """What was expected under this name will not come."""
        future = self._expected.pop(name, None)
        if future is not None and not future.done():
            future.set_exception(error)

    def close(self, error: Exception) -> None:
        """Nothing comes any more; who still waits is told so."""
        for name in list(self._expected):
            self.fail(name, error)
        if self._own.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._own)
        self._own.close()
        self._guest.close()

    def _read(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._own, _LONGEST_NAME_BYTES, 1)
        except BlockingIOError:
            return
        except ConnectionError:
            data, descriptors = b"", []
        if not data:  # the agent is gone; its end is told elsewhere
            asyncio.get_running_loop().remove_reader(self._own)
            return
        future = self._expected.pop(data.decode("ascii", "replace"), None)
        for descriptor in descriptors:
            if future is None or future.done():  # nobody waits for it any more
                os.close(descriptor)
            else:
                os.set_inheritable(descriptor, False)
                future.set_result(descriptor)


async def received(future: asyncio.Future[int]) -> int:
    """Wait for a descriptor; it is the caller's to close, and closed if the caller is cancelled."""
    try:
        return await future
    except asyncio.CancelledError:
        if future.done() and not future.cancelled() and future.exception() is None:
            os.close(future.result())
        raise
