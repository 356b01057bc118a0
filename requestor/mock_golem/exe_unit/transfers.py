"""Moving files between `gftp:` and `container:` addresses."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from requestor.mock_golem.exe_unit.script import Transfer
from requestor.mock_golem.exe_unit.spec import CommandFailed, Tamper
from requestor.mock_golem.exe_unit.tampering import tamper_file
from requestor.mock_golem.exe_unit.volumes import Volumes, create_target, open_source
from requestor.mock_golem.gftp import GftpError, GftpStore

_BLOCK_BYTES = 1 << 24
_SUPPORTED = ("container", "gftp")


def transfer(
    command: Transfer, volumes: Volumes, store: GftpStore, scratch: Path, tamper: Tamper | None
) -> None:
    """Copy a file; raises `CommandFailed` with the text a real exe-unit would report.

    With `tamper`, what arrives is a falsified copy; the source stays as it is.
    """
    try:
        with _source(command.source, volumes, store) as source:
            if tamper is None:
                with _target(command.target, volumes, store) as target:
                    _copy(source, target)
                return
            with tempfile.NamedTemporaryFile(dir=scratch) as falsified:
                _copy(source, falsified.fileno())
                tamper_file(Path(falsified.name), tamper)
                with _target(command.target, volumes, store) as target:
                    _copy(falsified.fileno(), target)
    except GftpError as error:
        raise _failed(f"gftp error: {error}") from error
    except OSError as error:
        raise _failed(f"IO error: {_as_io_error(error)}") from error


@contextmanager
def _source(url: str, volumes: Volumes, store: GftpStore) -> Iterator[int]:
    if _scheme(url) == "container":
        descriptor = open_source(volumes.locate_url(url))
    else:
        descriptor = os.open(store.open_source(url), os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _target(url: str, volumes: Volumes, store: GftpStore) -> Iterator[int]:
    if _scheme(url) == "container":
        with create_target(volumes.locate_url(url)) as descriptor:
            yield descriptor
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(store.destination(url), flags, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _copy(source: int, target: int) -> None:
    """Copy a whole file, holes staying holes."""
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    position = 0
    while position < size:
        try:
            position = os.lseek(source, position, os.SEEK_DATA)
        except OSError:
            return  # nothing but a hole up to the end
        end = os.lseek(source, position, os.SEEK_HOLE)
        while position < end:
            block = os.pread(source, min(_BLOCK_BYTES, end - position), position)
            if not block:
                return
            view = memoryview(block)
            while view:
                written = os.pwrite(target, view, position)
                position += written
                view = view[written:]


def _scheme(url: str) -> str:
    scheme, colon, _ = url.partition(":")
    if not colon:
        raise _failed("URL parse error: relative URL without a base")
    if scheme not in _SUPPORTED:
        raise _failed(
            f"Unsupported scheme: {scheme} (the mock transfers container: and gftp: only)"
        )
    return scheme


def _failed(text: str) -> CommandFailed:
    return CommandFailed(f"Local service error: Transfer error: {text}")


def _as_io_error(error: OSError) -> str:
    if error.errno is None:
        return str(error)
    return f"{os.strerror(error.errno)} (os error {error.errno})"
