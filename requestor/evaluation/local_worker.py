"""A worker on our own machine: the very program that runs on providers, in a child process.

So the requestor itself imports neither torch nor Gymnasium, and a model that makes the learner
crash, take all memory or run for ever costs an order, not the run. Read `jail.py` next.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from provider_image.wire import LearnerSpec, Order, encode_order
from requestor.errors import RunFailed
from requestor.evaluation.jail import JAIL_VARIABLE, Jail, choose_jail
from requestor.evaluation.limits import Limits, Usage, default_limits, descendants, usage_of
from requestor.evaluation.shared_folder import create_file, empty_folder, read_tail
from requestor.evaluation.worker_socket import SOCKET_NAME, OrderRefused, WorkerGone, ask
from requestor.secrecy import for_strangers

START_SECONDS = 120.0
POLL_SECONDS = 0.01
WATCH_SECONDS = 0.5
COPY_BYTES = 1 << 20
ORDER_NAME = "order.json"
LOG_NAME = "serve.log"
LOG_TAIL_BYTES = 2000
_PROGRAM = (sys.executable, "-P", "-m", "provider_image.worker_cli")


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
        self,
        folder: Path,
        learner: LearnerSpec | None = None,
        *,
        waits_for_work: bool = False,
        jail: Jail | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Work in `folder`, which is emptied first; begin with what `learner` may need.

        `jail` and `limits` are what the environment variables say if they are not given. Nothing
        else may be kept in the folder: whoever is in the jail can change all of it.
        """
        self.folder = folder
        self._waits_for_work = waits_for_work
        self.is_light = (
            learner is not None
            and learner.algorithm in ("ppo", "pg")
            and learner.learner != "sb3"
        )
        self._jail = jail
        self._limits = limits
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Make the folder and start the worker.

        Raises:
            DerlError: the variables ask for a jail that is not to be had here.
        """
        self._jail = self._jail or choose_jail(os.environ)
        self._limits = self._limits or default_limits(os.environ)
        empty_folder(self.folder)
        if not self._waits_for_work:
            await self._start()
        return self

    @property
    def notice(self) -> str | None:
        """What the user should know about the jail; nothing if all is well."""
        return None if self._jail is None else self._jail.notice

    async def _start(self) -> None:
        assert self._jail is not None
        assert self._limits is not None
        environment = self._jail.environment(for_strangers(os.environ))
        command = self._jail.command(self.folder, self._program(), environment)
        with create_file(self.folder / LOG_NAME) as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._limits.within(command),
                cwd=self.folder,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment,
            )

    def _program(self) -> list[str]:
        learner = "native" if self.is_light else "sb3"
        return [*_PROGRAM, "serve", "--learner", learner, "--stop-on-stdin-eof"]

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

        Outputs may be anything, links included: read them as a stranger's (`read_bundle`,
        `read_file`). A worker that dies of an order, or is ended because of it, is replaced for the
        next one, in an empty folder.

        Raises:
            LocalOrderFailed: the order cannot be done, or not within the limits.
            LocalWorkerError: the worker failed.
        """
        async with self._turn:
            if self._process is None:
                empty_folder(self.folder)
                await self._start()
            try:
                with create_file(self.folder / ORDER_NAME) as file:
                    file.write(encode_order(order))
                for name, path in inputs.items():
                    with create_file(self.folder / name) as file, path.open("rb") as source:
                        shutil.copyfileobj(source, file, COPY_BYTES)
                await self._wait_until_ready()
                await self._ask()
            except OrderRefused as refused:
                raise LocalOrderFailed(str(refused)) from refused
            except WorkerGone as gone:
                said = self._log_tail()
                await self._stop()
                raise LocalOrderFailed(f"{gone}: {said}") from gone
            except BaseException:
                await self._stop()
                raise

    async def _ask(self) -> None:
        """Have the order done, and look at what it takes as long as that lasts."""
        assert self._process is not None
        assert self._limits is not None
        began = time.monotonic()
        before: Usage | None = None
        asked = asyncio.ensure_future(ask(self.folder, ORDER_NAME))
        try:
            while not (await asyncio.wait({asked}, timeout=WATCH_SECONDS))[0]:
                now = usage_of(self._process.pid, self.folder)
                before = before or now
                broken = self._limits.broken_by(before, now, time.monotonic() - began)
                if broken is not None:
                    await self._stop()
                    raise LocalOrderFailed(broken)
            asked.result()
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

    async def _wait_until_ready(self) -> None:
        assert self._process is not None
        socket = self.folder / SOCKET_NAME
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while not socket.exists():
            if self._process.returncode is not None:
                raise LocalWorkerError(
                    f"the local worker does not start:\n{self._log_tail()}",
                    fix=f"if its jail is to blame, {JAIL_VARIABLE}=none does without"
                    if self._jail is not None and self._jail.kind != "none"
                    else None,
                )
            if asyncio.get_running_loop().time() > deadline:
                raise LocalWorkerError(f"the local worker is not ready after {START_SECONDS:g} s")
            await asyncio.sleep(POLL_SECONDS)

    async def _stop(self) -> None:
        """End the worker, if there is one, and all that it has started; its socket goes too."""
        process, self._process = self._process, None
        if process is not None:
            started = descendants(process.pid)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            for one in started:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(one, signal.SIGKILL)
            await process.wait()
        with contextlib.suppress(OSError):
            (self.folder / SOCKET_NAME).unlink()

    def _log_tail(self) -> str:
        """The end of what the worker said."""
        try:
            return (
                read_tail(self.folder / LOG_NAME, LOG_TAIL_BYTES).decode(errors="replace").strip()
            )
        except OSError:
            return ""
