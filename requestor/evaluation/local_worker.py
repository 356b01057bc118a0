"""A worker on our own machine: the very program that runs on providers, in a child process.

So the requestor itself imports neither torch nor Gymnasium, and a model that makes the learner
crash takes down a child, not the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from provider_image.wire import LearnerSpec, Order, encode_order
from requestor.errors import RunFailed
from requestor.secrecy import without_secrets

START_SECONDS = 120.0
ORDER_NAME = "order.json"
SOCKET_NAME = "worker.sock"
EXIT_ORDER_FAILED = 3
_PROGRAM = (sys.executable, "-m", "provider_image.worker_cli")


class LocalWorkerError(RunFailed):
    """The local worker could not do an order; the message is its own."""


class LocalOrderFailed(LocalWorkerError):
    """The worker is well, but this order cannot be done."""


class LocalWorker:
    """A `derl-worker` in a folder of its own; use as an async context manager.

    It ends with us whatever happens: its standard input is a pipe from this process. One that
    `waits_for_work` is started by its first order.
    """

    def __init__(
        self, folder: Path, learner: LearnerSpec | None = None, *, waits_for_work: bool = False
    ) -> None:
        """Work in `folder`, which is emptied first; begin with what `learner` may need."""
        self.folder = folder
        self._waits_for_work = waits_for_work
        self.is_light = (
            learner is not None and learner.algorithm == "ppo" and learner.learner != "sb3"
        )
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Make the folder and start the worker."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if not self._waits_for_work:
            await self._start()
        return self

    async def _start(self) -> None:
        with (self.folder / "serve.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *_PROGRAM,
                "serve",
                "--learner",
                "native" if self.is_light else "sb3",
                "--stop-on-stdin-eof",
                cwd=self.folder,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=without_secrets(os.environ),
            )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the worker; its socket goes too, so that the run's folder can be copied."""
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        (self.folder / SOCKET_NAME).unlink(missing_ok=True)

    async def execute(self, order: Order, inputs: Mapping[str, Path]) -> None:
        """Do an order; `inputs` are put into the folder under their names, outputs appear in it.

        Raises:
            LocalOrderFailed: the order cannot be done.
            LocalWorkerError: the worker failed.
        """
        async with self._turn:
            if self._process is None:
                await self._start()
            (self.folder / ORDER_NAME).write_bytes(encode_order(order))
            for name, path in inputs.items():
                shutil.copyfile(path, self.folder / name)
            await self._wait_until_ready()
            client = await asyncio.create_subprocess_exec(
                *_PROGRAM,
                "work",
                ORDER_NAME,
                cwd=self.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                env=without_secrets(os.environ),
            )
            try:
                _, stderr = await client.communicate()
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    client.kill()
                raise
            if client.returncode != 0:
                said = stderr.decode(errors="replace").strip()[-2000:]
                is_order = client.returncode == EXIT_ORDER_FAILED
                kind = LocalOrderFailed if is_order else LocalWorkerError
                raise kind(said.removeprefix(f"derl-worker: {ORDER_NAME}: "))

    async def _wait_until_ready(self) -> None:
        assert self._process is not None
        socket = self.folder / SOCKET_NAME
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while not socket.exists():
            if self._process.returncode is not None:
                log = (self.folder / "serve.log").read_text(errors="replace")
                raise LocalWorkerError(f"the local worker does not start:\n{log[-2000:]}")
            if asyncio.get_running_loop().time() > deadline:
                raise LocalWorkerError(f"the local worker is not ready after {START_SECONDS:g} s")
            await asyncio.sleep(0.05)
