"""How a worker's socket is spoken to: one order's name goes in, one line of JSON comes out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

SOCKET_NAME = "worker.sock"
MAX_ANSWER_BYTES = 64 << 10
MAX_ERROR_LETTERS = 2000
_LONGEST_ADDRESS_BYTES = 107


class WorkerGone(Exception):
    """Nobody answers, or what answers is no worker; the message says which."""


class OrderRefused(Exception):
    """The worker's own words about an order that it could not do."""


async def ask(folder: Path, order_name: str) -> None:
    """Have the worker in `folder` do the order in the file `order_name`; return once it is done.

    Raises:
        OrderRefused: it could not do it.
        WorkerGone: it ended, does not listen, or answers with something else.
    """
    try:
        with _address(folder) as address:
            reader, writer = await asyncio.open_unix_connection(address, limit=MAX_ANSWER_BYTES)
    except OSError as error:
        raise WorkerGone(f"no worker listens ({error.strerror})") from error
    try:
        writer.write(json.dumps({"order": order_name}).encode() + b"\n")
        line = await reader.readline()
    except ValueError as error:
        raise WorkerGone(f"it answered with more than {MAX_ANSWER_BYTES} bytes") from error
    except OSError:
        line = b""
    finally:
        writer.close()
    if not line.endswith(b"\n"):
        raise WorkerGone("the worker died")
    problem = _problem(line)
    if problem is not None:
        raise OrderRefused(problem[:MAX_ERROR_LETTERS])


def _problem(line: bytes) -> str | None:
    """What the answer says went wrong; None if the order is done."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    match answer:
        case {"error": str(problem)}:
            return " ".join(problem.split())
        case {"order_sha256": str(), "files": dict()}:
            return None
    raise WorkerGone("it answered with something that no worker says")


@contextlib.contextmanager
def _address(folder: Path) -> Iterator[str]:
    """A name of the socket that is short enough for an address, of which Linux takes 107 bytes."""
    path = os.fspath(folder / SOCKET_NAME)
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS_BYTES:
        yield path
        return
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)
