"""An image's own root file system for an activity, entered by its agent as an initramfs does.

bubblewrap starts the agent in the machine's file system, with namespaces of its own, and a
folder, the stage, in which everything lies ready: `image` (the image, read-only), `upper` and
`work` (where the root is written), `tmp`, and `volumes/0`, … The agent lays an overlay over the
image, makes it the root, and gives up all that it saw before, and the rights to see it again.
"""

from __future__ import annotations

import importlib
import os
import stat
import sys
from contextlib import suppress
from typing import Any, NamedTuple

from . import mounting

KEPT_CAPABILITIES = (
    mounting.CHOWN,
    mounting.DAC_OVERRIDE,
    mounting.FOWNER,
    mounting.FSETID,
    mounting.KILL,
    mounting.SETGID,
    mounting.SETUID,
    mounting.NET_BIND_SERVICE,
)
"""What root may do inside: own and read all files of its own, be another, listen at low ports."""

_ETC = {
    "hostname": "golem\n",
    "hosts": "127.0.0.1\tlocalhost golem\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    "resolv.conf": "nameserver 1.1.1.1\nnameserver 8.8.8.8\n",
}
_LONGEST_LIST_BYTES = 1 << 20
_MOUNT_POINT = 0o755


class User(NamedTuple):
    """As whom commands run."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def enter(config: dict[str, Any]) -> User | None:
    """Move into the image's root; nothing of the machine's is in reach afterwards.

    `config`: `stage` (a folder), `volumes` (paths), `working_dir`, `user` (the image's setting),
    `in_user_namespace`. Returns the user for commands; None is root. Raises `OSError` and
    `ValueError`.
    """
    _load_all()
    stage: str = config["stage"]
    os.chdir(stage)
    options = "lowerdir=image,upperdir=upper,workdir=work"
    if config["in_user_namespace"]:
        options += ",userxattr"
    safe = mounting.MS_NODEV | mounting.MS_NOSUID
    try:
        mounting.mount("overlay", "root", "overlay", safe, options)
    except OSError as error:
        where = " in a user namespace (run as root instead)" if config["in_user_namespace"] else ""
        raise OSError(error.errno, f"no overlay can be mounted{where}: {error.strerror}") from error
    trees = {
        "/proc": mounting.detached_tree("/proc"),
        "/dev": mounting.detached_tree("/dev"),
        "/tmp": mounting.detached_tree("tmp"),
    }
    for number, path in enumerate(config["volumes"]):
        trees[path] = mounting.detached_tree(f"volumes/{number}")
    mounting.make_root("root")
    user = _user(config["user"])
    if user is not None and config["in_user_namespace"]:
        raise ValueError(
            f"the image's User is {config['user']}, and only root can start commands as another; "
            "run as root"
        )
    _write_names()
    for path, tree in trees.items():
        os.makedirs(path, _MOUNT_POINT, exist_ok=True)
        mounting.attach_tree(tree, path)
        os.close(tree)
    os.makedirs(config["working_dir"], _MOUNT_POINT, exist_ok=True)
    if user is not None:
        for path in config["volumes"]:
            os.chown(path, user.uid, user.gid)
    return user


def close_the_door_behind(more_capabilities: tuple[int, ...] = ()) -> None:
    """Give up the rights that `enter` needed, and let nobody look at what is left of the way."""
    mounting.renounce_capabilities((*KEPT_CAPABILITIES, *more_capabilities))
    mounting.forbid_what_has_no_namespace()
    mounting.hide_from_children()


def _load_all() -> None:
    """Import what will be needed, and see to it that nothing is imported from an image."""
    for name in ("array", "encodings.ascii", "encodings.latin_1", "socket"):
        importlib.import_module(name)
    sys.path.clear()
    sys.path_importer_cache.clear()
    sys.meta_path.clear()


def _write_names() -> None:
    os.makedirs("/etc", _MOUNT_POINT, exist_ok=True)
    for name, text in _ETC.items():
        with suppress(FileNotFoundError):
            os.unlink(f"/etc/{name}")
        with open(f"/etc/{name}", "x", encoding="ascii") as file:
            file.write(text)


def _user(setting: str) -> User | None:
    """Find `NAME`, `UID`, `NAME:GROUP` or `UID:GID` in the image's lists."""
    name, _, group = setting.partition(":")
    users = [line for line in _lines("/etc/passwd") if len(line) >= 4]
    groups = [line for line in _lines("/etc/group") if len(line) >= 3]
    found = next((line for line in users if line[0] == name), None)
    if found is None and _is_number(name):
        found = next((line for line in users if line[2] == name), [name, "x", name, "0"])
    if found is None and name in ("", "root"):
        found = ["root", "x", "0", "0"]
    if found is None or not (_is_number(found[2]) and _is_number(found[3])):
        raise ValueError(
            f"the image's User is {setting}, and its /etc/passwd has none of that name"
        )
    gid = found[3]
    if group and not _is_number(group):
        gid = next((line[2] for line in groups if line[0] == group), "")
        if not _is_number(gid):
            raise ValueError(f"the image's User is {setting}, and its /etc/group has no {group}")
    elif group:
        gid = group
    if (found[2], gid) == ("0", "0"):
        return None
    others = tuple(
        int(line[2])
        for line in groups
        if len(line) > 3 and found[0] in line[3].split(",") and _is_number(line[2])
    )
    return User(int(found[2]), int(gid), () if group else others[:64])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


def _lines(path: str) -> list[list[str]]:
    try:
        descriptor = os.open(
            path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        )  # not wait for a pipe
    except OSError:
        return []
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return []
        text = file.read(_LONGEST_LIST_BYTES).decode("utf-8", "replace")
    return [line.split(":") for line in text.split("\n")]
