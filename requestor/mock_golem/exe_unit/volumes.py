"""Paths in the container and where they really lie; nothing leads out of a volume."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

_MOST_SYMLINKS = 40
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class PathNotFound(FileNotFoundError):
    """A container path outside every volume, or one that would lead out of its volume."""

    def __init__(self, path: str) -> None:
        super().__init__(f"path not found in container: {path}")


@dataclass(frozen=True)
class Location:
    """A container path, as the volume it lies in and the names below it."""

    container_path: str
    root: Path
    names: tuple[str, ...]

    @property
    def host_path(self) -> Path:
        """Where it lies on the host; only for what is not the guest's to trick."""
        return self.root.joinpath(*self.names)


class Volumes:
    """The volumes of one activity: container path -> folder of its own on the host."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._folders: dict[str, Path] = {}

    def add(self, paths: Iterable[str]) -> None:
        """Create an empty folder for each volume that is not there yet."""
        for path in paths:
            canonical = "/" + "/".join(name for name in path.split("/") if name not in ("", "."))
            if canonical not in self._folders:
                folder = self._directory / str(len(self._folders))
                folder.mkdir(parents=True)
                self._folders[canonical] = folder

    def items(self) -> list[tuple[str, Path]]:
        """Container path and host folder of each volume, outer ones first."""
        return sorted(self._folders.items())

    def locate(self, path: str) -> Location:
        """The volume of a container path, longest prefix first; raises `PathNotFound`."""
        if "\0" in path or not path.startswith("/"):
            raise PathNotFound(path)
        rest = path[1:].split("/")
        if ".." in rest:
            raise PathNotFound(path)
        if "" in rest[:-1]:
            raise FileNotFoundError(f"invalid path format: [{path}]")
        names = [name for name in rest if name not in ("", ".")]
        for length in range(len(names), 0, -1):
            folder = self._folders.get("/" + "/".join(names[:length]))
            if folder is not None:
                return Location(path, folder, tuple(names[length:]))
        raise PathNotFound(path)

    def locate_url(self, url: str) -> Location:
        """As `locate`, of a `container:/path` URL (percent-encoding undone)."""
        return self.locate(unquote(urlsplit(url).path))


def open_source(location: Location) -> int:
    """Open a regular file of a volume for reading; returns a file descriptor.

    Links are followed as long as they stay inside the volume. Raises `OSError`.
    """
    with _parent_folder(location, create=False) as (folder, name):
        descriptor = os.open(
            name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
        )
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(21, "Is a directory")
    return descriptor


@contextmanager
def create_target(location: Location) -> Iterator[int]:
    """A descriptor to write to; on leaving without error it becomes the file of that name.

    Missing folders on the way are created; an existing file or link of that name is replaced.
    """
    with _parent_folder(location, create=True) as (folder, name):
        with suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise IsADirectoryError(21, "Is a directory")
        draft = f".{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(draft, flags, 0o644, dir_fd=folder)
        try:
            yield descriptor
            os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(draft, dir_fd=folder)
            raise
        finally:
            os.close(descriptor)


@contextmanager
def _parent_folder(location: Location, create: bool) -> Iterator[tuple[int, str]]:
    """The opened folder and the last name of a path, walked down from the volume's root."""
    if not location.names:
        raise IsADirectoryError(21, "Is a directory")
    folders = [os.open(location.root, _FOLDER)]
    pending = list(reversed(location.names))
    links_left = _MOST_SYMLINKS
    try:
        while True:
            name = pending.pop()
            if name == "..":
                if len(folders) == 1:
                    raise PathNotFound(location.container_path)
                os.close(folders.pop())
            else:
                link = _link_target(folders[-1], name) if pending or not create else None
                if link is not None:
                    links_left -= 1
                    if link.startswith("/") or links_left < 0:
                        raise PathNotFound(location.container_path)
                    pending.extend(p for p in reversed(link.split("/")) if p not in ("", "."))
                elif pending:
                    folders.append(_enter(folders[-1], name, create))
                else:
                    yield folders[-1], name
                    return
            if not pending:
                raise IsADirectoryError(21, "Is a directory")
    finally:
        for folder in folders:
            os.close(folder)


def _link_target(folder: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError:
        return None  # no link, or nothing at all: opening will tell


def _enter(folder: int, name: str, create: bool) -> int:
    if create:
        with suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=folder)
    return os.open(name, _FOLDER, dir_fd=folder)
