"""One rented provider as a yapapi service: deploy, start the worker, feed it orders."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from yapapi.rest.activity import BatchError, BatchTimeoutError, CommandExecutionError
from yapapi.script import Script
from yapapi.services import Service, ServiceState

from requestor.marketplace.failures import FailureKind
from requestor.marketplace.golem.daemon_api import message_of
from requestor.marketplace.golem.presence import DaemonPresence, wait_present
from requestor.marketplace.ports import (
    Job,
    LeaseError,
    LeaseInfo,
    LeaseLost,
    LeaseOver,
    OrderFailed,
)

WORK_VOLUME = "/golem/work"
WATCH_SECONDS = 0.2
ORDER_NAME = "order.json"
EXIT_ORDER_FAILED = 3
BUSY_PAUSE_SECONDS = 0.5
MAX_REPORT_CHARACTERS = 16_384

_EXIT_CODE = re.compile(r"exited with code (-?\d{1,9})(?!\d)")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass
class _Request:
    job: Job
    answer: asyncio.Future[Mapping[str, str]]

    def succeed(self, digests: Mapping[str, str]) -> None:
        if not self.answer.done():  # the asker may have given up
            self.answer.set_result(digests)

    def fail(self, error: LeaseError) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # read: nobody left to ask is no reason for a warning


class _Released(Exception):
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
        self._requests: asyncio.Queue[_Request] = asyncio.Queue()
        self._current: _Request | None = None
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
        request = _Request(job, asyncio.get_running_loop().create_future())
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

    async def next_request(self) -> _Request:
        """Wait for the next order; `_Released` when there will be none."""
        get = asyncio.ensure_future(self._requests.get())
        end = asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait({get, end}, return_when=asyncio.FIRST_COMPLETED)
            self._sent_seconds = None
            if get.done():
                self._current = get.result()  # from now on `close` answers it
                if not self._ending.is_set():
                    return self._current
            raise _Released(self._end_reason)
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
                    raise _Released(self._end_reason)
                _check_sizes(job)
            return task.result()
        finally:
            end.cancel()
            task.cancel()


class LeaseKeeper(Protocol):
    """What a service needs of the pool that it belongs to."""

    deploy_timeout_seconds: float
    is_closing: bool

    @property
    def presence(self) -> DaemonPresence:
        """Whether the daemon is there."""
        ...

    def open_lease(self, service: WorkerService) -> GolemLease:
        """Make the lease known; called when the worker on the provider is ready."""
        ...

    def lease_closed(self, lease: GolemLease, reason: str) -> None:
        """Note the end of a lease."""
        ...

    def start_failed(self, service: WorkerService, reason: str) -> None:
        """Note that a provider never became ready."""
        ...


class WorkerService(Service):
    """The provider's side as seen from here. yapapi drives the generators below.

    Scripts are sent with `wait_for_results=False`: then errors, deadlines and calls to stop are
    handled in this file. (With yapapi's default an engine error closes the generator, and a stop
    signal waits for the running command.)
    """

    def __init__(self, keeper: LeaseKeeper) -> None:
        """Belong to `keeper`."""
        super().__init__()
        self._keeper = keeper

    @property
    def restart_condition(self) -> bool:
        """Use an instance again that ended, whatever the reason, while the pool is open.

        (yapapi's own condition uses only those again that never started.) One that was cancelled
        in mid-life is not: parts of yapapi still wait for its signals. The pool starts another.
        """
        has_ended = self.state == ServiceState.terminated
        return has_ended and not self._keeper.is_closing

    @property
    def agreement_id(self) -> str:
        """The agreement under which it runs."""
        assert self._ctx is not None
        return str(self._ctx._agreement.id)

    async def start(self) -> AsyncGenerator[Script, Awaitable[Any]]:
        """Deploy the image and start the long-lived worker."""
        assert self._ctx is not None
        seconds = self._keeper.deploy_timeout_seconds
        script = self._ctx.new_script(timeout=self._script_time(seconds), wait_for_results=False)
        script.deploy(**self.get_deploy_args())
        script.start()
        script.run("/bin/sh", "-c", "exec derl-worker start")
        results = yield script
        try:
            await wait_present(results, seconds, lambda: self._keeper.presence.away_seconds)
        except TimeoutError as error:
            raise self._start_failed(f"not ready within {seconds:g} s") from error
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise self._start_failed(describe_failure(error)) from error

    def _start_failed(self, reason: str) -> LeaseLost:
        self._keeper.start_failed(self, reason)
        return LeaseLost(reason)

    async def run(self) -> AsyncGenerator[Script, Awaitable[Any]]:
        """Do orders until the lease ends."""
        lease = self._keeper.open_lease(self)
        reason = "the service was stopped"
        try:
            again: _Request | None = None
            while True:
                request = again or await lease.next_request()
                again = None
                results = yield self._order_script(lease, request.job)
                try:
                    events = await lease.watch(results, request.job)
                except BatchError as error:
                    lease.held_digests.clear()
                    if is_busy(error):
                        # the daemon broke off as it took the order, which is being executed now
                        await asyncio.sleep(BUSY_PAUSE_SECONDS)
                        again = request
                    elif exit_code(error) == EXIT_ORDER_FAILED:
                        request.fail(OrderFailed(describe_failure(error)))
                    else:
                        raise
                else:
                    lease.held_digests.update(request.job.input_digests)
                    request.succeed(claimed_digests(events))
                    lease.orders_done += 1
        except _Released as release:
            reason = str(release)
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:
            reason = describe_failure(error)
            lease.failure = error.failure if isinstance(error, LeaseLost) else "vanished"
            raise
        finally:
            lease.close(reason)
            self._keeper.lease_closed(lease, reason)

    async def shutdown(self) -> AsyncGenerator[Script, Awaitable[Any]]:
        """Send nothing: destroying the activity, which yapapi does next, ends the worker too."""
        nothing: tuple[Script, ...] = ()
        for script in nothing:
            yield script

    def _script_time(self, seconds: float) -> timedelta:
        """Return after which time yapapi may end a script that we want to end after `seconds`."""
        return timedelta(seconds=seconds + self._keeper.presence.patience_seconds + 60)

    def _order_script(self, lease: GolemLease, job: Job) -> Script:
        assert self._ctx is not None
        script = self._ctx.new_script(
            timeout=self._script_time(job.deadline_seconds), wait_for_results=False
        )
        script.upload_bytes(job.order, f"{WORK_VOLUME}/{ORDER_NAME}")
        for name, path in job.inputs.items():
            if lease.held_digests.get(name) != job.input_digests[name]:
                lease.held_digests.pop(name, None)
                script.upload_file(str(path), f"{WORK_VOLUME}/{name}")
        script.run("/bin/sh", "-c", f"exec derl-worker work {ORDER_NAME}")
        for name, output in job.outputs.items():
            # yapapi receives into a copy, out of our sight, if the file is there already
            Path(output.path).unlink(missing_ok=True)
            script.download_file(f"{WORK_VOLUME}/{name}", str(output.path))
        return script


def claimed_digests(events: Any) -> dict[str, str]:
    """Return the SHA-256 of each output as the worker printed them.

    Raises:
        LeaseLost: it printed something else; the text is a stranger's.
    """
    for event in events:
        text = event.stdout
        # what is no UTF-8 text comes as a list of numbers
        if not isinstance(text, str) or len(text) > MAX_REPORT_CHARACTERS:
            continue
        if not text.lstrip().startswith("{"):
            continue
        try:
            files = json.loads(text)["files"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(files, dict) and all(
            isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in files.values()
        ):
            return {str(name): str(digest) for name, digest in files.items()}
    raise LeaseLost("the worker's report is missing or malformed", "bad_result")


def exit_code(error: BaseException) -> int | None:
    """Return the exit code of the command that failed, if that is what happened."""
    if isinstance(error, CommandExecutionError) and error.message:
        found = _EXIT_CODE.search(error.message)
        return int(found.group(1)) if found else None
    return None


def is_busy(error: BaseException) -> bool:
    """Say whether a command failed because another script is being executed."""
    message = error.message if isinstance(error, CommandExecutionError) else None
    return message is not None and "State error: Busy" in message


def describe_failure(error: BaseException) -> str:
    """Return one short printable line for an error, stranger's text included."""
    if isinstance(error, CommandExecutionError):
        # what is no UTF-8 text comes as a list of numbers
        detail = str(error.stderr or error.message or error)
        text = f"command failed: {detail.strip().splitlines()[-1] if detail.strip() else error}"
    elif isinstance(error, BatchTimeoutError):
        text = "no answer in time"
    elif (status := getattr(error, "status", None)) is not None:
        said = message_of(str(getattr(error, "body", "")))
        text = f"the daemon answered {status}: {said}"
        if "GSB error" in said:  # yagna's bus does not reach the provider
            text = f"the provider is gone: {text}"
    else:
        text = str(error).strip() or type(error).__name__
    line = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(line.split())[:300] or type(error).__name__


def _check_sizes(job: Job) -> None:
    for name, output in job.outputs.items():
        try:
            size = output.path.stat().st_size
        except OSError:
            continue
        if size > output.max_bytes:
            text = f"{name} is larger than the {output.max_bytes} bytes it may have"
            raise LeaseLost(text, "bad_result")
