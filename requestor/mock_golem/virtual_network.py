"""Virtual networks: who has which address, and the packets between them."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from requestor.mock_golem.exe_unit import Deliver, Membership

_SOURCE, _DESTINATION = slice(12, 16), slice(16, 20)  # in the header of an IPv4 packet
_HEADER_BYTES = 20


@dataclass
class Network:
    """A virtual network: who has which address."""

    network_id: str
    range: ipaddress.IPv4Network
    gateway: str
    addresses: list[str] = field(default_factory=list)
    nodes: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as the net API shows it."""
        return {
            "id": self.network_id,
            "ip": str(self.range),
            "mask": str(self.range.netmask),
            "gateway": self.gateway,
        }


class VirtualNetworks:
    """All networks of the daemon, and the activities that take part in them (a `Fabric`).

    A packet reaches an address only while the network exists and has a node at that address.
    """

    def __init__(self) -> None:
        self.networks: dict[str, Network] = {}
        self._members: dict[tuple[str, bytes], Deliver] = {}

    def attach(self, member: Membership, deliver: Deliver) -> Callable[[bytes], None]:
        """Take part with an address; returns what sends a packet from it."""
        own = ipaddress.IPv4Address(member.address).packed
        self._members[member.network_id, own] = deliver

        def send(packet: bytes) -> None:
            if len(packet) >= _HEADER_BYTES and packet[0] >> 4 == 4 and packet[_SOURCE] == own:
                self._carry(member.network_id, packet)

        return send

    def detach(self, member: Membership, deliver: Deliver) -> None:
        """Take part no more; a later member with the same address stays."""
        key = (member.network_id, ipaddress.IPv4Address(member.address).packed)
        if self._members.get(key) == deliver:
            del self._members[key]

    def has_member(self, member: Membership) -> bool:
        """Tell whether somebody takes part with this address."""
        own = ipaddress.IPv4Address(member.address).packed
        return (member.network_id, own) in self._members

    def _carry(self, network_id: str, packet: bytes) -> None:
        target = packet[_DESTINATION]
        network = self.networks.get(network_id)
        deliver = self._members.get((network_id, target))
        if network is None or deliver is None:
            return
        if str(ipaddress.IPv4Address(target)) in network.nodes:
            deliver(packet)
