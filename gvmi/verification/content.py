"""What an image may hold: pure checks over its names and settings.

Nothing of the image is unpacked or run for them. `secret_names.py` has the list of what looks like
a secret, `materials.py` compares the bill of materials.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from gvmi.variants import ENVIRONMENT, PREFIX, PYTHON, WORK_VOLUME
from gvmi.verification.deviations import Deviation, shown
from gvmi.verification.secret_names import secret_reason, telling_variable
from gvmi.verification.squashfs import Entry
from gvmi.verification.tree import LeadsOut, Tree
from requestor.mock_golem.images.gvmi_file import GvmiFile

MAX_NAMES = 150_000
MAX_TOTAL_BYTES = 16 << 30
MAX_FILE_BYTES = 4 << 30
MAX_RATIO = 25.0
RATIO_COUNTS_FROM_BYTES = 64 << 20  # below that nobody's disk is filled
MAX_HARD_LINKS = 1000
MAX_PATH_BYTES = 1024

NEEDED = {
    "/bin/sh": "the shell that starts commands",
    f"{PREFIX}/bin/python3": "Python",
    f"{PREFIX}/bin/derl-worker": "the worker",
    f"{PREFIX}/share/image.json": "what the image says of itself",
    f"{PREFIX}/share/bill-of-materials.cdx.json": "its bill of materials",
}
IN_THE_VOLUME = [name for name, value in ENVIRONMENT.items() if value.startswith(WORK_VOLUME)]
ONE_THREAD = [name for name in ENVIRONMENT if name.endswith("_NUM_THREADS")]
_KINDS = {
    "b": "a block device",
    "c": "a character device",
    "p": "a named pipe",
    "s": "a socket",
}
_CACHE_TAG = PYTHON.replace("python", "cpython-").replace(".", "")


def dangers(tree: Tree, image: GvmiFile) -> Iterator[Deviation]:
    """Tell what would harm whoever unpacks, mounts or runs the image."""
    for entry in tree:
        if entry.kind in _KINDS:
            yield Deviation("devices", f"{shown(entry.path)} is {_KINDS[entry.kind]}")
        if set(entry.mode) & set("sS"):
            yield Deviation("privileges", f"{shown(entry.path)} has the mode {entry.mode}")
        if (problem := _name_problem(entry.path)) is not None:
            yield Deviation("names", f"{shown(entry.path)} {problem}")
        if entry.kind == "l":
            yield from _link_problems(entry, tree)
        if (reason := secret_reason(entry)) is not None:
            yield Deviation("secrets", f"{shown(entry.path)} {reason}")
    yield from _size_problems(tree, image)
    yield from _hard_link_problems(tree, image)


def _name_problem(path: str) -> str | None:
    name = posixpath.basename(path)
    if not path.isprintable():  # nor are the halves that stand for bytes that are not UTF-8
        return "has letters in its name that are not printable UTF-8"
    if name != name.strip():
        return "begins or ends with a blank"
    if "\\" in path:
        return "has a backslash in its name"
    return "has a path of odd length" if len(path.encode()) > MAX_PATH_BYTES else None


def _link_problems(link: Entry, tree: Tree) -> Iterator[Deviation]:
    if link.target.startswith("/"):
        yield Deviation("links", f"{shown(link.path)} is an absolute link to {shown(link.target)}")
        return
    try:
        tree.follow(link)
    except LeadsOut:
        text = f"{shown(link.path)} leads out of the image: {shown(link.target)}"
        yield Deviation("links", text)


def _size_problems(tree: Tree, image: GvmiFile) -> Iterator[Deviation]:
    total = total_bytes(tree)
    compressed = image.squashfs.size_bytes
    if len(tree) > MAX_NAMES:
        yield Deviation("size", f"{len(tree)} names; at most {MAX_NAMES} are taken")
    for entry in tree:
        if entry.is_file and entry.size_bytes > MAX_FILE_BYTES:
            text = f"{shown(entry.path)} unpacks to {entry.size_bytes} bytes"
            yield Deviation("size", f"{text}; at most {MAX_FILE_BYTES} are taken")
    if total > MAX_TOTAL_BYTES:
        text = f"the image unpacks to {total} bytes; at most {MAX_TOTAL_BYTES} are taken"
        yield Deviation("size", text)
    if total > RATIO_COUNTS_FROM_BYTES and total > MAX_RATIO * compressed:
        text = f"{compressed} bytes unpack to {total}, {total / compressed:.0f} times as many"
        yield Deviation("size", f"{text}; at most {MAX_RATIO:g} times are believed")


def _hard_link_problems(tree: Tree, image: GvmiFile) -> Iterator[Deviation]:
    nameless = image.squashfs.inodes - len(tree)
    if nameless > 0:
        yield Deviation("hard links", f"{nameless} inodes of the squashfs have no name")
    elif -nameless > MAX_HARD_LINKS:
        text = f"{-nameless} names are further hard links; at most {MAX_HARD_LINKS} are taken"
        yield Deviation("hard links", text)


def total_bytes(tree: Tree) -> int:
    """Return what all files of an image unpack to."""
    return sum(entry.size_bytes for entry in tree if entry.is_file)


def wants(tree: Tree, image: GvmiFile) -> Iterator[Deviation]:
    """Tell what keeps the image from doing its work in a provider's VM."""
    yield from _needed_problems(tree)
    yield from _volume_problems(tree, image.settings.volumes)
    yield from _settings_problems(image)
    for path in uncompiled(tree):
        yield Deviation("compiled", f"{shown(path)} has no .pyc of {PYTHON}")


def _needed_problems(tree: Tree) -> Iterator[Deviation]:
    for path, what in NEEDED.items():
        try:
            found = tree.find(path)
        except LeadsOut:
            found = None
        is_program = "/bin/" in path
        if found is None or not found.is_file:
            yield Deviation("needed", f"{path} ({what}) is missing")
        elif is_program and "x" not in (found.mode[2], found.mode[5], found.mode[8]):
            yield Deviation("needed", f"{path} ({what}) cannot be executed: {found.mode}")


def _volume_problems(tree: Tree, volumes: tuple[str, ...]) -> Iterator[Deviation]:
    if WORK_VOLUME not in volumes:
        text = f"{WORK_VOLUME} is no volume of the image: no file could be sent or fetched"
        yield Deviation("volumes", text)
    for volume in volumes:
        if f"{PREFIX}/".startswith(f"{volume}/") or volume.startswith(f"{PREFIX}/"):
            yield Deviation("volumes", f"the volume {shown(volume)} would hide the programs")
        parts = volume.split("/")[1:]
        for count in range(1, len(parts) + 1):
            place = "/" + "/".join(parts[:count])
            entry = tree.at(place)
            if entry is not None and not entry.is_folder:
                yield Deviation("volumes", f"{shown(place)}, of a volume, is not a folder")
        for entry in tree.below(volume):
            text = f"{shown(entry.path)} is hidden by the volume {shown(volume)}"
            yield Deviation("volumes", text)


def _settings_problems(image: GvmiFile) -> Iterator[Deviation]:
    settings = image.settings
    if not _is_in(settings.working_dir, settings.volumes):
        text = f"WorkingDir is {shown(settings.working_dir)}, which is in no volume"
        yield Deviation("settings", text)
    for name in IN_THE_VOLUME:
        value = settings.environment.get(name)
        if value is None and name in ("HOME", "TMPDIR"):
            yield Deviation("settings", f"{name} is not set; it has to lie in the volume")
        elif value is not None and not _is_in(value, settings.volumes):
            yield Deviation("settings", f"{name} is {shown(value)}, which is in no volume")
    for name in ONE_THREAD:
        value = settings.environment.get(name)
        if value != "1":
            text = f"{name} is {shown(value) if value else 'not set'}; workers take one thread"
            yield Deviation("settings", text)
    if f"{PREFIX}/bin" not in settings.environment.get("PATH", "").split(":"):
        yield Deviation("settings", f"{PREFIX}/bin is not on PATH")
    for origin, pairs in (("Env", settings.environment), ("the label", settings.labels)):
        for name, value in pairs.items():
            if (reason := telling_variable(name, value)) is not None:
                yield Deviation("secrets", f"{origin} {shown(name)} {reason}")


def _is_in(path: str, volumes: tuple[str, ...]) -> bool:
    plain = posixpath.normpath(path)
    return any(f"{plain}/".startswith(f"{volume}/") for volume in volumes)


def uncompiled(tree: Tree) -> list[str]:
    """Return Python modules of the standard library and of packages without their byte code."""
    found = []
    for entry in tree:
        folder, name = posixpath.split(entry.path)
        if entry.is_file and name.endswith(".py") and _is_imported_from(folder):
            compiled = f"{folder}/__pycache__/{name[:-3]}.{_CACHE_TAG}.pyc"
            if compiled not in tree:
                found.append(entry.path)
    return found


def _is_imported_from(folder: str) -> bool:
    return f"/lib/{PYTHON}" in folder or "/lib/python3/dist-packages" in folder
