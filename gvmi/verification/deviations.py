"""What is looked at in an image, worst first, and how a deviation is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

CHECKS: dict[str, str] = {
    "devices": "no device nodes, pipes or sockets",
    "links": "links are relative and stay inside the image",
    "privileges": "nothing is setuid or setgid",
    "names": "names are printable and plain",
    "size": "number of files, size and ratio are within bounds",
    "hard links": "every inode has a name, few have several",
    "secrets": "no keys, tokens or credentials",
    "lock": "hash and size are the locked ones",
    "needed": "a shell, Python and the worker are there",
    "volumes": "nothing lies where a volume hides it",
    "settings": "working folder, HOME and caches lie in the volume",
    "compiled": "every Python module is byte-compiled",
    "bill": "the bill of materials is what is installed",
}
"""Checks without running anything of the image, worst first: name and what is so when it passes."""

RUN_CHECKS: dict[str, str] = {
    "start": "a worker starts inside the image",
    "selftest": "the kernels' self-test passes inside",
    "rounds": "rounds inside give what they must",
}
"""Checks by running what is in the image."""

SHOWN_PER_CHECK = 10


@dataclass(frozen=True)
class Deviation:
    """Something in an image that is not as it must be."""

    check: str
    text: str


def shown(path: str, most: int = 160) -> str:
    """Return a path, or another text of a stranger's, as it can be printed anywhere."""
    text = path if path.isprintable() else ascii(path)[1:-1]
    return text if len(text) <= most else text[: most - 3] + "..."


def worst_first(deviations: Iterable[Deviation]) -> list[Deviation]:
    """Return deviations in the order of the checks; those of one check stay in theirs."""
    ranks = {name: rank for rank, name in enumerate((*CHECKS, *RUN_CHECKS))}
    return sorted(deviations, key=lambda deviation: ranks[deviation.check])
