"""Virtual networks between the activities of simulated providers at a real daemon."""

import ipaddress
from collections.abc import Callable

from requestor.mock_golem.exe_unit import Deliver, Membership
from requestor.mock_golem.virtual_network import Network, VirtualNetworks


class SharedFabric(VirtualNetworks):
    """Networks that consist of whoever was deployed into them.

    The daemon keeps its list of nodes to itself. Its own way into a network, the requestor's, does
    not lead here: on its bus a network has one address, whatever the node, and that is its own.
    """

    def attach(self, member: Membership, deliver: Deliver) -> Callable[[bytes], None]:
        """Take part with an address; returns what sends a packet from it."""
        network = self.networks.get(member.network_id)
        if network is None:
            span = ipaddress.IPv4Network((member.address, member.netmask), strict=False)
            network = Network(member.network_id, span, gateway="")
            self.networks[member.network_id] = network
        network.nodes[member.address] = ""
        return super().attach(member, deliver)

    def detach(self, member: Membership, deliver: Deliver) -> None:
        """Take part no more; a network without members is forgotten."""
        super().detach(member, deliver)
        network = self.networks.get(member.network_id)
        if network is None or self.has_member(member):
            return
        network.nodes.pop(member.address, None)
        if not network.nodes:
            del self.networks[member.network_id]
