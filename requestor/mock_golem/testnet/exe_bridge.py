"""One activity's exe-unit on the service bus of a real daemon."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from requestor.mock_golem.clock import Clock
from requestor.mock_golem.exe_unit import ExeScriptError, ExeUnit, ExeUnitGone, UnknownBatch
from requestor.mock_golem.provider import Provider
from requestor.mock_golem.testnet.bus import (
    BusConnection,
    BusError,
    CallRefused,
    StreamedReply,
)
from requestor.mock_golem.testnet.values import ValueFormatError, dump, load

REPORT_SECONDS = 1.0
STATE_SECONDS = 4.0  # as often although nothing changed: the daemon may have thought it dead
RECONNECT_SECONDS = 0.25
MAX_WAIT_SECONDS = 120.0
_LOCAL = "/local/activity"

_log = logging.getLogger(__name__)


class ExeUnitCalls:
    """Answers the calls that a requestor's daemon makes of an exe-unit.

    Args:
        activity_id: whose exe-unit it is.
        unit: the exe-unit.
        provider: told of batches; its network may stall.
        before_reply: done before each answer.
    """

    def __init__(
        self,
        activity_id: str,
        unit: ExeUnit,
        provider: Provider,
        before_reply: Callable[[], Awaitable[None]],
    ) -> None:
        self._activity_id = activity_id
        self._unit = unit
        self._provider = provider
        self._before_reply = before_reply

    async def answer(self, method: str, data: bytes) -> bytes | StreamedReply:
        """Return the answer to one call.

        Raises:
            CallRefused: there is no such method, or the data is not what it takes.
        """
        await self._provider.answerable()
        try:
            values = load(data)
        except ValueFormatError as error:
            raise CallRefused(f"{method}: {error}") from error
        if not isinstance(values, dict):
            raise CallRefused(f"{method}: expected a map")
        try:
            answer = await self._call(method, values)
        except ExeScriptError as error:
            answer = {"Err": {"badRequest": str(error)}}
        except UnknownBatch as error:
            answer = {"Err": {"notFound": f"batch_id = {error.args[0]}"}}
        except TimeoutError:
            answer = {"Err": "timeout"}
        except ExeUnitGone:
            await asyncio.Event().wait()  # a dead exe-unit says nothing; the bus tells the caller
        if method != "Exec":  # a stall begins after a batch was taken
            await self._provider.answerable()
        await self._before_reply()
        return answer if isinstance(answer, StreamedReply) else dump(answer)

    async def _call(self, method: str, values: Mapping[str, Any]) -> Any:
        match method:
            case "Exec":
                batch_id = _text(values, "batchId")
                self._unit.execute(batch_id, values.get("exeScript", []))
                self._provider.batch_sent()
                return {"Ok": batch_id}
            case "GetExecBatchResults":
                results = await self._unit.results(
                    _text(values, "batchId"),
                    _seconds(values.get("timeout")),
                    _index(values.get("commandIndex")),
                )
                return {"Ok": results}
            case "StreamExecBatchResults":
                return StreamedReply(_parts(self._unit.events(_text(values, "batch_id"))))
            case "GetRunningCommand":
                running = self._unit.running_commands()
                if not running:
                    missing = f"No running command within activity: {self._activity_id}"
                    return {"Err": {"notFound": missing}}
                return {"Ok": running}
        raise CallRefused(f"an exe-unit of mock-golem has no method {method}")


@dataclass(frozen=True)
class BusDoor:
    """Where the service bus is (a unix socket), and the clock that dates reports."""

    address: Path
    clock: Clock


class ActivityLink:
    """Keeps one activity's exe-unit known to the daemon, until it ends.

    Args:
        activity_id: whose exe-unit it is.
        unit: the exe-unit.
        provider: whose it is.
        door: the bus, and the time.
    """

    def __init__(
        self, activity_id: str, unit: ExeUnit, provider: Provider, door: "BusDoor"
    ) -> None:
        self._activity_id = activity_id
        self._unit = unit
        self._door = door
        self._calls = ExeUnitCalls(activity_id, unit, provider, self._report_state)
        self._reporter: StateReporter | None = None

    async def run(self) -> None:
        """Answer and report until the exe-unit has ended and the daemon knows it.

        A daemon that goes away is found again. An exe-unit that vanished says nothing more.
        """
        while True:
            try:
                if await self._serve():
                    return
            except BusError as error:
                if self._unit.has_vanished:
                    return
                _log.debug("activity %s: %s", self._activity_id, error)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _report_state(self) -> None:
        """See to it that who is told a result finds the state that it led to."""
        if self._reporter is not None:
            with suppress(BusError):
                await self._reporter.report_state()

    async def _serve(self) -> bool:
        """Serve over one connection; tell whether the exe-unit has ended."""
        connection = await BusConnection.open(self._door.address, self._calls.answer)
        gone = asyncio.get_running_loop().create_task(self._unit.wait_gone())
        closed = asyncio.get_running_loop().create_task(connection.wait_closed())
        try:
            await connection.register(f"/public/exeunit/{self._activity_id}")
            reporter = StateReporter(self._activity_id, self._unit, connection, self._door.clock)
            self._reporter = reporter
            while not gone.done() and not closed.done() and not self._unit.has_vanished:
                await reporter.report()
                await asyncio.wait(
                    {gone, closed}, timeout=REPORT_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
            if closed.done() and not gone.done():
                return False
            if not self._unit.has_vanished:
                await reporter.report()
            return True
        finally:
            self._reporter = None
            gone.cancel()
            closed.cancel()
            await connection.close()


class StateReporter:
    """Tells the daemon what an exe-unit has used, and its state.

    Args:
        activity_id: whose exe-unit it is.
        unit: the exe-unit.
        connection: to the daemon's bus.
        clock: dates the reports.
    """

    def __init__(
        self, activity_id: str, unit: ExeUnit, connection: BusConnection, clock: Clock
    ) -> None:
        self._activity_id = activity_id
        self._unit = unit
        self._connection = connection
        self._clock = clock
        self._told: dict[str, Any] | None = None
        self._told_at = 0.0
        self._telling = asyncio.Lock()

    async def report(self) -> None:
        """Report all there is.

        Raises:
            BusError: the daemon is not there or refuses.
        """
        usage = self._unit.usage()
        value = {
            "currentUsage": [float(usage.cpu_seconds), float(usage.duration_seconds)],
            "timestamp": int(self._clock.now().timestamp()),
        }
        await _tell(
            self._connection,
            "SetActivityUsage",
            {"activityId": self._activity_id, "usage": value, "timeout": None},
        )
        await self.report_state()

    async def report_state(self) -> None:
        """Report the state if it has changed or was not reported for a while.

        Raises:
            BusError: the daemon is not there or refuses.
        """
        async with self._telling:
            now = asyncio.get_running_loop().time()
            state = {
                "state": [self._unit.state, None],
                "reason": self._unit.reason,
                "errorMessage": self._unit.error_message,
            }
            if state == self._told and now - self._told_at < STATE_SECONDS:
                return
            value = {
                "activityId": self._activity_id,
                "state": state,
                "timeout": None,
                "credentials": None,
            }
            await _tell(self._connection, "SetActivityState", value)
            self._told, self._told_at = state, now


async def _tell(connection: BusConnection, method: str, value: Mapping[str, Any]) -> None:
    data = await connection.call(f"{_LOCAL}/{method}", dump(value))
    try:
        answer = load(data)
    except ValueFormatError as error:
        raise BusError(f"{method}: the daemon's answer is unreadable: {error}") from error
    if isinstance(answer, dict) and "Err" in answer:
        raise BusError(f"{method}: the daemon refuses: {answer['Err']!r:.300}")


async def _parts(events: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    async for event in events:
        yield dump({"Ok": event})


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str):
        raise CallRefused(f"{name} must be a text")
    return value


def _seconds(value: Any) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise CallRefused("timeout must be a number of seconds")
    return min(float(value), MAX_WAIT_SECONDS)


def _index(value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise CallRefused("commandIndex must be a whole number")
    return value
