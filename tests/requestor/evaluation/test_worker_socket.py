"""What is asked over a worker's socket, and what is made of every answer there could be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from requestor.evaluation.worker_socket import (
    MAX_ANSWER_BYTES,
    MAX_ERROR_LETTERS,
    SOCKET_NAME,
    OrderRefused,
    WorkerGone,
    ask,
)

DONE = b'{"order_sha256": "ab", "files": {}}\n'


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough that a server can bind its socket there."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


async def asked(folder: Path, answer: bytes) -> bytes:
    """Ask a worker in `folder` that answers so; what it was asked."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readline())
        with contextlib.suppress(OSError):
            writer.write(answer)
            await writer.drain()
        writer.close()

    descriptor = os.open(folder, os.O_PATH)
    server = await asyncio.start_unix_server(serve, f"/proc/self/fd/{descriptor}/{SOCKET_NAME}")
    try:
        await ask(folder, "order.json")
    finally:
        server.close()
        os.close(descriptor)
    return heard[0]


def test_one_line_goes_in(folder: Path) -> None:
    assert json.loads(asyncio.run(asked(folder, DONE))) == {"order": "order.json"}


def test_a_folder_may_have_a_long_name(folder: Path) -> None:
    deep = folder / ("x" * 90) / ("y" * 90)
    deep.mkdir(parents=True)
    assert asyncio.run(asked(deep, DONE))


def test_the_workers_own_words_are_one_short_line(folder: Path) -> None:
    said = json.dumps({"error": "no\nsuch  thing" + "!" * 5000}).encode() + b"\n"
    with pytest.raises(OrderRefused, match="no such thing!!!") as caught:
        asyncio.run(asked(folder, said))
    assert len(str(caught.value)) == MAX_ERROR_LETTERS


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "died"),
        (DONE[:-1], "died"),
        (b"\xff\n", "something that no worker says"),
        (b"[" * 30000 + b"\n", "something that no worker says"),
        (b"{}\n", "something that no worker says"),
        (b'{"error": 5}\n', "something that no worker says"),
        (b'{"order_sha256": "ab", "files": 3}\n', "something that no worker says"),
        (b"x" * (MAX_ANSWER_BYTES + 2), "more than 65536 bytes"),
        (b"x" * (4 * MAX_ANSWER_BYTES) + b"\n", "more than 65536 bytes"),
    ],
)
def test_anything_else_is_no_worker(folder: Path, answer: bytes, words: str) -> None:
    with pytest.raises(WorkerGone, match=words):
        asyncio.run(asked(folder, answer))


def test_where_nobody_listens_nobody_answers(folder: Path) -> None:
    with pytest.raises(WorkerGone, match="no worker listens"):
        asyncio.run(ask(folder, "order.json"))
    (folder / SOCKET_NAME).touch()
    with pytest.raises(WorkerGone, match="no worker listens"):
        asyncio.run(ask(folder, "order.json"))
