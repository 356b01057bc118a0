"""The exe-unit's end of a guest agent: its process, and the talk with it."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from requestor.mock_golem.exe_unit.door import Door, received
from requestor.mock_golem.exe_unit.sandbox import Sandbox
from requestor.mock_golem.exe_unit.script import Run
from requestor.mock_golem.exe_unit.spec import CommandFailed
from requestor.mock_golem.exe_unit.vpn import Membership
from requestor.mock_golem.guest.processes import descendants, signal_all, tree_cpu_seconds

LONGEST_MESSAGE_BYTES = 1 << 20
STOP_SECONDS = 5.0  # an agent that has not ended everything by then is killed

OutputSink = Callable[[str, bytes], None]  # stream name ("stdout" | "stderr"), bytes


class AgentDied(Exception):
    """The agent ended while it was needed."""


class RunningCommand:
    """A command that has been handed to the agent; `exit` becomes its exit code."""

    def __init__(self, on_output: OutputSink) -> None:
        self.on_output = on_output
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()


class GuestProcess:
    """One running agent. `gone` is set once it and everything it started have ended."""

    def __init__(self, sandbox: Sandbox, log: Path) -> None:
        self._sandbox = sandbox
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self.agent_pid = 0  # as the host counts
        self._reader: asyncio.Task[None] | None = None
        self._runs: dict[int, RunningCommand] = {}
        self._run_count = 0
        self._socket_count = 0
        self._door: Door | None = None
        self._cpu_seconds = 0.0
        self.gone = asyncio.Event()
        self.end_reason: str | None = None  # "closed", "memory", or "died" once gone

    async def start(self, networks: Sequence[Membership] = ()) -> list[int]:
        """Start the agent and wait until it answers; raises `AgentDied`.

        Returns descriptors of the guest's devices in the first of the networks, as many as it
        could make; they are the caller's to close.
        """
        door = self._door = Door()
        devices = [door.expect(str(number)) for number in range(len(networks))]
        addresses = [{"address": one.address, "netmask": one.netmask} for one in networks]
        argv = self._sandbox.argv(door=door.guest_descriptor, networks=addresses)
        try:
            await self._spawn(argv, door)
        except BaseException:
            door.close(AgentDied("the guest agent was not started"))
            raise
        assert self._process is not None and self._process.stdout is not None
        greeting = await self._process.stdout.readline()
        if not greeting:
            await self._process.wait()
            self.gone.set()
            door.close(AgentDied("the guest agent died"))
            said = self._log.read_text(encoding="utf-8", errors="replace").strip()
            raise AgentDied(f"the guest agent ended at its start: {said or 'it said nothing'}")
        # Under bubblewrap as under its own guard the agent is the only child of what was started.
        self.agent_pid = descendants(self._process.pid)[0]
        self._reader = asyncio.create_task(self._read())
        return [await received(device) for device in devices[: json.loads(greeting)["devices"]]]

    async def _spawn(self, argv: Sequence[str], door: Door) -> None:
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={},
                cwd="/",
                start_new_session=True,
                limit=LONGEST_MESSAGE_BYTES,
                pass_fds=(door.guest_descriptor,),
            )
        door.close_guest_end()

    async def open_socket(self) -> socket.socket:
        """Return a new TCP socket in the guest's network, non-blocking.

        Raises `AgentDied`, and `OSError` if there can be no more.
        """
        if self.gone.is_set() or self._process is None or self._process.stdin is None:
            raise AgentDied("the guest agent is gone")
        assert self._door is not None
        self._socket_count += 1
        name = f"socket {self._socket_count}"
        expected = self._door.expect(name)
        self._process.stdin.write(json.dumps({"socket": name}).encode() + b"\n")
        made = socket.socket(fileno=await received(expected))
        made.setblocking(False)
        return made

    async def run(
        self, command: Run, environment: dict[str, str], on_output: OutputSink
    ) -> RunningCommand:
        """Start a command; returns once it really runs. Raises `CommandFailed`, `AgentDied`."""
        if self.gone.is_set() or self._process is None or self._process.stdin is None:
            raise AgentDied("the guest agent is gone")
        self._run_count += 1
        running = self._runs[self._run_count] = RunningCommand(on_output)
        request = {
            "run": self._run_count,
            "entry_point": command.entry_point,
            "args": command.args,
            "cwd": self._sandbox.working_dir,
            "environment": {**self._sandbox.environment, **environment},
            "stdout": command.stdout,
            "stderr": command.stderr,
        }
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        with suppress(ConnectionError):
            await self._process.stdin.drain()
        await running.started
        return running

    def cpu_seconds(self) -> float:
        """CPU seconds of all guest processes, ended ones included; keeps its last value."""
        if self.agent_pid and not self.gone.is_set():
            self._cpu_seconds = max(self._cpu_seconds, tree_cpu_seconds(self.agent_pid))
        return self._cpu_seconds

    async def stop(self) -> None:
        """End the agent and everything below it."""
        if self._process is None:
            return
        if not self.gone.is_set():
            self.cpu_seconds()
            if self._process.stdin is not None:
                self._process.stdin.close()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await self.gone.wait()
            except TimeoutError:
                # What watches over the agent (bubblewrap, or its guard) then ends the rest.
                signal_all([self.agent_pid], signal.SIGKILL)
                signal_all([self._process.pid], signal.SIGCONT)
                await self.gone.wait()
        if self._reader is not None:
            await asyncio.wait([self._reader])

    async def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                self._handle(json.loads(line))
        finally:
            # The pipe ends when the last holder is gone: agent, guard or bubblewrap.
            await self._process.wait()
            self.end_reason = self.end_reason or "died"
            self.gone.set()
            if self._door is not None:
                self._door.close(AgentDied("the guest agent died"))
            for running in self._runs.values():
                for future in (running.started, running.exit):
                    if not future.done():
                        future.set_exception(AgentDied("the guest agent died"))
                        future.exception()  # whoever waits still gets it; nobody has to

    def _handle(self, message: dict[str, Any]) -> None:
        if "end" in message:
            self.end_reason = message["end"]
            self._cpu_seconds = max(self._cpu_seconds, message["cpu_seconds"])
            return
        if "socket" in message:
            assert self._door is not None
            self._door.fail(message["socket"], OSError(*message["failed"]))
            return
        running = self._runs[message["run"]]
        if "started" in message:
            if not running.started.done():  # nobody waits any more: the batch was ended
                running.started.set_result(None)
        elif "failed" in message:
            del self._runs[message["run"]]
            number, text = message["failed"]
            failure = CommandFailed(f"Runtime error: {text} (os error {number})")
            running.started.set_exception(failure)
        elif "exit" in message:
            del self._runs[message["run"]]
            running.exit.set_result(message["exit"])
        else:
            for stream in ("stdout", "stderr"):
                if stream in message:
                    running.on_output(stream, base64.b64decode(message[stream]))
