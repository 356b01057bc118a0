"""The exe-unit: the life of one activity, from its creation to its end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from requestor.mock_golem.exe_unit import lying
from requestor.mock_golem.exe_unit.batch import Batch
from requestor.mock_golem.exe_unit.guest_process import AgentDied, GuestProcess
from requestor.mock_golem.exe_unit.sandbox import (
    ActiveIsolation,
    build_sandbox,
    choose_isolation,
)
from requestor.mock_golem.exe_unit.script import (
    Command,
    Deploy,
    Run,
    Sign,
    Start,
    Terminate,
    Transfer,
    parse_script,
)
from requestor.mock_golem.exe_unit.spec import (
    CommandFailed,
    CommandFaults,
    ContainerSpec,
    ExeUnitGone,
    Tamper,
    UnknownBatch,
    Usage,
)
from requestor.mock_golem.exe_unit.transfers import transfer
from requestor.mock_golem.exe_unit.volumes import Volumes
from requestor.mock_golem.gftp import GftpStore

State = Literal["New", "Initialized", "Deployed", "Ready", "Terminated"]

_CUT_OFF = "Service receiver was cancelled"  # to those who wait when the end comes
_NO_ADDRESS = "endpoint address not found"  # to those who come later


def _utc_now() -> datetime:
    return datetime.now(UTC)


class ExeUnit:
    """Executes scripts in a container of its own.

    `faults` is asked once per command, by name (`deploy`, `start`, `run`, `transfer_in`,
    `transfer_out`, `terminate`), just before it is executed. `clock` (seconds, never falling)
    measures the duration that is billed, `now` dates results.
    """

    def __init__(
        self,
        spec: ContainerSpec,
        store: GftpStore,
        faults: Callable[[str], CommandFaults],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._spec = spec
        self._store = store
        self._faults = faults
        self._clock = clock
        self._now = now
        self._volumes = Volumes(spec.directory / "volumes")
        self._state: State = "New"
        self._next_state: State | None = None
        self._reason: str | None = None
        self._error_message: str | None = None
        self._isolation: ActiveIsolation | None = None
        self._environment: dict[str, str] = {}
        self._guest: GuestProcess | None = None
        self._batches: dict[str, Batch] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self._started_at: float | None = None
        self._usage = Usage(0.0, 0.0)
        self._cpu_seconds_before = 0.0  # of agents that have ended
        self._ending = False
        self._vanished = False
        self._gone = asyncio.Event()

    @property
    def state(self) -> State:
        return self._state

    @property
    def reason(self) -> str | None:
        """Why the activity was terminated, as reported with the state."""
        return self._reason

    @property
    def error_message(self) -> str | None:
        """What went wrong, as reported with the state."""
        return self._error_message

    @property
    def isolation(self) -> ActiveIsolation:
        """How commands are kept apart from the host; known after `initialize`."""
        if self._isolation is None:
            raise RuntimeError("the exe-unit is not initialized yet")
        return self._isolation

    @property
    def has_vanished(self) -> bool:
        """Whether the provider's machine died (instead of an orderly end)."""
        return self._vanished

    @property
    def agent_pid(self) -> int | None:
        """Process id of the guest agent while commands can run, else None."""
        return self._guest.agent_pid if self._guest is not None else None

    async def initialize(self) -> None:
        """Take the scratch folder and choose the isolation: New -> Initialized.

        Raises `IsolationError` and `OSError`.
        """
        if self._state != "New":
            raise RuntimeError(f"initialize in state {self._state}")
        self._isolation = await asyncio.to_thread(choose_isolation, self._spec.isolation)
        self._spec.directory.mkdir(parents=True, mode=0o700)
        self._spec = replace(self._spec, directory=self._spec.directory.resolve())
        self._volumes = Volumes(self._spec.directory / "volumes")
        self._started_at = self._clock()
        self._state = "Initialized"

    def execute(self, batch_id: str, commands: list[dict[str, Any]]) -> None:
        """Start a script in the background; raises `ExeScriptError`, `ExeUnitGone`."""
        if self._ending:
            raise ExeUnitGone(_NO_ADDRESS)
        batch = Batch(batch_id, parse_script(commands), self._now)
        self._batches[batch_id] = batch
        self._tasks[batch_id] = asyncio.create_task(self._run_batch(batch))

    async def results(
        self, batch_id: str, timeout_seconds: float, command_index: int | None = None
    ) -> list[dict[str, Any]]:
        """Results of a batch so far, from its first command on.

        Waits until a command has finished that no caller of this batch has been told of, or the
        batch has ended, or the time is up. With `command_index`: until that command has finished,
        and `TimeoutError` if it does not in time. Raises `UnknownBatch` and `ExeUnitGone`.
        """
        return await self._batch(batch_id).results(timeout_seconds, command_index)

    def events(self, batch_id: str) -> AsyncIterator[dict[str, Any]]:
        """Runtime events of a batch, from its first on, ending with it. Raises as `results`."""
        return self._batch(batch_id).events()

    def usage(self) -> Usage:
        """What the activity has used; keeps its last value after the end."""
        if not self._gone.is_set() and self._started_at is not None:
            guest = self._guest.cpu_seconds() if self._guest is not None else 0.0
            self._usage = Usage(
                max(self._usage.cpu_seconds, self._cpu_seconds_before + guest),
                max(self._usage.duration_seconds, self._clock() - self._started_at),
            )
        return self._usage

    async def terminate(self, reason: str | None = None, error_message: str | None = None) -> None:
        """End the activity: everything it started is dead and its folder gone on return."""
        await self._end(reason, error_message, vanish=False)

    async def vanish(self) -> None:
        """The provider's machine dies: from now on every call raises `ExeUnitGone`."""
        await self._end(None, None, vanish=True)

    async def wait_gone(self) -> None:
        """Wait until the activity has ended, for whatever reason, and nothing is left of it."""
        await self._gone.wait()

    def _batch(self, batch_id: str) -> Batch:
        if self._vanished:
            raise ExeUnitGone(_NO_ADDRESS)
        batch = self._batches.get(batch_id)
        if batch is None:
            raise UnknownBatch(batch_id)
        if self._ending and not batch.is_finished:
            raise ExeUnitGone(_NO_ADDRESS)
        return batch

    async def _run_batch(self, batch: Batch) -> None:
        for index, record in enumerate(batch.commands):
            batch.start_command(index)
            code, message = 0, None
            try:
                await self._execute(batch, index, record.line.command)
            except CommandFailed as error:
                code, message = error.return_code, str(error)
            batch.finish_command(index, code, message)
            if code != 0:
                return

    async def _execute(self, batch: Batch, index: int, command: Command) -> None:
        if isinstance(command, Sign):
            raise CommandFailed("ExeScript command error: the mock's runtime cannot sign")
        if isinstance(command, Terminate):
            await self._misbehave(self._faults(command.name))
            await self._reset(batch)
            return
        following = self._enter(command)
        try:
            faults = self._faults(command.name)
            await self._misbehave(faults, unless_running=isinstance(command, Run))
            match command:
                case Deploy():
                    self._deploy(batch, index, command)
                case Start():
                    await self._start_guest()
                case Run():
                    await self._run(batch, index, command, faults)
                case Transfer():
                    await self._transfer(command, faults)
        finally:
            # As the real one: the state moves on even if the command failed.
            if not self._ending:
                self._state, self._next_state = following, None

    def _enter(self, command: Command) -> State:
        """Check the life cycle; returns the state that follows."""
        pair = f"StatePair({self._state}, {self._next_state and f'Some({self._next_state})'})"
        if self._next_state is not None:
            raise CommandFailed(f"Local service error: State error: Busy: {pair}")
        allowed: dict[tuple[State, type[Command]], State] = {
            ("Initialized", Deploy): "Deployed",
            ("Deployed", Start): "Ready",
            ("Ready", Run): "Ready",
            ("Ready", Transfer): "Ready",
        }
        following = allowed.get((self._state, type(command)))
        if following is None:
            raise CommandFailed(f"Local service error: State error: Invalid state: {pair}")
        self._next_state = following
        return following

    async def _misbehave(self, faults: CommandFaults, unless_running: bool = False) -> None:
        """Hang or die as told. A `run` that dies is first started, so not here."""
        if faults.hang:
            await asyncio.Event().wait()
        if faults.die and not unless_running:
            await asyncio.sleep(faults.die_after_seconds)
            await self._vanish_from_within()

    async def _vanish_from_within(self) -> None:
        self._in_background(self.vanish())
        await asyncio.Event().wait()  # until `vanish` cancels this batch

    def _deploy(self, batch: Batch, index: int, command: Deploy) -> None:
        try:
            self._volumes.add((*self._spec.volumes, *command.volumes))
            self._spec = replace(
                self._spec, volumes=tuple(path for path, _ in self._volumes.items())
            )
        except ValueError as error:
            raise CommandFailed(f"Runtime error: {error}") from error
        self._environment = command.environment
        deployment = {
            "valid": {"Ok": ""},
            "vols": [
                {"name": folder.name, "path": path} for path, folder in self._volumes.items()
            ],
            "startMode": "blocking",
        }
        batch.add_output(index, "stdout", json.dumps(deployment, separators=(",", ":")).encode())

    async def _start_guest(self) -> None:
        assert self._isolation is not None
        sandbox = build_sandbox(self._isolation, self._spec, self._volumes.items())
        guest = GuestProcess(sandbox, self._spec.directory / "agent.log")
        try:
            await guest.start()
        except AgentDied as error:
            raise CommandFailed(f"Runtime error: {error}") from error
        self._guest = guest
        self._in_background(self._watch(guest))

    async def _run(self, batch: Batch, index: int, command: Run, faults: CommandFaults) -> None:
        assert self._guest is not None
        if faults.exit_code is not None:
            raise _exited(faults.exit_code)
        liar = faults.tamper if faults.tamper is not None and faults.tamper.consistent else None
        before = await asyncio.to_thread(self._snapshot) if liar is not None else {}
        held: list[tuple[str, bytes]] = []

        def on_output(stream: str, data: bytes) -> None:
            if liar is None:
                batch.add_output(index, stream, data)
            else:
                held.append((stream, data))

        try:
            running = await self._guest.run(command, self._environment, on_output)
            if faults.die:
                await asyncio.wait([running.exit], timeout=faults.die_after_seconds)
                await self._vanish_from_within()
            code = await running.exit
        except AgentDied:
            await asyncio.Event().wait()  # until the watcher ends the whole activity
            raise
        if liar is not None:
            output = b"".join(data for stream, data in held if stream == "stdout")
            output = await asyncio.to_thread(self._lie, before, output, liar)
            batch.add_output(index, "stdout", output)
            batch.add_output(index, "stderr", b"".join(d for s, d in held if s == "stderr"))
        if code != 0:
            raise _exited(code)

    def _snapshot(self) -> lying.Snapshot:
        return lying.take_snapshot([folder for _, folder in self._volumes.items()])

    def _lie(self, before: lying.Snapshot, output: bytes, tamper: Tamper) -> bytes:
        return lying.falsify_reported_files(before, self._snapshot(), output, tamper)

    async def _transfer(self, command: Transfer, faults: CommandFaults) -> None:
        tamper = faults.tamper
        if tamper is not None and (tamper.consistent or command.name != "transfer_out"):
            tamper = None
        await asyncio.to_thread(
            transfer, command, self._volumes, self._store, self._spec.directory, tamper
        )

    async def _reset(self, batch: Batch) -> None:
        """The `terminate` command: other batches stop, the guest ends; deploy may come again."""
        for other_id, task in self._tasks.items():
            if other_id != batch.batch_id and not task.done():
                task.cancel()
                self._batches[other_id].abandon(_CUT_OFF)
        guest, self._guest = self._guest, None
        if guest is not None:
            await guest.stop()
            self._cpu_seconds_before += guest.cpu_seconds()
        folder = self._spec.directory / "volumes"
        await asyncio.to_thread(remove_tree, folder)
        self._volumes = Volumes(folder)
        self._state, self._next_state = "Initialized", None

    async def _watch(self, guest: GuestProcess) -> None:
        """End the activity when its agent ends by itself."""
        await guest.gone.wait()
        if self._ending or guest is not self._guest:
            return
        if guest.end_reason == "memory":
            limit = self._spec.memory_bytes
            text = f"the processes of the activity held more than their {limit} bytes of memory"
            await self._end("OutOfMemory", text, vanish=False)
        else:
            await self._end("RuntimeDied", "the runtime process ended unexpectedly", vanish=False)

    async def _end(self, reason: str | None, error_message: str | None, *, vanish: bool) -> None:
        self._vanished = self._vanished or vanish
        if self._ending:
            await self._gone.wait()
            return
        self._ending = True
        self._reason, self._error_message = reason, error_message
        for batch in self._batches.values():
            batch.abandon(_CUT_OFF)
        tasks = [task for task in self._tasks.values() if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._guest is not None:
            await self._guest.stop()
        self.usage()
        self._state, self._next_state = "Terminated", None
        if self._started_at is not None:
            await asyncio.to_thread(remove_tree, self._spec.directory)
        self._gone.set()

    def _in_background(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)


def remove_tree(folder: Path) -> None:
    """Delete a folder whatever its owner did to the permissions in it."""

    def retry(function: Callable[[str], Any], path: str, error: object) -> None:
        with suppress(OSError):
            os.chmod(os.path.dirname(path), 0o700)
            if os.path.isdir(path) and not os.path.islink(path):
                os.chmod(path, 0o700)
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)

    shutil.rmtree(folder, onerror=retry)


def _exited(code: int) -> CommandFailed:
    return CommandFailed(f"ExeScript command exited with code {code}", code)
