"""Keeps an image mounted, for as long as the process that started it lives.

Usage: `keeper.py CONFIG`, CONFIG being a JSON object: `image` (the file), `folder` (a folder that
is there, on which the image is mounted) and `way`: `kernel` (by a loop device, as root; with
`used_bytes` of the file), `squashfuse` (with `program`), or `folder` (nothing is mounted: what was
unpacked into it is used).

The mount lies in a namespace of the keeper's own, into which activities are started; it ends with
it, and so does its loop device. Says `{"ready": pid}` or `{"failed": text}` as one line on stdout;
the end of stdin ends it, and that of `squashfuse`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
from typing import Any

from . import mounting

LOOP_CONTROL = "/dev/loop-control"
_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_LO_READ_ONLY, _LO_AUTOCLEAR = 1, 4
_LOOP_CONFIG = struct.Struct("=II 5Q 4I 64s64s32s2Q 8Q")
_SECTOR_BYTES = 512
_EBUSY, _TRIES = 16, 20
_SAFE = mounting.MS_RDONLY | mounting.MS_NODEV | mounting.MS_NOSUID


def main(arguments: list[str]) -> None:
    """Entry of the keeper's process; `arguments` is the config alone."""
    config = json.loads(arguments[0])
    helper = None
    try:
        _take_namespaces()
        helper = _mount(config)
        answer: dict[str, Any] = {"ready": os.getpid()}
    except (OSError, RuntimeError) as error:
        answer = {"failed": " ".join(str(error).split()) or type(error).__name__}
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(answer).encode() + b"\n")
    if "ready" in answer:
        _wait_for_an_end(helper)
    if helper is not None:
        helper.kill()
        helper.wait()


def _wait_for_an_end(helper: subprocess.Popen[bytes] | None) -> None:
    """Wait until stdin ends, or whoever serves the mount does."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    if helper is not None and helper.stderr is not None:
        poll.register(helper.stderr, select.POLLIN)
    while all(os.read(descriptor, 4096) for descriptor, _ in poll.poll()):
        pass


def _take_namespaces() -> None:
    """Take mounts of its own, and as an ordinary user the rights of root over them."""
    uid, gid = os.geteuid(), os.getegid()
    mounting.unshare(mounting.CLONE_NEWNS | (mounting.CLONE_NEWUSER if uid else 0))
    if uid:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {uid} 1"),
            ("gid_map", f"0 {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    # What the machine unmounts goes here too; what is mounted here stays here.
    mounting.mount("none", "/", None, mounting.MS_REC | mounting.MS_SLAVE)


def _mount(config: dict[str, Any]) -> subprocess.Popen[bytes] | None:
    if config["way"] == "kernel":
        _mount_by_loop_device(config["image"], config["folder"], config["used_bytes"])
    elif config["way"] == "squashfuse":
        return _mount_by_squashfuse(config["program"], config["image"], config["folder"])
    return None


def _mount_by_loop_device(image: str, folder: str, used_bytes: int) -> None:
    if os.stat(image).st_size // _SECTOR_BYTES * _SECTOR_BYTES < used_bytes:
        raise OSError(22, "the squashfs is not padded to whole sectors")
    device = _loop_device(image)
    try:
        mounting.mount(os.readlink(f"/proc/self/fd/{device}"), folder, "squashfs", _SAFE)
    finally:
        os.close(device)  # a device without mount is free again


def _loop_device(image: str) -> int:
    """Return a descriptor of a loop device that shows the file, until the last one is closed."""
    with open(LOOP_CONTROL, "rb") as control, open(image, "rb") as file:
        for _ in range(_TRIES):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            device = os.open(f"/dev/loop{number}", os.O_RDONLY | os.O_CLOEXEC)
            flags = _LO_READ_ONLY | _LO_AUTOCLEAR
            numbers = (file.fileno(), 0, *[0] * 8, flags)
            settings = _LOOP_CONFIG.pack(*numbers, b"", b"", b"", *[0] * 10)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, settings)
            except OSError as error:
                os.close(device)
                if error.errno != _EBUSY:  # another was quicker
                    raise
                continue
            return device
    raise OSError(_EBUSY, "no loop device is free")


def _mount_by_squashfuse(program: str, image: str, folder: str) -> subprocess.Popen[bytes]:
    before = os.stat(folder).st_dev
    helper = subprocess.Popen(
        [program, "-f", "-o", "ro,nodev,nosuid,allow_other", image, folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        preexec_fn=lambda: mounting.die_with_parent(signal.SIGKILL),  # noqa: PLW1509 one thread
    )
    while os.stat(folder).st_dev == before:
        with contextlib.suppress(subprocess.TimeoutExpired):
            helper.wait(0.005)
            assert helper.stderr is not None
            said = helper.stderr.read(2000).decode(errors="replace").strip()
            raise RuntimeError(said or f"squashfuse ended with code {helper.returncode}")
    return helper


if __name__ == "__main__":
    main(sys.argv[1:])
