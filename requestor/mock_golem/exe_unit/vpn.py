"""Membership of an activity in virtual networks: packets between its device and the others."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

LONGEST_PACKET_BYTES = 65535
_PACKETS_AT_ONCE = 64  # read in one go, so that one busy guest does not hold up the daemon

Deliver = Callable[[bytes], None]


@dataclass(frozen=True)
class Membership:
    """A network that an activity joins, and its address in it (IPv4, dotted)."""

    network_id: str
    address: str
    netmask: str


class Fabric(Protocol):
    """Carries packets between the members of networks."""

    def attach(self, member: Membership, deliver: Deliver) -> Callable[[bytes], None]:
        """Take part; returns what sends a packet (IPv4, whole). `deliver` gets what arrives."""
        ...

    def detach(self, member: Membership, deliver: Deliver) -> None:
        """Take part no more."""
        ...


class NoFabric:
    """Carries nothing."""

    def attach(self, member: Membership, deliver: Deliver) -> Callable[[bytes], None]:
        """Return what drops every packet."""
        return lambda packet: None

    def detach(self, member: Membership, deliver: Deliver) -> None:
        """Do nothing."""


class VpnDevice:
    """The exe-unit's end of a guest's TUN device; owns its descriptor until `close`."""

    def __init__(self, descriptor: int, member: Membership, fabric: Fabric) -> None:
        os.set_blocking(descriptor, False)
        self.member = member
        self._descriptor = descriptor
        self._fabric = fabric
        self._send = fabric.attach(member, self._deliver)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def is_in(self, network_id: str) -> bool:
        """Whether it is the device of this network."""
        return self.member.network_id == network_id

    def close(self) -> None:
        """Leave the network; idempotent."""
        if self._descriptor >= 0:
            self._fabric.detach(self.member, self._deliver)
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self) -> None:
        for _ in range(_PACKETS_AT_ONCE):
            try:
                packet = os.read(self._descriptor, LONGEST_PACKET_BYTES)
            except BlockingIOError:
                return
            except OSError:  # the device is down: its guest is ending
                asyncio.get_running_loop().remove_reader(self._descriptor)
                return
            self._send(packet)

    def _deliver(self, packet: bytes) -> None:
        if self._descriptor < 0:
            return
        with suppress(OSError):  # a network may lose packets: the queue is full, the guest ends
            os.write(self._descriptor, packet)
