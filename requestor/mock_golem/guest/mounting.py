"""The kernel's calls about mounts, namespaces and rights that Python has no names for.

Each raises `OSError` where the kernel refuses.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND = 0x1, 0x2, 0x4, 0x20, 0x1000
MS_REC, MS_SLAVE = 0x4000, 0x80000
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL = 0, 1, 3, 4, 5
SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, NET_ADMIN, SYS_ADMIN = 6, 7, 8, 10, 12, 21
_CAPABILITY_VERSION = 0x20080522
_MNT_DETACH = 2
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_AF_VSOCK = 40
# of linux/audit.h: the architecture; add_key, request_key, keyctl, io_uring_setup; socket
_CALLS = {
    "x86_64": (0xC000003E, (248, 249, 250, 425), 41),
    "aarch64": (0xC00000B7, (217, 218, 219, 425), 198),
}
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_OPEN_TREE_CLONE, _AT_RECURSIVE = 1, 0x8000
_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_SYMLINKS = 4, 0x10
_AT_FDCWD = -100
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """`mount(2)`."""
    data = options.encode() or None
    name = None if kind is None else kind.encode()
    _check(
        _libc.mount(os.fsencode(source), os.fsencode(target), name, ctypes.c_ulong(flags), data),
        target,
    )


def detached_tree(path: str) -> int:
    """Return a descriptor of a copy of a mount and all below it, mounted nowhere yet."""
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    descriptor = _call(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags)
    _check(descriptor, path)
    return descriptor


def attach_tree(descriptor: int, target: str) -> None:
    """Mount what `detached_tree` returned at a path."""
    moved = _call(
        _MOVE_MOUNT,
        descriptor,
        b"",
        _AT_FDCWD,
        os.fsencode(target),
        _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_SYMLINKS,
    )
    _check(moved, target)


def make_root(folder: str) -> None:
    """Make a mount the root, and give up the old one with everything in it."""
    os.chdir(folder)
    _check(_call(_PIVOT_ROOT[os.uname().machine], b".", b"."), folder)
    _check(_libc.umount2(b".", _MNT_DETACH), "/")
    os.chdir("/")


def unshare(flags: int) -> None:
    """`unshare(2)`."""
    _check(_libc.unshare(flags))


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when its parent ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0))


def hide_from_children() -> None:
    """Let no process without rights look into this one: its memory, descriptors, root."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))


def renounce_capabilities(kept: Sequence[int]) -> None:
    """Make sure that no program started from here can get rights beyond these."""
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    number = 0
    while number < 64 and (number in kept or _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) == 0):
        number += 1  # the first number that the kernel does not know ends it
    set_capabilities(kept)


def set_capabilities(kept: Sequence[int]) -> None:
    """Give up all rights but these, which are below 32."""
    mask = sum(1 << number for number in kept)
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    _check(_libc.capset(header, struct.pack("=6I", mask, mask, 0, 0, 0, 0)))


def forbid_what_has_no_namespace() -> None:
    """Refuse keyrings and sockets to the machine's host, which no namespace keeps apart.

    io_uring, too, by which such sockets could be made. Needs `no_new_privs`.
    """
    known = _CALLS.get(os.uname().machine)
    if known is None:
        return
    architecture, refused, make_socket = known
    # classic BPF: operation, steps if true, steps if false, number; None stands for the last row
    rows: list[tuple[int, int | None, int | None, int]] = [
        (0x20, 0, 0, 4),
        (0x15, 0, None, architecture),
        (0x20, 0, 0, 0),
        (0x35, None, 0, 0x40000000),  # the calls of x32
        *((0x15, None, 0, number) for number in refused),
        (0x15, 0, 2, make_socket),
        (0x20, 0, 0, 16),
        (0x15, None, 0, _AF_VSOCK),
        (0x06, 0, 0, 0x7FFF0000),  # allowed
        (0x06, 0, 0, 0x00050001),  # EPERM
    ]
    last = len(rows) - 1
    code = b"".join(
        struct.pack(
            "=HBBI",
            operation,
            *(last - place - 1 if steps is None else steps for steps in (if_true, if_false)),
            number,
        )
        for place, (operation, if_true, if_false, number) in enumerate(rows)
    )
    kept = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(rows), ctypes.addressof(kept))
    _check(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0))


def _call(number: int, *arguments: int | bytes) -> int:
    passed = [
        ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments
    ]
    result: int = _libc.syscall(ctypes.c_long(number), *passed)
    return result


def _check(result: int, path: str | None = None) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
