"""What is measured for the bill, and slowness that is real."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from requestor.mock_golem.exe_unit import CommandFaults, ContainerSpec, ExeUnit
from requestor.mock_golem.gftp import GftpStore

if TYPE_CHECKING:
    from tests.requestor.mock_golem.exe_unit.conftest import MakeActivity

# Uses 0.12 CPU seconds and prints how long that took.
BURN = (
    "python -I -S -c 'import time\n"
    "begin = time.monotonic()\n"
    "while time.process_time() < 0.12: pass\n"
    "print(time.monotonic() - begin)'"
)


@pytest.mark.asyncio
async def test_cpu_time_counts_children_orphans_and_the_living(
    make_activity: MakeActivity,
) -> None:
    activity = await (await make_activity()).ready()
    idle = activity.unit.usage().cpu_seconds
    assert idle < 0.05, "the agent's own time is not the requestor's to pay"
    assert (await activity.shell(BURN))["result"] == "Ok"
    child = activity.unit.usage().cpu_seconds
    assert 0.1 <= child < 0.4
    assert await activity.shell(f"(setsid {BURN} > orphan) & until [ -s orphan ]; do :; done")
    orphan = activity.unit.usage().cpu_seconds
    assert orphan >= child + 0.1
    await activity.shell("(while :; do :; done) > /dev/null 2>&1 &")
    async with asyncio.timeout(20):
        while activity.unit.usage().cpu_seconds < orphan + 0.1:
            await asyncio.sleep(0.01)
    before = activity.unit.usage()
    await activity.unit.terminate()
    after = activity.unit.usage()
    assert after.cpu_seconds >= before.cpu_seconds
    assert after.duration_seconds >= before.duration_seconds
    assert activity.unit.usage() == after, "it stands still after the end"


@pytest.mark.asyncio
async def test_cpu_time_survives_kill_9_and_the_terminate_command(
    make_activity: MakeActivity,
) -> None:
    activity = await (await make_activity()).ready()
    await activity.shell(BURN)
    await activity.execute({"terminate": {}})
    first = activity.unit.usage().cpu_seconds
    assert first >= 0.1
    await activity.ready()
    await activity.shell(BURN)
    second = activity.unit.usage().cpu_seconds
    assert second >= first + 0.1
    os.kill(activity.agent, 9)
    await activity.unit.wait_gone()
    assert activity.unit.usage().cpu_seconds >= second


@pytest.mark.asyncio
async def test_duration_runs_by_the_given_clock_until_the_end(tmp_path: Path) -> None:
    now = 100.0
    unit = ExeUnit(
        ContainerSpec(tmp_path / "activity", isolation="process"),
        GftpStore(tmp_path),
        lambda name: CommandFaults(),
        clock=lambda: now,
    )
    now = 200.0
    assert unit.usage().duration_seconds == 0.0
    await unit.initialize()
    now = 207.5
    assert unit.usage().duration_seconds == 7.5
    now = 207.0
    assert unit.usage().duration_seconds == 7.5, "it never falls"
    now = 210.0
    await unit.terminate()
    now = 300.0
    assert unit.usage().duration_seconds == 10.0


@pytest.mark.asyncio
async def test_a_pace_of_a_fifth_makes_work_take_five_times_as_long(
    make_activity: MakeActivity,
) -> None:
    activity = await (await make_activity(pace=0.2)).ready()
    seconds = float((await activity.shell(BURN))["stdout"])
    # A busy machine makes the work itself slower, so only the lower bound is sharp.
    assert 3.5 * 0.12 < seconds < 30 * 0.12
    assert activity.unit.usage().cpu_seconds < 0.4, "slow is not the same as expensive"


@pytest.mark.asyncio
async def test_background_work_is_slowed_too(make_activity: MakeActivity) -> None:
    activity = await (await make_activity(pace=0.2)).ready()
    result = await activity.shell(
        f"(setsid {BURN} > out) & until [ -s out ]; do sleep 0.01; done; cat out"
    )
    assert float(result["stdout"]) > 3.5 * 0.12


@pytest.mark.asyncio
async def test_waiting_is_not_slowed(make_activity: MakeActivity) -> None:
    activity = await (await make_activity(pace=0.05)).ready()
    begin = time.monotonic()
    assert (await activity.shell("sleep 0.3"))["result"] == "Ok"
    assert time.monotonic() - begin < 0.3 * 5


@pytest.mark.parametrize("pace", [0.0, -1.0, 1.5])
def test_impossible_paces_are_refused(tmp_path: Path, pace: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        ContainerSpec(tmp_path, pace=pace)


@pytest.mark.parametrize("path", ["golem/work", "/", "/golem/../etc", ""])
def test_impossible_volumes_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="no absolute path"):
        ContainerSpec(tmp_path, volumes=(path,))
