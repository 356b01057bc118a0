"""TCP tunnels of the net API: a websocket on this side, a port in an activity on the other."""

import asyncio
import socket

from aiohttp import WSMsgType, web

from requestor.mock_golem.answers import Refusal

_BLOCK_BYTES = 1 << 16
_LONGEST_FRAME_BYTES = 1 << 16  # as yagna's
_HEARTBEAT_SECONDS = 5.0
MOST_TUNNELS = 256


class Tunnels:
    """The tunnels that are open, by network."""

    def __init__(self) -> None:
        self._open: dict[web.WebSocketResponse, str] = {}

    def check_room(self) -> None:
        """Raise `Refusal` (500) if there may be no more tunnels."""
        if len(self._open) >= MOST_TUNNELS:
            raise Refusal(500, f"more than {MOST_TUNNELS} connections")

    async def serve(
        self, request: web.Request, network_id: str, connection: socket.socket
    ) -> web.WebSocketResponse:
        """Carry bytes both ways until either side ends; closes the connection."""
        client = web.WebSocketResponse(
            heartbeat=_HEARTBEAT_SECONDS, max_msg_size=_LONGEST_FRAME_BYTES + 1
        )
        with connection:
            await client.prepare(request)
            self._open[client] = network_id
            outward = asyncio.create_task(_outward(connection, client))
            try:
                await _inward(client, connection)
            finally:
                del self._open[client]
                outward.cancel()
                await asyncio.gather(outward, return_exceptions=True)
                await client.close()
        return client

    async def close(self, network_id: str | None = None) -> None:
        """End the tunnels of a network, or all."""
        ending = [one for one, its in self._open.items() if network_id in (None, its)]
        await asyncio.gather(*(client.close() for client in ending))


async def _inward(client: web.WebSocketResponse, connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    async for message in client:
        if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
            return
        data = message.data.encode() if message.type is WSMsgType.TEXT else message.data
        try:
            await loop.sock_sendall(connection, data)
        except OSError:
            return  # the other side has closed


async def _outward(connection: socket.socket, client: web.WebSocketResponse) -> None:
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(connection, _BLOCK_BYTES):
            await client.send_bytes(data)
    except OSError:
        pass  # either side has closed
    await client.close()
