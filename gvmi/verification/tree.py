"""The names of an image as a tree, with links followed as the kernel would."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gvmi.verification.squashfs import Entry

MOST_LINKS = 40  # followed in one path, as by the kernel


class LeadsOut(Exception):
    """A path goes above the root of the image on its way."""


class Tree:
    """Every name in an image, by its absolute path."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = {entry.path: entry for entry in entries}

    def __iter__(self) -> Iterator[Entry]:
        """Iterate over all names, as listed."""
        return iter(self._entries.values())

    def __len__(self) -> int:
        """Return the number of names, the root among them."""
        return len(self._entries)

    def __contains__(self, path: str) -> bool:
        """Tell whether there is such a name; no link is followed."""
        return path in self._entries

    def at(self, path: str) -> Entry | None:
        """Return what stands at a path, be it a link."""
        return self._entries.get(path)

    def below(self, folder: str) -> list[Entry]:
        """Return everything below a folder, itself not among it."""
        start = folder.rstrip("/") + "/"
        return [entry for entry in self if entry.path.startswith(start) and entry.path != "/"]

    def find(self, path: str) -> Entry | None:
        """Return what a path leads to, links followed; None if to nothing.

        Raises:
            LeadsOut: on the way it goes above the root.
        """
        return self._walk([], path.strip("/").split("/"))

    def follow(self, link: Entry) -> Entry | None:
        """Return what a link leads to; None if to nothing. Raises as `find`."""
        parts = link.path.strip("/").split("/")
        return self._walk([], [*parts[:-1], *link.target.split("/")])

    def _walk(self, place: list[str], parts: Sequence[str]) -> Entry | None:
        ahead = list(reversed(parts))
        followed = 0
        while ahead:
            part = ahead.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not place:
                    raise LeadsOut
                place.pop()
                continue
            entry = self._entries.get("/" + "/".join([*place, part]))
            if entry is None:
                # nothing is there, but the rest may still go above the root
                _climb(len(place) + 1, ahead)
                return None
            if entry.kind != "l":
                place.append(part)
                continue
            followed += 1
            if followed > MOST_LINKS:
                return None
            if entry.target.startswith("/"):
                place.clear()
            ahead.extend(reversed(entry.target.split("/")))
        return self._entries.get("/" + "/".join(place))


def _climb(depth: int, ahead: Sequence[str]) -> None:
    for part in reversed(ahead):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            raise LeadsOut
