"""Workers of this machine that do what providers are asked for."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from provider_image.wire import LearnerSpec, TrainOrder
from requestor.evaluation.local_worker import LocalOrderFailed, LocalWorker
from requestor.marketplace.ports import OrderFailed


class LocalWorkshop:
    """A few local workers in folders of their own; use as an async context manager."""

    def __init__(
        self,
        folder: Path,
        learner: LearnerSpec,
        workers: int = 1,
        *,
        waits_for_work: bool = False,
    ) -> None:
        """Work in `folder` with so many processes, each started by its first order if it waits."""
        self._folder = folder
        self._learner = learner
        self._count = workers
        self._waits_for_work = waits_for_work
        self._idle: asyncio.Queue[LocalWorker] = asyncio.Queue()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start the workers, unless they wait."""
        for number in range(self._count):
            folder = self._folder / f"worker-{number}"
            worker = LocalWorker(folder, self._learner, waits_for_work=self._waits_for_work)
            self._idle.put_nowait(await self._stack.enter_async_context(worker))
        return self

    async def __aexit__(self, *error: object) -> None:
        """Stop the workers."""
        await self._stack.aclose()

    async def train(
        self, order: TrainOrder, inputs: Mapping[str, Path], outputs: Mapping[str, Path]
    ) -> None:
        """Have an order done by whoever is free; see `virtual.market.Workshop`.

        Raises:
            OrderFailed: the order cannot be done.
            LocalWorkerError: this machine cannot do any.
        """
        worker = await self._idle.get()
        try:
            # no output may be taken for that of this order if it was another's
            for name in outputs:
                (worker.folder / name).unlink(missing_ok=True)
            await worker.execute(order, inputs)
            for name, path in outputs.items():
                shutil.move(worker.folder / name, path)
        except LocalOrderFailed as failed:
            raise OrderFailed(failed.message) from failed
        finally:
            self._idle.put_nowait(worker)
