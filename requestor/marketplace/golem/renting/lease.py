"""The requestor's end of one rented provider: orders go in, answers come out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from requestor.marketplace.choice.failures import FailureKind
from requestor.marketplace.ports import Job, LeaseError, LeaseInfo, LeaseLost, LeaseOver

WATCH_SECONDS = 0.2


@dataclass
class Request:
    """An order that waits for its answer."""

    job: Job
    answer: asyncio.Future[Mapping[str, str]]

    def succeed(self, digests: Mapping[str, str]) -> None:
        """Answer with the digests that the worker claims."""
        if not self.answer.done():  # the asker may have given up
            self.answer.set_result(digests)

    def fail(self, error: LeaseError) -> None:
        """Answer with an error."""
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # read: nobody left to ask is no reason for a warning


class Released(Exception):
    """The lease is to end; raised into the service, never out of it."""


class GolemLease:
    """The requestor's end of one running `WorkerService`."""

    def __init__(
        self,
        info: LeaseInfo,
        on_release: Callable[[GolemLease, str, bool], None],
        away_seconds: Callable[[], float] = lambda: 0.0,
        on_assess: Callable[[GolemLease, int, float], None] = lambda *_: None,
    ):
        """Stand for the provider `info`; `on_release(lease, reason, avoid)` hears of `release`,
        `on_assess(lease, useful_steps, seconds)` of `assess`.

        `away_seconds()` is how long the daemon has been away so far: no order's time runs then.
        """
        self._info = info
        self._on_release = on_release
        self._on_assess = on_assess
        self._away_seconds = away_seconds
        self._sent_seconds: float | None = None
        self._requests: asyncio.Queue[Request] = asyncio.Queue()
        self._current: Request | None = None
        self._end_reason: str | None = None
        self._ending = asyncio.Event()
        self._was_released = False
        self._is_over = False
        self.held_digests: dict[str, str] = {}
        self.orders_done = 0
        self.busy_seconds = 0.0
        self.failure: FailureKind = "vanished"

    @property
    def info(self) -> LeaseInfo:
        """Who stands behind it."""
        return self._info

    @property
    def was_released(self) -> bool:
        """True if it was ended by us."""
        return self._was_released

    async def execute(self, job: Job) -> Mapping[str, str]:
        """Have the job done; see `ports.Lease.execute`."""
        if self._is_over or self._ending.is_set():
            raise LeaseOver(self._end_reason or "the lease is over")
        request = Request(job, asyncio.get_running_loop().create_future())
        self._requests.put_nowait(request)
        return await request.answer

    def assess(self, useful_steps: int, seconds: float) -> None:
        """Note what came of an order; see `ports.Lease.assess`."""
        self.busy_seconds += seconds
        self._on_assess(self, useful_steps, seconds)

    def release(self, reason: str, *, avoid: bool, failure: FailureKind = "other") -> None:
        """End the lease soon."""
        if not self._ending.is_set():
            self._end_reason = reason
            self.failure = failure
            self._was_released = True
            self._ending.set()
            self._on_release(self, reason, avoid)

    async def next_request(self) -> Request:
        """Wait for the next order; `Released` when there will be none."""
        get = asyncio.ensure_future(self._requests.get())
        end = asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait({get, end}, return_when=asyncio.FIRST_COMPLETED)
            self._sent_seconds = None
            if get.done():
                self._current = get.result()  # from now on `close` answers it
                if not self._ending.is_set():
                    return self._current
            raise Released(self._end_reason)
        finally:
            get.cancel()
            end.cancel()

    def close(self, reason: str) -> None:
        """End the lease now; fail whatever is still waiting for an answer."""
        self._is_over = True
        self._end_reason = self._end_reason or reason
        self._ending.set()
        waiting = [self._current] if self._current else []
        while not self._requests.empty():
            waiting.append(self._requests.get_nowait())
        for request in waiting:
            request.fail(LeaseLost(self._end_reason))

    async def watch(self, results: Awaitable[Any], job: Job) -> Any:
        """Await a script's results, unless it takes too long, sends too much, or is called off."""
        task = asyncio.ensure_future(results)
        loop = asyncio.get_running_loop()
        if self._sent_seconds is None:
            self._sent_seconds = loop.time() - self._away_seconds()
        deadline = self._sent_seconds + job.deadline_seconds
        end = asyncio.ensure_future(self._ending.wait())
        try:
            while not task.done():
                left = deadline + self._away_seconds() - loop.time()
                if left <= 0:
                    raise LeaseLost(f"no result within {job.deadline_seconds:g} s", "no_result")
                await asyncio.wait(
                    {task, end},
                    timeout=min(left, WATCH_SECONDS),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if self._ending.is_set() and not task.done():
                    raise Released(self._end_reason)
                _check_sizes(job)
            return task.result()
        finally:
            end.cancel()
            task.cancel()


def _check_sizes(job: Job) -> None:
    for name, output in job.outputs.items():
        try:
            size = output.path.stat().st_size
        except OSError:
            continue
        if size > output.max_bytes:
            text = f"{name} is larger than the {output.max_bytes} bytes it may have"
            raise LeaseLost(text, "bad_result")
