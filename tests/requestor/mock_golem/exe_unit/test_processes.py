"""Whatever ends an activity, nothing of it survives."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.requestor.mock_golem.exe_unit.conftest import Activity, MakeActivity

pytestmark = pytest.mark.asyncio

# Leaves a daemon behind that did all it could to get away: new session, double fork, no parent.
DAEMONIZE = (
    'python -I -S -c "import os, time\n'
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0:\n"
    "        [os.close(fd) for fd in (0, 1, 2)]\n"
    "        open('escaped', 'w').close()\n"
    '        time.sleep(1000)"\n'
    "until [ -e escaped ]; do :; done"
)


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def is_gone(pid: int) -> bool:
    """Whether a process no longer exists, or only as an entry that its parent has to collect."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return text[text.rindex(")") + 2] in "ZX"


def marked_processes(marker: str) -> list[int]:
    """Living processes whose initial environment holds `MARKER=<marker>`."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if f"MARKER={marker}".encode() in Path(f"/proc/{name}/environ").read_bytes():
                found.append(int(name))
    return found


def parent_of(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text[text.rindex(")") + 2 :].split()[1])


async def with_daemon(activity: Activity) -> Activity:
    await activity.ready()
    result = await activity.shell(DAEMONIZE)
    assert result["result"] == "Ok", result
    await eventually(lambda: len(activity.processes()) == 1)
    return activity


async def test_background_processes_live_until_the_activity_ends(
    make_activity: MakeActivity,
) -> None:
    activity = await with_daemon(await make_activity())
    await activity.shell("true")
    assert len(activity.processes()) == 1
    agent = activity.agent
    await activity.unit.terminate()
    assert activity.processes() == []
    assert is_gone(agent)


async def test_vanishing_leaves_nothing(make_activity: MakeActivity) -> None:
    activity = await with_daemon(await make_activity())
    await activity.unit.vanish()
    assert activity.processes() == []


async def test_a_crowd_that_keeps_forking_is_ended(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    breed = "while :; do setsid sh -c 'sleep 0.01; :' & sleep 0.002; done"
    await activity.shell(f"({breed}) > /dev/null 2>&1 & ({breed}) > /dev/null 2>&1 &")
    await eventually(lambda: len(activity.processes()) > 5)
    await activity.unit.terminate()
    assert activity.processes() == []


async def test_stopped_and_stubborn_processes_are_ended(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    await activity.shell(
        "sleep 1000 > /dev/null 2>&1 & kill -STOP $!; "
        "(trap '' TERM HUP INT; while :; do sleep 1; done) > /dev/null 2>&1 &"
    )
    await eventually(lambda: len(activity.processes()) >= 2)
    await activity.unit.terminate()
    assert activity.processes() == []


@pytest.mark.parametrize("victim", ["agent", "its parent"])
async def test_kill_9_of_the_agent_or_its_guard(make_activity: MakeActivity, victim: str) -> None:
    activity = await with_daemon(await make_activity())
    agent = activity.agent
    waiting = activity.begin(
        {"run": {"entry_point": "/bin/sleep", "args": ["1000"], "capture": {}}}
    )
    os.kill(agent if victim == "agent" else parent_of(agent), signal.SIGKILL)
    with pytest.raises(Exception, match="Service receiver was cancelled"):
        await activity.unit.results(waiting, 60.0)
    await activity.unit.wait_gone()
    await eventually(lambda: activity.processes() == [] and is_gone(agent))
    assert activity.unit.state == "Terminated"
    assert activity.unit.reason == "RuntimeDied"


async def test_a_stopped_agent_does_not_hold_up_the_end(
    make_activity: MakeActivity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("requestor.mock_golem.exe_unit.guest_process.STOP_SECONDS", 0.1)
    activity = await with_daemon(await make_activity())
    agent = activity.agent
    for pid in (agent, parent_of(agent)):
        os.kill(pid, signal.SIGSTOP)
    await activity.unit.terminate()
    assert activity.processes() == []


async def test_termination_in_the_middle_of_starting(make_activity: MakeActivity) -> None:
    for rounds in range(8):
        activity = await make_activity()
        activity.begin({"deploy": {}}, {"start": {}})
        for _ in range(rounds):
            await asyncio.sleep(0.002)
        await activity.unit.terminate()
        assert activity.unit.agent_pid is None
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        assert [pid for pid in children if not is_gone(int(pid))] == []


async def test_a_cancelled_caller_does_not_stop_the_end(make_activity: MakeActivity) -> None:
    activity = await with_daemon(await make_activity())
    ending = asyncio.create_task(activity.unit.terminate())
    await asyncio.sleep(0)
    ending.cancel()
    await activity.unit.wait_gone()
    assert activity.processes() == []


async def test_unreadable_folders_are_removed(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    await activity.shell("mkdir -p a/b; touch a/b/c; chmod 0 a/b/c a/b a")
    await activity.unit.terminate()
    assert not (activity.folder / "activities" / "0").exists()


async def test_too_much_memory_ends_the_activity(make_activity: MakeActivity) -> None:
    activity = await (await make_activity(memory_bytes=64 << 20)).ready()
    assert (await activity.shell("true"))["result"] == "Ok"
    batch_id = activity.begin(
        {
            "run": {
                "entry_point": "/bin/sh",
                "args": ["-c", "python -I -S -c 'x = bytearray(b\"x\") * (256 << 20); input()'"],
            }
        }
    )
    with pytest.raises(Exception, match="Service receiver was cancelled"):
        await activity.unit.results(batch_id, 60.0)
    await activity.unit.wait_gone()
    assert activity.unit.state == "Terminated"
    assert activity.unit.reason == "OutOfMemory"
    assert str(64 << 20) in (activity.unit.error_message or "")
    assert activity.processes() == []


HOLDER = textwrap.dedent(
    """
    import asyncio, json, sys
    from pathlib import Path
    from requestor.mock_golem.exe_unit import CommandFaults, ContainerSpec, ExeUnit
    from requestor.mock_golem.gftp import GftpStore

    async def main():
        folder, isolation, environment, script, pace = json.loads(sys.argv[1])
        spec = ContainerSpec(Path(folder) / "activity", environment=environment,
                             isolation=isolation, pace=pace)
        unit = ExeUnit(spec, GftpStore(Path(folder)), lambda name: CommandFaults())
        await unit.initialize()
        run = {"entry_point": "/bin/sh", "args": ["-c", script]}
        unit.execute("b", [{"deploy": {}}, {"start": {}}, {"run": run}])
        await unit.results("b", 60.0, 2)
        unit.execute("c", [{"run": {"entry_point": "/bin/sleep", "args": ["1000"]}}])
        print(unit.agent_pid, flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
    """
)


@pytest.mark.parametrize("pace", [1.0, 0.1])
async def test_nothing_survives_kill_9_of_the_daemon(
    tmp_path: Path, isolation: str, pace: float
) -> None:
    marker = os.urandom(8).hex()
    path = f"{os.path.dirname(sys.executable)}:/usr/bin:/bin"
    arguments = json.dumps(
        [os.fspath(tmp_path), isolation, {"PATH": path, "MARKER": marker}, DAEMONIZE, pace]
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, arguments], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    agent = int(await asyncio.to_thread(holder.stdout.readline))
    guard = parent_of(agent)
    await eventually(lambda: len(marked_processes(marker)) == 2)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    await eventually(lambda: marked_processes(marker) == [] and is_gone(agent) and is_gone(guard))
