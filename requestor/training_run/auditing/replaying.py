"""Doing an order again on our own machine, in a process that knows nothing of the first time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from msgspec.structs import replace
from numpy.typing import NDArray

from provider_image.wire import (
    LearnerSpec,
    LinkRange,
    Tensors,
    TensorSpec,
    TrainOrder,
    TrainResult,
    decode_metadata,
    read_bundle,
    restore,
    result_bytes,
    work_digest,
)
from requestor.evaluation.local_worker import LocalWorker
from requestor.training_run.orders.round_files import MAX_STATE_BYTES
from requestor.trust.disputes import Account, Replay


@dataclass(frozen=True)
class Work:
    """An order with the files that it names, and the layout of the model that it trains."""

    order: TrainOrder
    inputs: Mapping[str, Path]
    model_specs: Mapping[str, TensorSpec]


@dataclass(frozen=True)
class Replayed:
    """How doing it again went: the account, the decoded update, and what it said of itself."""

    account: Account
    tensors: Mapping[str, NDArray[Any]]
    metrics: Mapping[str, float]


class Replaying(Protocol):
    """What does orders again."""

    async def replay(self, work: Work, replay: Replay, *, is_fresh: bool = False) -> Replayed:
        """Do an order, or the first links of it, once more.

        is_fresh: by a process that has not done anything else.

        Raises:
            LocalWorkerError: this machine cannot do it.
            WireError: our own worker wrote what is no result.
        """
        ...


class LocalReplays:
    """Replays by a worker of this machine, one at a time; use `async with`.

    Its process begins with the first replay: an honest fleet with a record hardly needs it.
    """

    def __init__(self, folder: Path, learner: LearnerSpec) -> None:
        """Work in folders below `folder`."""
        self._folder = folder
        self._learner = learner
        self._stack = AsyncExitStack()
        self._worker: LocalWorker | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Begin; no process is started yet."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the worker."""
        await self._stack.aclose()
        self._worker = None

    async def replay(self, work: Work, replay: Replay, *, is_fresh: bool = False) -> Replayed:
        """Do an order once more; see `Replaying`."""
        order = work.order
        if replay.last is not None:
            order = replace(order, links=LinkRange(first=0, last=replay.last))
        async with self._turn:
            if is_fresh:
                async with LocalWorker(self._folder / "referee", self._learner) as worker:
                    return await _execute(worker, work, order)
            if self._worker is None:
                usual = LocalWorker(self._folder / "replays", self._learner)
                self._worker = await self._stack.enter_async_context(usual)
            return await _execute(self._worker, work, order)


async def _execute(worker: LocalWorker, work: Work, order: TrainOrder) -> Replayed:
    await worker.execute(order, work.inputs)
    most = result_bytes(work.model_specs, order.compression)
    bundle = read_bundle(worker.folder / order.output, max_bytes=most)
    result = decode_metadata(bundle, TrainResult)
    tensors = bundle.tensors
    if order.compression is not None:
        tensors = restore(tensors, order.compression, work.model_specs, source=order.output)
    digest = work_digest(tensors, _state(worker, order)) if order.links is None else ""
    return Replayed(Account(None, result.links, digest), tensors, dict(result.metrics))


def _state(worker: LocalWorker, order: TrainOrder) -> Tensors | None:
    if order.client_state_output is None:
        return None
    return read_bundle(worker.folder / order.client_state_output, max_bytes=MAX_STATE_BYTES).tensors
