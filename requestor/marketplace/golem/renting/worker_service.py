"""One rented provider as a yapapi service: deploy, start the worker, feed it orders."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from yapapi.rest.activity import BatchError, CommandExecutionError
from yapapi.script import Script
from yapapi.services import Service, ServiceState

from native_kernels.canary import BITS
from requestor.marketplace.golem.daemon.failure_words import describe_failure
from requestor.marketplace.golem.daemon.presence import DaemonPresence, wait_present
from requestor.marketplace.golem.renting.lease import GolemLease, Released, Request
from requestor.marketplace.ports import (
    Job,
    LeaseLost,
    OrderFailed,
)

WORK_VOLUME = "/golem/work"
ORDER_NAME = "order.json"
EXIT_ORDER_FAILED = 3
BUSY_PAUSE_SECONDS = 0.5
MAX_REPORT_CHARACTERS = 16_384

_EXIT_CODE = re.compile(r"exited with code (-?\d{1,9})(?!\d)")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class LeaseKeeper(Protocol):
    """What a service needs of the pool that it belongs to."""

    deploy_timeout_seconds: float
    learner: str
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
        script.run("/bin/sh", "-c", f"exec derl-worker start {self._start_options}")
        results = yield script
        try:
            await wait_present(results, seconds, lambda: self._keeper.presence.away_seconds)
        except TimeoutError as error:
            raise self._start_failed(f"not ready within {seconds:g} s") from error
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise self._start_failed(describe_failure(error)) from error

    @property
    def _start_options(self) -> str:
        """Other kernels' work would be taken for faked: a worker that has such does not start."""
        learner = self._keeper.learner
        return f"--learner {learner}" + (f" --bits {BITS}" if learner == "native" else "")

    def _start_failed(self, reason: str) -> LeaseLost:
        self._keeper.start_failed(self, reason)
        return LeaseLost(reason)

    async def run(self) -> AsyncGenerator[Script, Awaitable[Any]]:
        """Do orders until the lease ends."""
        lease = self._keeper.open_lease(self)
        reason = "the service was stopped"
        try:
            again: Request | None = None
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
        except Released as release:
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
