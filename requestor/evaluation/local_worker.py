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
from requestor.evaluation.worker_socket import SOCKET_NAME, OrderRefused, WorkerGone, ask
from requestor.secrecy import without_secrets

START_SECONDS = 120.0
POLL_SECONDS = 0.01
ORDER_NAME = "order.json"
LOG_NAME = "serve.log"
LOG_TAIL_BYTES = 2000
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
        with (self.folder / LOG_NAME).open("wb") as log:
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
        await self._stop()

    async def execute(self, order: Order, inputs: Mapping[str, Path]) -> None:
        """Do an order; `inputs` are put into the folder under their names, outputs appear in it.

        A worker that dies of an order, or whose order is cancelled, is replaced for the next one.

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
            try:
                await ask(self.folder, ORDER_NAME)
            except OrderRefused as refused:
                raise LocalOrderFailed(str(refused)) from refused
            except WorkerGone as gone:
                await self._stop()
                raise LocalOrderFailed(f"{gone}: {self._log_tail()}") from gone
            except BaseException:
                await self._stop()
                raise

    async def _wait_until_ready(self) -> None:
        assert self._process is not None
        socket = self.folder / SOCKET_NAME
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while not socket.exists():
            if self._process.returncode is not None:
                raise LocalWorkerError(f"the local worker does not start:\n{self._log_tail()}")
            if asyncio.get_running_loop().time() > deadline:
                raise LocalWorkerError(f"the local worker is not ready after {START_SECONDS:g} s")
            await asyncio.sleep(POLL_SECONDS)

    async def _stop(self) -> None:
        """End the worker, if there is one; its socket goes too."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        (self.folder / SOCKET_NAME).unlink(missing_ok=True)

    def _log_tail(self) -> str:
        """The end of what the worker said."""
        with (self.folder / LOG_NAME).open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - LOG_TAIL_BYTES))
            return log.read(LOG_TAIL_BYTES).decode(errors="replace").strip()
