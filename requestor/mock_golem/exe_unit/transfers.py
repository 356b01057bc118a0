"""Moving files between `gftp:`, `container:` and web addresses."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from requestor.mock_golem.exe_unit.progress import NoProgress, Progress
from requestor.mock_golem.exe_unit.script import Transfer
from requestor.mock_golem.exe_unit.spec import CommandFailed, Tamper
from requestor.mock_golem.exe_unit.tampering import tamper_file
from requestor.mock_golem.exe_unit.volumes import Volumes, create_target, open_source
from requestor.mock_golem.exe_unit.web_files import WebError, download, upload
from requestor.mock_golem.finishing import finish_anyway
from requestor.mock_golem.gftp import GftpError, GftpStore

_BLOCK_BYTES = 1 << 24
_WEB = ("http", "https")
_SUPPORTED = ("container", "gftp", *_WEB)


@dataclass(frozen=True)
class Places:
    """Where addresses lead: volumes, the store of `gftp`, and a folder for drafts.

    `web_file` is a descriptor that stands for a web address.
    """

    volumes: Volumes
    store: GftpStore
    scratch: Path
    web_file: int | None = None


async def transfer(
    command: Transfer, places: Places, tamper: Tamper | None, progress: Progress
) -> None:
    """Copy a file; raises `CommandFailed` with the text a real exe-unit would report.

    With `tamper`, what arrives is a falsified copy; the source stays as it is.
    """
    from_web, to_web = (_scheme(url) in _WEB for url in (command.source, command.target))
    if not from_web and not to_web:
        await finish_anyway(asyncio.to_thread(_transfer, command, places, tamper, progress))
        return
    if from_web and to_web:
        raise _failed("neither address is in the container")
    try:
        with tempfile.TemporaryFile(dir=places.scratch) as file:
            places = replace(places, web_file=file.fileno())
            if from_web:
                await download(command.source, file.fileno(), progress)
            copying = asyncio.to_thread(_transfer, command, places, tamper, NoProgress())
            await finish_anyway(copying)
            if to_web:
                await upload(file.fileno(), command.target, progress)
    except WebError as error:
        raise _failed(f"HTTP error: {error}") from error
    except OSError as error:
        raise _failed(f"IO error: {_as_io_error(error)}") from error


def _transfer(command: Transfer, places: Places, tamper: Tamper | None, progress: Progress) -> None:
    try:
        with _source(command.source, places) as source:
            if tamper is None:
                with _target(command.target, places) as target:
                    _copy(source, target, progress)
                return
            with tempfile.NamedTemporaryFile(dir=places.scratch) as falsified:
                _copy(source, falsified.fileno(), NoProgress())
                tamper_file(Path(falsified.name), tamper)
                with _target(command.target, places) as target:
                    _copy(falsified.fileno(), target, progress)
    except GftpError as error:
        raise _failed(f"gftp error: {error}") from error
    except OSError as error:
        raise _failed(f"IO error: {_as_io_error(error)}") from error


@contextmanager
def _source(url: str, places: Places) -> Iterator[int]:
    scheme = _scheme(url)
    if scheme in _WEB:
        assert places.web_file is not None
        yield places.web_file
        return
    if scheme == "container":
        descriptor = open_source(places.volumes.locate_url(url))
    else:
        descriptor = os.open(places.store.open_source(url), os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _target(url: str, places: Places) -> Iterator[int]:
    scheme = _scheme(url)
    if scheme in _WEB:
        assert places.web_file is not None
        yield places.web_file
        return
    if scheme == "container":
        with create_target(places.volumes.locate_url(url)) as descriptor:
            yield descriptor
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(places.store.destination(url), flags, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _copy(source: int, target: int, progress: Progress) -> None:
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
            progress.advance(position, size)


def _scheme(url: str) -> str:
    scheme, colon, _ = url.partition(":")
    if not colon:
        raise _failed("URL parse error: relative URL without a base")
    if scheme not in _SUPPORTED:
        raise _failed(f"Unsupported scheme: {scheme} (the mock transfers {', '.join(_SUPPORTED)})")
    return scheme


def _failed(text: str) -> CommandFailed:
    return CommandFailed(f"Local service error: Transfer error: {text}")


def _as_io_error(error: OSError) -> str:
    if error.errno is None:
        return str(error)
    return f"{os.strerror(error.errno)} (os error {error.errno})"
