"""What in an image is how big: Python distributions by name, everything else by folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from gvmi.verification.deviations import shown
from gvmi.verification.materials import normalised
from gvmi.verification.tree import Tree

_PACKAGES = re.compile(r"(.*/(?:site|dist)-packages)/([^/]+)(?:/.*)?")
_DIST_INFO = re.compile(r"(.+)-[^-]+\.(?:dist|egg)-info")
_DEPTH = 3  # folders that name a part of the system: /usr/lib/python3.11, /usr/share/zoneinfo


def largest(tree: Tree, count: int = 10) -> Sequence[tuple[str, int]]:
    """Return the largest parts of an image with their unpacked bytes, the largest first."""
    sizes: Counter[str] = Counter()
    for entry in tree:
        if entry.is_file:
            sizes[part_of(entry.path)] += entry.size_bytes
    ranked = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    return [(shown(name), size) for name, size in ranked[:count]]


def part_of(path: str) -> str:
    """Return the part of an image that a file counts to."""
    match = _PACKAGES.fullmatch(path)
    if match is not None:
        top = match[2]
        info = _DIST_INFO.fullmatch(top)
        # `numpy.libs` belongs to numpy, `_x.cpython-311-….so` to _x
        stem = info[1] if info is not None else top.split(".")[0] or top
        return normalised(stem)
    parts = path.split("/")[1:-1]
    return "/" + "/".join(parts[:_DEPTH])
