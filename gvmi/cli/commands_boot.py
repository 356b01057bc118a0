"""`derl-image boot`: an image in a virtual machine, much as a provider on Golem starts it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal, NoReturn

import rich_click as click

from gvmi.booting.boot import BootPlan, Listeners, boot_image
from gvmi.booting.guest_init import GuestTask
from gvmi.booting.kernel import provide_kernel
from gvmi.errors import BadImage
from requestor.mock_golem.images.gvmi_file import ImageError, read_gvmi

SELF_TEST = ("python3", "-m", "native_kernels", "selftest")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--accel",
    type=click.Choice(["auto", "kvm", "tcg"]),
    default="auto",
    show_default=True,
    help="kvm, emulation (tcg), or kvm where it works.",
)
@click.option(
    "--memory",
    "memory_mebibytes",
    metavar="MIB",
    type=click.IntRange(256),
    default=2048,
    show_default=True,
    help="Memory of the machine; volumes and /tmp are taken from it.",
)
@click.option(
    "--timeout",
    "timeout_seconds",
    metavar="S",
    type=click.FloatRange(1),
    default=900.0,
    show_default=True,
    help="Seconds after which the machine is switched off.",
)
@click.option(
    "--kernel-package",
    metavar="DEB",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Another kernel than the locked one: a .deb of Debian's, as `apt download` brings it.",
)
def boot(
    file: Path,
    command: tuple[str, ...],
    accel: Literal["auto", "kvm", "tcg"],
    memory_mebibytes: int,
    timeout_seconds: float,
    kernel_package: Path | None,
) -> None:
    """Start the image FILE under QEMU with Debian's kernel and run the kernels' self-test inside.

    Anything else with `-- COMMAND...`. The root is as on Golem: the image read-only under an
    overlay of 128 MiB, volumes empty, no network, the image's Env and working directory. The exit
    code is the command's, or 124 if the time was over. Needs QEMU (`apt install qemu-system-x86`)
    and no root.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        settings = read_gvmi(file).settings
    except ImageError as error:
        raise BadImage(str(error)) from error
    if settings.user not in {"root", "0", "0:0", "root:root"}:
        _remark(f"the image asks for the user {settings.user!r}; here its command runs as root")
    task = GuestTask(
        command or SELF_TEST, settings.environment, settings.working_dir, settings.volumes
    )
    kernel = provide_kernel(_remark, kernel_package)
    plan = BootPlan(file, task, kernel, accel, memory_mebibytes, timeout_seconds)
    booted = boot_image(
        plan, Listeners(_writer(sys.stdout.buffer), _writer(sys.stderr.buffer), _remark)
    )
    _remark(
        f"Linux {kernel.release} with {booted.acceleration}: up after {booted.up_seconds:.1f} s, "
        f"off after {booted.total_seconds:.1f} s, exit code {booted.exit_code}"
    )
    sys.exit(booted.exit_code)


def _writer(stream: BinaryIO) -> Callable[[bytes], object]:
    def write(data: bytes) -> None:
        stream.write(data)
        stream.flush()

    return write


def _remark(text: str) -> None:
    click.echo(f"derl-image: {text}", err=True)


def _stop(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)  # on the way out the machine is switched off
