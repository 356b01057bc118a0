"""One executed script: its results as pollers see them, its events as streams see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Literal

from requestor.mock_golem.exe_unit.progress import NoProgress, Progress
from requestor.mock_golem.exe_unit.script import CaptureMode, Run, ScriptLine
from requestor.mock_golem.exe_unit.spec import ExeUnitGone

Stream = Literal["stdout", "stderr"]


class CommandRecord:
    """Output and outcome of one command of a batch."""

    def __init__(self, line: ScriptLine) -> None:
        self.line = line
        self.output: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        self.return_code: int | None = None  # None: not finished
        self.message: str | None = None
        self.event_date = ""

    def mode(self, stream: str) -> CaptureMode | None:
        """The capture asked for; all output of commands other than `run` is kept."""
        command = self.line.command
        if isinstance(command, Run):
            return command.stdout if stream == "stdout" else command.stderr
        return {"stream": {}}

    def shown(self, stream: str) -> str | list[int] | None:
        """The captured output in its format, None when there is none."""
        data = self.output[stream]
        if not data:
            return None
        if self._is_binary(stream):
            return list(data)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("latin-1")

    def event_output(self, stream: str, data: bytes) -> str | list[int] | None:
        """A piece of output as a runtime event shows it; None when it is not streamed."""
        mode = self.mode(stream)
        if mode is None or "stream" not in mode:
            return None
        return list(data) if self._is_binary(stream) else data.decode("utf-8", "replace")

    def _is_binary(self, stream: str) -> bool:
        mode = self.mode(stream) or {}
        return any(options.get("format") == "bin" for options in mode.values() if options)


class Batch:
    """The progress of one script, and everybody who waits for it."""

    def __init__(
        self, batch_id: str, script: list[ScriptLine], now: Callable[[], datetime]
    ) -> None:
        self.batch_id = batch_id
        self.commands = [CommandRecord(line) for line in script]
        self._now = now
        self._finished_count = 0
        self._shown_count = 0  # results that some poller has been given
        self._failed = False
        self._events: list[dict[str, Any]] = []
        self._changed = asyncio.Event()
        self._gone: str | None = None

    @property
    def is_finished(self) -> bool:
        """True once every command is done or one has failed."""
        return self._failed or self._finished_count == len(self.commands)

    def running_command(self) -> dict[str, Any]:
        """Name and parameters of the first command that has not finished."""
        command = self.commands[self._finished_count].line.command
        parameters = [command.entry_point, *command.args] if isinstance(command, Run) else None
        (name,) = self.commands[self._finished_count].line.json
        return {"command": name, "progress": None, "params": parameters}

    def start_command(self, index: int) -> None:
        """Record that a command begins."""
        self._emit(index, {"started": {"command": self.commands[index].line.json}})

    def add_output(self, index: int, stream: str, data: bytes) -> None:
        """Record output that was captured."""
        record = self.commands[index]
        record.output[stream] += data
        shown = record.event_output(stream, data)
        if shown is not None:
            self._emit(index, {stream: shown})

    def progress(self, index: int, interval_seconds: float | None) -> Progress:
        """Return what tells streams, from any thread, how far a command has come; None: nothing."""
        if interval_seconds is None:
            return NoProgress()
        loop = asyncio.get_running_loop()

        def tell(progress: dict[str, Any]) -> None:
            try:
                asyncio.get_running_loop()
            except RuntimeError:  # a thread that copies
                loop.call_soon_threadsafe(self._emit, index, {"progress": progress})
            else:
                self._emit(index, {"progress": progress})

        return Progress(tell, interval_seconds)

    def finish_command(self, index: int, return_code: int, message: str | None) -> None:
        """Record a command's end; any code but 0 ends the batch."""
        record = self.commands[index]
        record.return_code, record.message = return_code, message
        record.event_date = _timestamp(self._now()) + "Z"
        self._finished_count += 1
        self._failed = return_code != 0
        self._emit(index, {"finished": {"return_code": return_code, "message": message}})

    def abandon(self, reason: str) -> None:
        """The exe-unit ends: whoever waits for more is told with `ExeUnitGone`."""
        self._gone = reason
        self._notify()

    async def results(
        self, timeout_seconds: float, command_index: int | None
    ) -> list[dict[str, Any]]:
        """All results so far, as soon as there are new ones (see `ExeUnit.results`)."""
        seen = self._shown_count
        try:
            async with asyncio.timeout(max(timeout_seconds, 0.0)):
                while not self._has_news(seen, command_index):
                    await self._wait_for_change()
        except TimeoutError:
            if command_index is not None:
                raise
        self._shown_count = max(self._shown_count, self._finished_count)
        return self._results(command_index)

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """All runtime events from the first on, until the batch is finished."""
        position = 0
        while True:
            while position < len(self._events):
                yield self._events[position]
                position += 1
            if self.is_finished:
                return
            await self._wait_for_change()

    def _has_news(self, seen: int, command_index: int | None) -> bool:
        if self.is_finished:
            return True
        if command_index is not None:
            return self._finished_count > command_index
        return self._finished_count > seen

    async def _wait_for_change(self) -> None:
        if self._gone is not None:
            raise ExeUnitGone(self._gone)
        await self._changed.wait()

    def _results(self, command_index: int | None) -> list[dict[str, Any]]:
        last = len(self.commands) - 1 if command_index is None else command_index
        shown = []
        for index, record in enumerate(self.commands[: self._finished_count]):
            if index > last:
                break
            with_output = command_index is None or index == command_index
            shown.append(
                {
                    "index": index,
                    "eventDate": record.event_date,
                    "result": "Ok" if record.return_code == 0 else "Error",
                    "stdout": record.shown("stdout") if with_output else None,
                    "stderr": record.shown("stderr") if with_output else None,
                    "message": record.message,
                    "isBatchFinished": index == last or record.return_code != 0,
                }
            )
        return shown

    def _emit(self, index: int, kind: dict[str, Any]) -> None:
        self._events.append(
            {
                "batch_id": self.batch_id,
                "index": index,
                "timestamp": _timestamp(self._now()),
                "kind": kind,
            }
        )
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
