"""The guest's end of virtual networks: sockets and devices made here, handed to the exe-unit.

A socket belongs to the network namespace in which it was made, whoever holds it. So the exe-unit
reaches ports of an isolated guest through sockets that the agent makes and passes on, and carries
the packets of a network through the guest's own TUN device.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Sequence
from typing import Any

from .mounting import NET_BIND_SERVICE, set_capabilities

TUN_DEVICE = "/dev/net/tun"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
_IFF_UP, _IFF_RUNNING = 0x1, 0x40


def hand_over_socket(door: int, name: str) -> None:
    """Make a TCP socket and pass it through `door`, under this name. Raises `OSError`."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        _hand_over(door, name, made.fileno())


def hand_over_devices(
    door: int, networks: list[dict[str, Any]], kept: Sequence[int] = (NET_BIND_SERVICE,)
) -> int:
    """Make a device per network (`address`, `netmask`) and pass them through `door`, in order.

    Returns how many could be made; gives up the rights to make more, and all but `kept`.
    """
    made = 0
    try:
        for number, network in enumerate(networks):
            descriptor = os.open(TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC)
            try:
                _configure(descriptor, f"vpn{number}", network["address"], network["netmask"])
                _hand_over(door, str(number), descriptor)
            finally:
                os.close(descriptor)
            made += 1
    except OSError:
        pass  # no such device here, or no right to it: the network carries no packets
    finally:
        set_capabilities(kept)  # under `no_new_privs` no other returns
    return made


def _configure(descriptor: int, name: str, address: str, netmask: str) -> None:
    import socket

    def request(payload: bytes) -> bytes:
        return struct.pack("16s24s", name.encode(), payload)

    def internet(ip: str) -> bytes:
        return struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_aton(ip))

    flags = struct.pack("=H", _IFF_TUN | _IFF_NO_PI)
    fcntl.ioctl(descriptor, _TUNSETIFF, request(flags))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFADDR, request(internet(address)))
        fcntl.ioctl(control, _SIOCSIFNETMASK, request(internet(netmask)))
        up = struct.pack("=H", _IFF_UP | _IFF_RUNNING)
        fcntl.ioctl(control, _SIOCSIFFLAGS, request(up))


def _hand_over(door: int, name: str, descriptor: int) -> None:
    import socket

    with socket.socket(fileno=os.dup(door)) as channel:
        socket.send_fds(channel, [name.encode()], [descriptor])
