"""Every fault of a command, on real activities."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from requestor.mock_golem.exe_unit import CommandFaults, ExeUnitGone, Tamper

if TYPE_CHECKING:
    from tests.requestor.mock_golem.exe_unit.conftest import MakeActivity

pytestmark = pytest.mark.asyncio

DEPLOY: dict[str, Any] = {"deploy": {}}
START: dict[str, Any] = {"start": {"args": []}}


def only(name: str, faults: CommandFaults) -> Callable[[str], CommandFaults]:
    return lambda asked: faults if asked == name else CommandFaults()


def shell(script: str) -> dict[str, Any]:
    capture: dict[str, Any] = {"stdout": {"stream": {}}, "stderr": {"stream": {}}}
    return {"run": {"entry_point": "/bin/sh", "args": ["-c", script], "capture": capture}}


async def test_faults_are_asked_once_per_command_by_name(make_activity: MakeActivity) -> None:
    asked: list[str] = []

    def faults(name: str) -> CommandFaults:
        asked.append(name)
        return CommandFaults()

    activity = await (await make_activity(faults)).ready()
    url, _ = activity.receive()
    await activity.execute(
        {"transfer": {"from": activity.publish(b"x"), "to": "container:/golem/work/x"}},
        shell("true"),
        {"transfer": {"from": "container:/golem/work/x", "to": url}},
        {"terminate": {}},
    )
    assert asked == ["deploy", "start", "transfer_in", "run", "transfer_out", "terminate"]


@pytest.mark.parametrize("name", ["deploy", "start", "run", "terminate"])
async def test_hang(make_activity: MakeActivity, name: str) -> None:
    activity = await make_activity(only(name, CommandFaults(hang=True)))
    commands = [DEPLOY, START, shell("touch started"), {"terminate": {}}]
    position = ["deploy", "start", "run", "terminate"].index(name)
    batch_id = activity.begin(*commands)
    if position:
        await activity.unit.results(batch_id, 60.0, position - 1)
    with pytest.raises(TimeoutError):
        await activity.unit.results(batch_id, 0.1, position)
    assert list(activity.folder.glob("activities/0/volumes/0/started")) == (
        [] if position < 3 else [activity.folder / "activities/0/volumes/0/started"]
    )


async def test_exit_code(make_activity: MakeActivity) -> None:
    activity = await (await make_activity(only("run", CommandFaults(exit_code=9)))).ready()
    results = await activity.execute(shell("touch started"), shell("true"))
    assert len(results) == 1
    assert results[0]["message"] == "ExeScript command exited with code 9"
    assert list(activity.folder.glob("activities/0/volumes/0/*")) == []


@pytest.mark.parametrize("name", ["deploy", "start", "transfer_in", "transfer_out"])
async def test_death_in_mid_command(make_activity: MakeActivity, name: str) -> None:
    activity = await make_activity(only(name, CommandFaults(die=True)))
    url, arrived = activity.receive()
    batch_id = activity.begin(
        DEPLOY,
        START,
        {"transfer": {"from": activity.publish(b"x"), "to": "container:/golem/work/x"}},
        {"transfer": {"from": "container:/golem/work/x", "to": url}},
    )
    with pytest.raises(ExeUnitGone, match="Service receiver was cancelled"):
        await activity.unit.results(batch_id, 60.0, 3)
    await activity.unit.wait_gone()
    assert activity.unit.has_vanished
    assert arrived.read_bytes() == b""
    with pytest.raises(ExeUnitGone, match="endpoint address not found"):
        await activity.unit.results(batch_id, 0.0)


@pytest.mark.parametrize(
    ("script", "seconds"), [("touch started; sleep 1000", 1.5), ("touch started", 60.0)]
)
async def test_a_run_that_dies_has_really_started(
    make_activity: MakeActivity, script: str, seconds: float
) -> None:
    death = CommandFaults(die=True, die_after_seconds=seconds)
    activity = await (await make_activity(only("run", death))).ready()
    started = activity.folder / "activities/0/volumes/0/started"
    batch_id = activity.begin(shell(script))
    waiting = asyncio.create_task(activity.unit.results(batch_id, 90.0))
    while not waiting.done() and not started.exists():
        await asyncio.sleep(0.002)
    assert started.exists()
    with pytest.raises(ExeUnitGone):
        await waiting
    await activity.unit.wait_gone()
    assert activity.processes() == []


async def test_tampered_transfer(make_activity: MakeActivity) -> None:
    tamper = Tamper("corrupt", seed=1)
    activity = await (await make_activity(lambda name: CommandFaults(tamper=tamper))).ready()
    url, arrived = activity.receive()
    results = await activity.execute(
        {"transfer": {"from": activity.publish(b"honest"), "to": "container:/golem/work/x"}},
        shell("sha256sum x"),
        {"transfer": {"from": "container:/golem/work/x", "to": url}},
        shell("cat x"),
    )
    assert results[1]["stdout"].split()[0] == hashlib.sha256(b"honest").hexdigest()
    assert arrived.read_bytes() != b"honest" and len(arrived.read_bytes()) == 6
    assert results[3]["stdout"] == "honest"


async def test_huge_transfer_is_sparse(make_activity: MakeActivity) -> None:
    tamper = Tamper("huge", huge_bytes=20 << 30)
    activity = await (
        await make_activity(only("transfer_out", CommandFaults(tamper=tamper)))
    ).ready()
    url, arrived = activity.receive()
    (_, sent) = await activity.execute(
        shell("echo small > x"), {"transfer": {"from": "container:/golem/work/x", "to": url}}
    )
    assert sent["result"] == "Ok"
    assert arrived.stat().st_size == 20 << 30
    assert arrived.stat().st_blocks * 512 < 1 << 20


async def test_consistent_liar(make_activity: MakeActivity) -> None:
    tamper = Tamper("corrupt", seed=1, consistent=True)
    activity = await (await make_activity(lambda name: CommandFaults(tamper=tamper))).ready()
    url, arrived = activity.receive()
    honest = hashlib.sha256(b"result").hexdigest()
    (ran, sent) = await activity.execute(
        shell("printf result > x; sha256sum x; echo note >&2"),
        {"transfer": {"from": "container:/golem/work/x", "to": url}},
    )
    assert sent["result"] == "Ok"
    reported = ran["stdout"].split()[0]
    assert reported != honest
    assert hashlib.sha256(arrived.read_bytes()).hexdigest() == reported
    assert ran["stderr"] == "note\n"
