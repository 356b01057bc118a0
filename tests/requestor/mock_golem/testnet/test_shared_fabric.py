"""Virtual networks whose members alone say who takes part."""

from ipaddress import IPv4Address

from requestor.mock_golem.exe_unit import Membership
from requestor.mock_golem.testnet.shared_fabric import SharedFabric


def packet(source: str, destination: str) -> bytes:
    """Return an IPv4 packet of 20 bytes of header and a payload."""
    ends = IPv4Address(source).packed + IPv4Address(destination).packed
    return b"\x45" + bytes(11) + ends + b"payload"


def member(address: str, network: str = "n1") -> Membership:
    """Return a place in a network."""
    return Membership(network, address, "255.255.255.0")


def test_packets_go_from_member_to_member_of_the_same_network() -> None:
    fabric = SharedFabric()
    got: list[bytes] = []
    fabric.attach(member("10.0.0.3"), got.append)
    fabric.attach(member("10.0.0.3", "n2"), lambda packet: got.append(b"wrong network"))
    send = fabric.attach(member("10.0.0.2"), lambda packet: got.append(b"wrong member"))
    send(packet("10.0.0.2", "10.0.0.3"))
    send(packet("10.0.0.2", "10.0.0.4"))  # nobody is there
    send(packet("10.0.0.9", "10.0.0.3"))  # not its own address
    assert got == [packet("10.0.0.2", "10.0.0.3")]


def test_who_leaves_gets_nothing_more_and_an_empty_network_is_forgotten() -> None:
    fabric = SharedFabric()
    got: list[bytes] = []
    fabric.attach(member("10.0.0.3"), got.append)
    send = fabric.attach(member("10.0.0.2"), got.append)
    fabric.detach(member("10.0.0.3"), got.append)
    send(packet("10.0.0.2", "10.0.0.3"))
    assert got == []
    fabric.detach(member("10.0.0.2"), got.append)
    assert fabric.networks == {}


def test_a_later_member_with_the_same_address_stays() -> None:
    fabric = SharedFabric()
    first: list[bytes] = []
    second: list[bytes] = []
    fabric.attach(member("10.0.0.3"), first.append)
    fabric.attach(member("10.0.0.3"), second.append)
    fabric.detach(member("10.0.0.3"), first.append)
    send = fabric.attach(member("10.0.0.2"), first.append)
    send(packet("10.0.0.2", "10.0.0.3"))
    assert (first, len(second)) == ([], 1)
