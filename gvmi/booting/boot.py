"""One boot of an image: a machine is started, watched until it switches itself off, and gone.

A boot with KVM that never gets as far as our script is done again with emulation, if the choice was
ours: some machines have a /dev/kvm that takes no guest of this kind.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Literal

from gvmi.booting.cpio_archive import Entry, file_entry, write_cpio
from gvmi.booting.guest_init import (
    ERROR_PORT,
    MODULE_FOLDER,
    OUTPUT_PORT,
    PORTS,
    GuestTask,
    init_script,
)
from gvmi.booting.kernel import Kernel
from gvmi.booting.machine import (
    Acceleration,
    Machine,
    find_qemu,
    inherited,
    qemu_command,
    why_no_kvm,
)
from gvmi.errors import BadImage, ImageToolError, MachineUnfit
from requestor.mock_golem.testnet.keeper import die_with

UP_SECONDS = 30.0
"""How long a machine with KVM may take until our script runs; seconds are usual."""
_LAST_BYTES = 8 << 10
_BLOCK_BYTES = 1 << 16
_CONSOLE = "console"


class OutOfTime(ImageToolError):
    """The command did not end in its time (exit code 124, as timeout(1) has it)."""

    exit_code = 124


@dataclass(frozen=True)
class BootPlan:
    """One boot: of which image, with what, and within which limits."""

    image: Path
    task: GuestTask
    kernel: Kernel
    acceleration: Literal["auto", "kvm", "tcg"] = "auto"
    memory_mebibytes: int = 2048
    timeout_seconds: float = 600.0


@dataclass(frozen=True)
class Listeners:
    """Who gets what comes out of the machine: both streams of the command, and our remarks."""

    output: Callable[[bytes], object]
    errors: Callable[[bytes], object]
    remark: Callable[[str], object]


@dataclass(frozen=True)
class Booted:
    """How a boot went; seconds are of this machine's clock, from the start of QEMU."""

    exit_code: int
    acceleration: Acceleration
    up_seconds: float
    total_seconds: float


@dataclass
class _Watch:
    """What is known of a running machine."""

    listeners: Listeners
    started: float = field(default_factory=time.monotonic)
    up_seconds: float | None = None
    exit_code: int | None = None
    failure: str | None = None
    console: bytes = b""
    ended: bool = False
    _status: bytes = b""

    def take(self, name: str, data: bytes) -> None:
        if name == OUTPUT_PORT:
            self.listeners.output(data)
        elif name == ERROR_PORT:
            self.listeners.errors(data)
        elif name == _CONSOLE:
            self.console = (self.console + data)[-_LAST_BYTES:]
        else:
            *lines, self._status = (self._status + data).split(b"\n")
            self._status = self._status[-_LAST_BYTES:]
            for line in lines:
                self._heed(line.decode(errors="replace"))

    def _heed(self, line: str) -> None:
        # root in the machine can write to this port, too: only the first word of each kind counts
        word, _, rest = line.partition(" ")
        if word == "up" and self.up_seconds is None:
            self.up_seconds = time.monotonic() - self.started
        elif word == "failed" and self.failure is None:
            self.failure = rest[:500]
        elif word == "exit" and self.exit_code is None and rest.isdecimal() and len(rest) < 4:
            self.exit_code = min(int(rest), 255)


def boot_image(plan: BootPlan, listeners: Listeners) -> Booted:
    """Run the plan's command in a machine with the plan's image, and wait for its end.

    Raises:
        MachineUnfit: there is no QEMU here, or it cannot run as asked.
        BadImage: the machine came up and could not use the image.
        OutOfTime: the time was over; the machine is gone.
    """
    qemu = find_qemu()
    reason = why_no_kvm() if plan.acceleration != "tcg" else None
    if reason and plan.acceleration == "kvm":
        raise MachineUnfit(f"no KVM here: {reason}", fix="take --accel tcg (emulation, slower)")
    if plan.acceleration == "tcg" or reason:
        if reason:
            listeners.remark(f"no KVM here: {reason}; emulating, which takes many times as long")
        return _run(qemu, plan, listeners, "tcg")
    try:
        return _run(qemu, plan, listeners, "kvm")
    except MachineUnfit as error:
        if plan.acceleration == "kvm":
            raise
        listeners.remark(f"{error}; emulating, which takes many times as long")
    return _run(qemu, plan, listeners, "tcg")


def initramfs(plan: BootPlan) -> bytes:
    """Return the machine's first root file system: busybox, modules, our script."""
    modules = plan.kernel.modules
    entries: dict[str, Entry] = {
        "init": file_entry(init_script(plan.task, modules).encode(), 0o755),
        "bin/busybox": file_entry(plan.kernel.busybox.read_bytes(), 0o755),
    }
    for name, module in modules.items():
        entries[f"{MODULE_FOLDER}/{name}.ko"] = file_entry(module.read_bytes())
    return write_cpio(entries)


def _run(qemu: str, plan: BootPlan, listeners: Listeners, acceleration: Acceleration) -> Booted:
    watch = _Watch(listeners)
    patience = UP_SECONDS if acceleration == "kvm" else plan.timeout_seconds
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="derl-boot-")))
        first_root = folder / "initramfs"
        first_root.write_bytes(initramfs(plan))
        image = stack.enter_context(plan.image.open("rb"))
        readers, writers = {}, {}
        for name in (*PORTS, _CONSOLE):
            read, write = os.pipe()
            readers[name] = stack.enter_context(os.fdopen(read, "rb", buffering=0))
            writers[name] = stack.enter_context(os.fdopen(write, "wb", buffering=0))
        machine = Machine(
            plan.kernel.program,
            first_root,
            image.fileno(),
            writers[_CONSOLE].fileno(),
            {name: writers[name].fileno() for name in PORTS},
            plan.memory_mebibytes,
            min(2, os.cpu_count() or 1),
        )
        process = stack.enter_context(_running(qemu_command(qemu, machine, acceleration), machine))
        for writer in writers.values():
            writer.close()
        _attend(readers, watch, min(patience, plan.timeout_seconds), plan.timeout_seconds)
        code = process.wait() if watch.ended else process.poll()
    return _outcome(watch, acceleration, code, plan)


@contextlib.contextmanager
def _running(command: list[str], machine: Machine) -> Iterator[subprocess.Popen[bytes]]:
    """Run QEMU; whatever happens, even to this process, it does not outlive it."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=machine.console,  # its own messages stand with the kernel's
        pass_fds=inherited(machine),
        preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 (boots are run by one thread)
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _attend(
    readers: Mapping[str, FileIO], watch: _Watch, up_seconds: float, all_seconds: float
) -> None:
    """Hand over what comes out of a machine until it is gone, or one of the times is over."""
    with selectors.DefaultSelector() as selector:
        for name, reader in readers.items():
            selector.register(reader, selectors.EVENT_READ, name)
        while selector.get_map():
            limit = up_seconds if watch.up_seconds is None else all_seconds
            left = watch.started + limit - time.monotonic()
            if left <= 0:
                return
            for key, _ in selector.select(left):
                data = os.read(key.fd, _BLOCK_BYTES)
                if data:
                    watch.take(key.data, data)
                else:
                    selector.unregister(key.fileobj)
    watch.ended = True


def _outcome(watch: _Watch, acceleration: Acceleration, code: int | None, plan: BootPlan) -> Booted:
    """Say how a boot went, or raise what it failed of."""
    total = time.monotonic() - watch.started
    if watch.exit_code is not None:
        return Booted(watch.exit_code, acceleration, watch.up_seconds or total, total)
    console = watch.console.decode(errors="replace").strip() or "(nothing)"
    console = "".join(c if c.isprintable() or c == "\n" else "?" for c in console)
    if watch.failure is not None:
        raise BadImage(
            f"{plan.image}: the machine could not use the image: {watch.failure}\n{console}",
            fix="look at it with: derl-image verify FILE",
        )
    if total >= plan.timeout_seconds:
        raise OutOfTime(
            f"not done after {plan.timeout_seconds:g} s; the machine was switched off",
            fix="give it more with --timeout, or do less in it",
        )
    if watch.up_seconds is None:
        how = f"QEMU ended with code {code}" if code is not None else f"not up after {total:.0f} s"
        raise MachineUnfit(
            f"the machine with {acceleration} did not start: {how}; its console:\n{console}",
            fix="try --accel tcg" if acceleration == "kvm" else "try more --memory",
        )
    raise BadImage(
        f"{plan.image}: the machine ended before the command did; its console:\n{console}",
        fix="give it more --memory, if that is what was short",
    )
