"""The virtual machine: QEMU's command line, and whether this machine can run it with KVM."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gvmi.booting.guest_init import PORTS
from gvmi.errors import MachineUnfit

QEMU = "qemu-system-x86_64"
KVM_DEVICE = Path("/dev/kvm")
Acceleration = Literal["kvm", "tcg"]

_KVM_GET_API_VERSION, _KVM_CREATE_VM = 0xAE00, 0xAE01  # linux/kvm.h
_KVM_API_VERSION = 12
_KERNEL_ARGUMENTS = "console=ttyS0 quiet panic=-1 random.trust_cpu=on"


@dataclass(frozen=True)
class Machine:
    """One virtual machine. Files are named by the descriptors under which QEMU inherits them.

    `image` is open for reading; `console` and those of `ports` (by their names) for writing.
    """

    kernel: Path
    initramfs: Path
    image: int
    console: int
    ports: Mapping[str, int]
    memory_mebibytes: int
    processors: int


def find_qemu() -> str:
    """Return the path of QEMU's program.

    Raises:
        MachineUnfit: it is not installed.
    """
    found = shutil.which(QEMU)
    if found is None:
        raise MachineUnfit(
            f"{QEMU} is not installed",
            fix="sudo apt install qemu-system-x86 (no root is needed to run)",
        )
    return found


def why_no_kvm(device: Path = KVM_DEVICE) -> str | None:
    """Return why KVM cannot be used here, or None if the kernel lets us make a machine with it."""
    try:
        handle = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return f"there is no {device}"
    except OSError as error:
        return f"{device}: {error.strerror} (sudo usermod -aG kvm $USER, then log in again)"
    try:
        if fcntl.ioctl(handle, _KVM_GET_API_VERSION, 0) != _KVM_API_VERSION:
            return f"{device} speaks another version of KVM"
        os.close(fcntl.ioctl(handle, _KVM_CREATE_VM, 0))
    except OSError as error:
        return f"{device} makes no machine: {error.strerror}"
    finally:
        os.close(handle)
    return None


def qemu_command(qemu: str, machine: Machine, acceleration: Acceleration) -> list[str]:
    """Return the command that runs a machine: no network, no display, nothing that is not named."""
    files = {"image": machine.image, "console": machine.console, **machine.ports}
    sets = {name: number for number, name in enumerate(files, start=1)}
    command = [
        qemu,
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *("-machine", "pc"),
        *("-accel", "kvm" if acceleration == "kvm" else "tcg,thread=multi"),
        *("-cpu", "host" if acceleration == "kvm" else "max"),
        *("-smp", str(machine.processors), "-m", f"{machine.memory_mebibytes}M"),
        *("-kernel", str(machine.kernel), "-initrd", str(machine.initramfs)),
        *("-append", _KERNEL_ARGUMENTS),
    ]
    for name, descriptor in files.items():
        command += ["-add-fd", f"fd={descriptor},set={sets[name]}"]
    command += [
        *(
            "-blockdev",
            f"driver=file,node-name=file,read-only=on,filename=/dev/fdset/{sets['image']}",
        ),
        *("-blockdev", "driver=raw,node-name=image,read-only=on,file=file"),
        *("-device", "virtio-blk-pci,drive=image"),
        *(
            "-chardev",
            f"file,id=console,append=on,path=/dev/fdset/{sets['console']}",
            "-serial",
            "chardev:console",
        ),
        *("-device", "virtio-serial-pci"),
    ]
    for name in machine.ports:
        command += ["-chardev", f"file,id={name},append=on,path=/dev/fdset/{sets[name]}"]
        command += ["-device", f"virtserialport,chardev={name},name={name}"]
    return command


def inherited(machine: Machine) -> Sequence[int]:
    """Return the descriptors that QEMU must inherit."""
    return (machine.image, machine.console, *(machine.ports[name] for name in PORTS))
