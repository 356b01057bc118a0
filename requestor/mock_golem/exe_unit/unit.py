"""The exe-unit: the life of one activity, from its creation to its end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Literal

from requestor.mock_golem.exe_unit.batch import Batch
from requestor.mock_golem.exe_unit.container import Container, Means
from requestor.mock_golem.exe_unit.guest_process import AgentDied, GuestProcess
from requestor.mock_golem.exe_unit.sandbox import ActiveIsolation, choose_isolation
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
    UnknownBatch,
    Usage,
)
from requestor.mock_golem.exe_unit.vpn import Fabric, NoFabric
from requestor.mock_golem.gftp import GftpStore
from requestor.mock_golem.images.library import ImageLibrary

State = Literal["New", "Initialized", "Deployed", "Ready", "Terminated"]

_CUT_OFF = "Service receiver was cancelled"  # to those who wait when the end comes
_NO_ADDRESS = "endpoint address not found"  # to those who come later
_FOLLOWING_STATE: dict[tuple[State, type[Command]], State] = {
    ("Initialized", Deploy): "Deployed",
    ("Deployed", Start): "Ready",
    ("Ready", Run): "Ready",
    ("Ready", Transfer): "Ready",
}


def _utc_now() -> datetime:
    return datetime.now(UTC)


class ExeUnit:
    """Executes scripts in a container of its own.

    `faults` is asked once per command, by name (`deploy`, `start`, `run`, `transfer_in`,
    `transfer_out`, `terminate`), just before it is executed. `clock` (seconds, never falling)
    measures the duration that is billed, `now` dates results. `fabric` carries the packets of
    virtual networks. `library` has the images; without one, each container has its own for itself.

    A command in an image on disk, without any daemon (`folder` must not exist yet)::

        store = GftpStore(Path("gftp"))
        spec = ContainerSpec(Path("folder"), image=Path("derl-native.gvmi"))
        unit = ExeUnit(spec, store, lambda name: CommandFaults())
        await unit.initialize()  # IsolationError: bubblewrap is missing
        stream = {"stdout": {"stream": {}}, "stderr": {"stream": {}}}
        run = {"entry_point": "/bin/sh", "args": ["-c", "echo hello"], "capture": stream}
        unit.execute("batch", [{"deploy": {}}, {"start": {}}, {"run": run}])
        results = await unit.results("batch", 60.0, command_index=2)  # TimeoutError
        print(results[-1]["result"], results[-1]["stdout"], results[-1]["message"])
        print(unit.usage().cpu_seconds)
        await unit.terminate()  # always: ends all processes, unmounts, deletes the folder

    A `transfer` command moves files into and out of volumes: `{"transfer": {"from":
    GftpServer(Path("gftp"), "0x" + "0" * 40).publish([path])[0]["url"], "to":
    "container:/golem/work/x"}}`, and back to the `url` of its `receive(path)`.
    """

    def __init__(
        self,
        spec: ContainerSpec,
        store: GftpStore,
        faults: Callable[[str], CommandFaults],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _utc_now,
        fabric: Fabric | None = None,
        library: ImageLibrary | None = None,
    ) -> None:
        self._spec = spec
        self._means = Means(store, fabric or NoFabric(), library)
        self._faults = faults
        self._clock = clock
        self._now = now
        self._state: State = "New"
        self._next_state: State | None = None
        self._reason: str | None = None
        self._error_message: str | None = None
        self._isolation: ActiveIsolation | None = None
        self._container: Container | None = None
        self._batches: dict[str, Batch] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._started_at = 0.0
        self._usage = Usage(0.0, 0.0)
        self._is_ending = False
        self._has_vanished = False
        self._gone = asyncio.Event()

    @property
    def state(self) -> State:
        """The state of the life cycle as yagna spells it."""
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
        return self._has_vanished

    @property
    def agent_pid(self) -> int | None:
        """Process id of the guest agent while there is one, else None."""
        guest = self._container.guest if self._container is not None else None
        return guest.agent_pid if guest is not None else None

    async def initialize(self) -> None:
        """Take the scratch folder and choose the isolation: New -> Initialized.

        Raises `IsolationError`, and `OSError` if the folder exists or cannot be made.
        """
        if self._state != "New":
            raise RuntimeError(f"initialize in state {self._state}")
        own_root = self._spec.image is not None
        isolation = await asyncio.to_thread(
            choose_isolation, self._spec.isolation, own_root=own_root
        )
        self._container = Container(self._spec, isolation, self._means)
        self._isolation = isolation
        self._started_at = self._clock()
        self._state = "Initialized"

    def execute(self, batch_id: str, commands: list[dict[str, Any]]) -> None:
        """Start a script in the background; raises `ExeScriptError`, `ExeUnitGone`."""
        if self._is_ending:
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

    def running_commands(self) -> list[dict[str, Any]]:
        """The command at which each unfinished batch is, as a requestor may ask for it."""
        return [
            batch.running_command()
            for batch_id, batch in self._batches.items()
            if not batch.is_finished and not self._tasks[batch_id].done()
        ]

    def is_in_network(self, network_id: str, address: str) -> bool:
        """Whether the activity was deployed as this address of a virtual network."""
        networks = () if self._container is None else self._container.networks
        return any((one.network_id, one.address) == (network_id, address) for one in networks)

    async def connect(self, network_id: str, port: int) -> socket.socket:
        """Connect to a TCP port of a program in the activity; returns a non-blocking socket.

        Raises `OSError`, among them `TimeoutError`, and `ExeUnitGone`.
        """
        if self._is_ending or self._container is None:
            raise ExeUnitGone(_NO_ADDRESS)
        try:
            return await self._container.connect(network_id, port)
        except AgentDied as error:
            raise ExeUnitGone(_NO_ADDRESS) from error

    def usage(self) -> Usage:
        """What the activity has used; keeps its last value after the end."""
        if self._container is not None and not self._gone.is_set():
            self._usage = Usage(
                max(self._usage.cpu_seconds, self._container.cpu_seconds()),
                max(self._usage.duration_seconds, self._clock() - self._started_at),
            )
        return self._usage

    async def terminate(self, reason: str | None = None, error_message: str | None = None) -> None:
        """End the activity: everything it started is dead and its folder gone on return."""
        await self._end(reason, error_message)

    async def vanish(self) -> None:
        """The provider's machine dies: from now on every call raises `ExeUnitGone`."""
        self._has_vanished = True
        await self._end(None, None)

    async def wait_gone(self) -> None:
        """Wait until the activity has ended, for whatever reason, and nothing is left of it."""
        await self._gone.wait()

    def _batch(self, batch_id: str) -> Batch:
        if self._has_vanished:
            raise ExeUnitGone(_NO_ADDRESS)
        batch = self._batches.get(batch_id)
        if batch is None:
            raise UnknownBatch(batch_id)
        if self._is_ending and not batch.is_finished:
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
            except OSError as error:  # the disk is full, no more processes, …
                code, message = -1, f"Runtime error: {error}"
            batch.finish_command(index, code, message)
            if code != 0:
                return

    async def _execute(self, batch: Batch, index: int, command: Command) -> None:
        if isinstance(command, Sign):
            raise CommandFailed("ExeScript command error: the mock's runtime cannot sign")
        if isinstance(command, Terminate):
            await self._hang_or_die(self._faults(command.name))
            await self._reset(batch)
            return
        following = self._enter(command)
        try:
            await self._execute_stateful(batch, index, command)
        finally:
            # As the real one: the state moves on even if the command failed.
            if not self._is_ending:
                self._state, self._next_state = following, None

    async def _execute_stateful(self, batch: Batch, index: int, command: Command) -> None:
        assert self._container is not None  # there is no state to enter without
        faults = self._faults(command.name)
        if not (isinstance(command, Run) and faults.die):
            await self._hang_or_die(faults)
        match command:
            case Deploy():
                progress = batch.progress(index, command.progress_seconds)
                deployment = await self._container.deploy(command, progress)
                batch.add_output(index, "stdout", deployment)
            case Start():
                guest = await self._container.start()
                self._in_background(self._watch(guest))
            case Run():
                await self._run(self._container, batch, index, faults)
            case Transfer():
                tamper = faults.tamper
                if tamper is not None and (tamper.consistent or command.name != "transfer_out"):
                    tamper = None
                progress = batch.progress(index, command.progress_seconds)
                await self._container.transfer(command, tamper, progress)

    def _enter(self, command: Command) -> State:
        """Check the life cycle; returns the state that follows."""
        pair = f"StatePair({self._state}, {self._next_state and f'Some({self._next_state})'})"
        if self._next_state is not None:
            raise CommandFailed(f"Local service error: State error: Busy: {pair}")
        following = _FOLLOWING_STATE.get((self._state, type(command)))
        if following is None:
            raise CommandFailed(f"Local service error: State error: Invalid state: {pair}")
        self._next_state = following
        return following

    async def _run(
        self, container: Container, batch: Batch, index: int, faults: CommandFaults
    ) -> None:
        command = batch.commands[index].line.command
        assert isinstance(command, Run)
        if faults.exit_code is not None:
            raise _exited(faults.exit_code)
        liar = faults.tamper if faults.tamper is not None and faults.tamper.consistent else None
        before = await container.snapshot() if liar is not None else {}
        held = {"stdout": b"", "stderr": b""}

        def on_output(stream: str, data: bytes) -> None:
            if liar is None:
                batch.add_output(index, stream, data)
            else:
                held[stream] += data

        try:
            running = await container.run(command, on_output)
            if faults.die:
                await asyncio.wait([running.exit], timeout=faults.die_after_seconds)
                await self._vanish_from_within()
            code = await running.exit
        except AgentDied:
            await asyncio.Event().wait()  # until the watcher ends the whole activity
            raise
        if liar is not None:
            held["stdout"] = await container.falsify(before, held["stdout"], liar)
            for stream, data in held.items():
                batch.add_output(index, stream, data)
        if code != 0:
            raise _exited(code)

    async def _hang_or_die(self, faults: CommandFaults) -> None:
        if faults.hang:
            await asyncio.Event().wait()
        if faults.die:
            await asyncio.sleep(faults.die_after_seconds)
            await self._vanish_from_within()

    async def _vanish_from_within(self) -> None:
        self._in_background(self.vanish())
        await asyncio.Event().wait()  # until `vanish` cancels this batch

    async def _reset(self, batch: Batch) -> None:
        """The `terminate` command: other batches stop, the guest ends; deploy may come again."""
        if self._container is None:
            raise CommandFailed("Local service error: State error: Invalid state: New")
        await self._cancel_batches(spared=batch)
        await self._container.reset()
        self._state, self._next_state = "Initialized", None

    async def _watch(self, guest: GuestProcess) -> None:
        """End the activity when its agent ends by itself."""
        await guest.gone.wait()
        if self._is_ending or self._container is None or guest is not self._container.guest:
            return
        if guest.end_reason == "memory":
            limit = self._spec.memory_bytes
            text = f"the processes of the activity held more than their {limit} bytes of memory"
            await self._end("OutOfMemory", text)
        else:
            await self._end("RuntimeDied", "the runtime process ended unexpectedly")

    async def _end(self, reason: str | None, error_message: str | None) -> None:
        """End once; a caller that is cancelled does not stop it."""
        if not self._is_ending:
            self._is_ending = True
            self._reason, self._error_message = reason, error_message
            self._in_background(self._tear_down())
        await self._gone.wait()

    async def _tear_down(self) -> None:
        try:
            await self._cancel_batches()
            if self._container is not None:
                await self._container.remove()
        finally:
            self.usage()
            self._state, self._next_state = "Terminated", None
            self._gone.set()

    async def _cancel_batches(self, spared: Batch | None = None) -> None:
        cancelled = []
        for batch_id, task in self._tasks.items():
            batch = self._batches[batch_id]
            if batch is not spared and not task.done():
                batch.abandon(_CUT_OFF)
                task.cancel()
                cancelled.append(task)
        if cancelled:
            await asyncio.wait(cancelled)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _exited(code: int) -> CommandFailed:
    return CommandFailed(f"ExeScript command exited with code {code}", code)
