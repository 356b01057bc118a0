"""A folder of images: every `.gvmi` in it is known by its SHA3-224, `tags.json` names some.

`.registry/index.json` remembers what files hold, so that each is read once; a file that has been
touched since is read again. Whoever changes an image's bytes takes it out of the store: what was
known by its hash is then refused by name.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from requestor.mock_golem.images.description import HASH, LONGEST_TAG, TAG
from requestor.mock_golem.images.gvmi_file import ImageError, image_hash, read_gvmi

MAX_IMAGES = 1000
MAX_TAGS_BYTES = 1 << 20
MAX_INDEX_BYTES = 8 << 20
_MAX_FORMER = 8

_log = logging.getLogger(__name__)


class StoreError(Exception):
    """The store's own files cannot be used; the text names the fix."""


class NotStored(Exception):
    """The store has no such image, or no longer; the text says why."""


@dataclass(frozen=True)
class StoredImage:
    """One image of the store."""

    path: Path
    sha3: str
    size_bytes: int


@dataclass(frozen=True)
class _Row:
    """What is known of a file; `mark` changes when somebody touches it."""

    mark: tuple[int, ...]
    sha3: str | None
    problem: str | None = None
    former: tuple[str, ...] = ()


class ImageStore:
    """A folder with images, usable by several threads and processes at once.

    Args:
        folder: must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.records = self.folder / ".registry"
        self._index = self.records / "index.json"
        self._tags = self.folder / "tags.json"
        self._lock = threading.RLock()
        self._rows = _read_index(self._index)

    def find(self, sha3: str) -> StoredImage:
        """Return the image with a hash, after a look at what is in the folder now.

        Raises:
            NotStored: there is none.
            StoreError: the folder cannot be used.
        """
        with self._lock:
            self._look()
            for name, row in self._rows.items():
                if row.sha3 == sha3 and row.problem is None:
                    return StoredImage(self.folder / name, sha3, row.mark[0])
            for name, row in self._rows.items():
                if sha3 in row.former or sha3 == Path(name).stem:
                    now = row.problem or f"it has the hash {row.sha3}"
                    raise NotStored(f"{name} is no longer image {sha3[:56]}: {now}")
        raise NotStored(f"no image with hash {sha3[:64]} in {self.folder}")

    def refused(self) -> Mapping[str, str]:
        """Return the files that are not served, each with the reason."""
        with self._lock:
            self._look()
            return {name: row.problem for name, row in self._rows.items() if row.problem}

    def images(self) -> tuple[StoredImage, ...]:
        """Return all images that are served."""
        with self._lock:
            self._look()
            return tuple(
                StoredImage(self.folder / name, row.sha3, row.mark[0])
                for name, row in self._rows.items()
                if row.sha3 is not None and row.problem is None
            )

    def tags(self) -> dict[str, str]:
        """Return what each tag stands for.

        Raises:
            StoreError: `tags.json` is none.
        """
        try:
            raw = self._tags.read_bytes()
            found: Any = json.loads(raw) if len(raw) <= MAX_TAGS_BYTES else None
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not all(
            is_tag(tag) and isinstance(sha3, str) and HASH.fullmatch(sha3)
            for tag, sha3 in found.items()
        ):
            raise StoreError(f"{self._tags}: no map of tags to hashes; correct or remove it")
        return found

    def tag(self, name: str, sha3: str) -> None:
        """Have a tag stand for an image, from now on.

        Raises:
            StoreError: `tags.json` is none, or has grown too large.
            OSError: it cannot be written.
        """
        with self.exclusively(), self._lock:
            tags = {**self.tags(), name: sha3}
            text = json.dumps(dict(sorted(tags.items())), indent=1) + "\n"
            if len(text) > MAX_TAGS_BYTES:
                raise StoreError(f"{self._tags}: too many tags; remove some")
            write_whole(self._tags, text.encode())

    def adopt(self, file: Path, sha3: str) -> StoredImage:
        """Take in a finished file, whose hash the caller has computed, by a rename.

        Raises:
            ImageError: it is no GVMI image.
            OSError: it cannot be moved.
        """
        read_gvmi(file)
        with self._lock:
            target = self.folder / f"{sha3}.gvmi"
            os.replace(file, target)
            row = _Row(_mark(target), sha3)
            self._rows[target.name] = row
            self._write_index()
        return StoredImage(target, sha3, row.mark[0])

    @contextlib.contextmanager
    def exclusively(self) -> Iterator[None]:
        """Keep other processes from changing the store's records meanwhile."""
        self.records.mkdir(exist_ok=True)
        with (self.records / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _look(self) -> None:
        try:
            names = sorted(
                path.name
                for path in self.folder.iterdir()
                if path.suffix == ".gvmi" and not path.name.startswith(".")
            )
        except OSError as error:
            raise StoreError(f"{self.folder}: cannot be read: {error.strerror}") from error
        if len(names) > MAX_IMAGES:
            raise StoreError(f"{self.folder}: more than {MAX_IMAGES} images; remove some")
        before = dict(self._rows)
        for name in names:
            path = self.folder / name
            try:
                mark = _mark(path)
            except OSError as error:
                self._rows[name] = _Row((), None, f"cannot be read: {error.strerror}")
                continue
            known = self._rows.get(name)
            if known is None or known.mark != mark:
                self._rows[name] = _examined(path, mark, known)
        for name in set(self._rows) - set(names):
            del self._rows[name]
        if self._rows != before:
            self._write_index()

    def _write_index(self) -> None:
        rows = {
            name: {"mark": row.mark, "sha3": row.sha3, "problem": row.problem, "former": row.former}
            for name, row in self._rows.items()
            if row.mark
        }
        try:
            self.records.mkdir(exist_ok=True)
            write_whole(self._index, json.dumps(rows, indent=1).encode())
        except OSError as error:  # a folder that may only be read: files are read again next time
            _log.info("%s is not written: %s", self._index, error)


def is_tag(name: object) -> bool:
    """Tell whether something can be a tag, `user/repository:tag`."""
    return isinstance(name, str) and len(name) <= LONGEST_TAG and TAG.fullmatch(name) is not None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file by a rename: whole, or not at all."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def _mark(path: Path) -> tuple[int, ...]:
    """Return size, times and inode; the second time is one that nobody can set."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _examined(path: Path, mark: tuple[int, ...], known: _Row | None) -> _Row:
    former = () if known is None else known.former
    if known is not None and known.sha3 is not None:
        former = tuple(dict.fromkeys((known.sha3, *former)))[:_MAX_FORMER]
    try:
        read_gvmi(path)
        sha3 = image_hash(path)
        if _mark(path) != mark:
            return _Row((), None, "is being written", former)
    except ImageError as error:
        return _Row(mark, None, str(error).removeprefix(f"{path}: "), former)
    except OSError as error:
        return _Row((), None, f"cannot be read: {error.strerror}", former)
    if HASH.fullmatch(path.stem) and path.stem != sha3:
        return _Row(mark, sha3, f"its bytes have changed, their hash is {sha3}", former)
    return _Row(mark, sha3, None, tuple(one for one in former if one != sha3))


_TEXT = re.compile(r"[^\n]{1,2000}")


def _read_index(path: Path) -> dict[str, _Row]:
    """Return what was remembered; nothing where it is not there, or not what we wrote."""
    try:
        raw = path.read_bytes()
        found: Any = json.loads(raw) if len(raw) <= MAX_INDEX_BYTES else None
        return {str(name): _row(row) for name, row in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return {}


def _row(found: Any) -> _Row:
    mark, sha3, problem = tuple(found["mark"]), found["sha3"], found["problem"]
    former = tuple(found["former"])
    hashes = [*former, *([] if sha3 is None else [sha3])]
    if (
        len(mark) != 4
        or not all(type(number) is int for number in mark)
        or not all(isinstance(one, str) and HASH.fullmatch(one) for one in hashes)
        or not (problem is None or (isinstance(problem, str) and _TEXT.fullmatch(problem)))
        or (sha3 is None and problem is None)
    ):
        raise ValueError("not a row of the index")
    return _Row(mark, sha3, problem, former[:_MAX_FORMER])
