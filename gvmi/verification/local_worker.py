"""A worker of this machine's own installation, to compare a round inside an image with."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from gvmi.verification.rounds import LearnerKind, RoundFailed
from provider_image.wire import Order, encode_order
from requestor.secrecy import without_secrets

START_SECONDS = 60.0
_PROGRAM = (sys.executable, "-m", "provider_image.worker_cli")


class LocalWorker:
    """A started worker in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def execute(self, name: str, order: Order, *inputs: Path) -> Path:
        """Have an order executed that reads these files; return its output.

        Raises:
            RoundFailed: it fails.
        """
        for path in inputs:
            if path.parent != self._folder:
                shutil.copyfile(path, self._folder / path.name)
        (self._folder / name).write_bytes(encode_order(order))
        await _run(self._folder, "work", name)
        return self._folder / order.output


@contextlib.asynccontextmanager
async def local_worker(folder: Path, kind: LearnerKind) -> AsyncIterator[LocalWorker]:
    """Start a worker in an empty folder; it ends with the block.

    Raises:
        RoundFailed: it does not start, as where the kernels are not compiled.
    """
    await _run(folder, "start", "--learner", kind)
    try:
        yield LocalWorker(folder)
    finally:
        await _run(folder, "stop")


async def _run(folder: Path, *arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *_PROGRAM,
        *arguments,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=without_secrets(os.environ),
    )
    try:
        async with asyncio.timeout(START_SECONDS):
            _, said = await process.communicate()
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise RoundFailed(f"the worker of this machine did not {arguments[0]}") from error
    if process.returncode != 0:
        words = " ".join(said.decode(errors="replace").split())[-500:]
        raise RoundFailed(f"the worker of this machine failed: {words}")
