"""The net API: virtual networks, and TCP connections to programs in them."""

import ipaddress
import os
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from requestor.mock_golem.answers import (
    EmptyRefusal,
    Refusal,
    TextRefusal,
    json_answer,
    missing_field,
    read_object,
)
from requestor.mock_golem.exe_unit import ExeUnitGone
from requestor.mock_golem.identifiers import new_activity_id
from requestor.mock_golem.provider import Provider
from requestor.mock_golem.tunnels import Tunnels
from requestor.mock_golem.virtual_network import Network, VirtualNetworks

PREFIXES = ("/net-api/v1", "/net-api/v2/vpn")


class NetApi:
    """Routes of the net API.

    Args:
        virtual: the networks.
        providers: by node id.
    """

    def __init__(self, virtual: VirtualNetworks, providers: Mapping[str, Provider]) -> None:
        self._networks = virtual.networks
        self._providers = providers
        self._tunnels = Tunnels()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to serve."""
        routes: list[web.RouteDef] = []
        for prefix in PREFIXES:
            network = f"{prefix}/net/{{network_id}}"
            routes += [
                web.post(f"{prefix}/net", self._create),
                web.get(f"{prefix}/net", self._list),
                web.get(network, self._show),
                web.delete(network, self._remove),
                web.post(f"{network}/addresses", self._add_address),
                web.get(f"{network}/addresses", self._list_addresses),
                web.post(f"{network}/nodes", self._add_node),
                web.get(f"{network}/nodes", self._list_nodes),
                web.delete(f"{network}/nodes/{{node_id}}", self._remove_node),
                web.get(f"{network}/tcp/{{ip}}/{{port:\\d{{1,5}}}}", self._connect),
            ]
        return routes

    async def forget_all(self) -> None:
        """Forget every network and end every connection."""
        self._networks.clear()
        await self._tunnels.close()

    def _network(self, request: web.Request) -> Network:
        network = self._networks.get(request.match_info["network_id"])
        if network is None:
            raise Refusal(404, "Network not found")
        return network

    async def _create(self, request: web.Request) -> web.Response:
        body = await read_object(request)
        ip, mask = await _text(request, body, "ip"), body.get("mask")
        try:
            address = ip if "/" in ip or mask is None else f"{ip}/{mask}"
            range_ = ipaddress.IPv4Network(address, strict=False)
        except ValueError as error:
            raise Refusal(400, "Invalid IP address: invalid IP address syntax") from error
        first_host = str(next(iter(range_.hosts())))  # of a single address they are a list
        network = Network(new_activity_id(), range_, str(body.get("gateway") or first_host))
        self._networks[network.network_id] = network
        return json_answer(network.as_json())

    async def _list(self, request: web.Request) -> web.Response:
        return json_answer([network.as_json() for network in self._networks.values()])

    async def _show(self, request: web.Request) -> web.Response:
        return json_answer(self._network(request).as_json())

    async def _remove(self, request: web.Request) -> web.Response:
        network_id = self._network(request).network_id
        del self._networks[network_id]
        await self._tunnels.close(network_id)
        return json_answer(None)

    async def _add_address(self, request: web.Request) -> web.Response:
        network = self._network(request)
        ip = _inside(network, await _text(request, await read_object(request), "ip"))
        if ip not in network.addresses:
            network.addresses.append(ip)
        return json_answer(None)

    async def _list_addresses(self, request: web.Request) -> web.Response:
        network = self._network(request)
        length = network.range.prefixlen
        return json_answer([{"ip": f"{ip}/{length}"} for ip in network.addresses])

    async def _add_node(self, request: web.Request) -> web.Response:
        network = self._network(request)
        body = await read_object(request)
        node_id = await _text(request, body, "id")
        # re-sent for all nodes whenever one joins; the first owner of an address keeps it
        network.nodes.setdefault(_inside(network, await _text(request, body, "ip")), node_id)
        return json_answer(None)

    async def _list_nodes(self, request: web.Request) -> web.Response:
        network = self._network(request)
        return json_answer([{"id": node, "ip": ip} for ip, node in network.nodes.items()])

    async def _remove_node(self, request: web.Request) -> web.Response:
        network = self._network(request)
        node_id = request.match_info["node_id"]
        network.nodes = {ip: node for ip, node in network.nodes.items() if node != node_id}
        return json_answer(None)

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        network = self._network(request)
        ip, port = request.match_info["ip"], int(request.match_info["port"])
        if not 0 < port <= 65535:
            raise Refusal(404, None)
        self._tunnels.check_room()
        provider = self._providers.get(network.nodes.get(_inside(network, ip), ""))
        if provider is None:
            raise EmptyRefusal(504)  # as yagna, to which nobody answers
        try:
            connection = await provider.connect(network.network_id, ip, port)
        except (TimeoutError, ExeUnitGone):
            raise EmptyRefusal(504) from None
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise Refusal(400, f"Connection error: {reason}") from error
        return await self._tunnels.serve(request, network.network_id, connection)


async def _text(request: web.Request, body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise TextRefusal(400, missing_field(name, await request.text()))
    return value


def _inside(network: Network, ip: str) -> str:
    try:
        address = ipaddress.IPv4Address(ip)
    except ValueError as error:
        raise Refusal(400, "Invalid IP address: invalid IP address syntax") from error
    if address not in network.range:
        raise Refusal(400, f"Network not found for IP address: {ip}")
    return str(address)
