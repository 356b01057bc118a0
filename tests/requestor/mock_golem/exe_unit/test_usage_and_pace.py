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
    from tests.requestor.mock_golem.exe_unit.conftest import Activity, MakeActivity

# Uses 0.12 CPU seconds and prints how long that took, and how much it was.
BURN = (
    "python -I -S -c 'import time\n"
    "begin = time.monotonic()\n"
    "while time.process_time() < 0.12: pass\n"
    "print(time.monotonic() - begin, time.process_time())'"
)
IN_BACKGROUND = f"(setsid {BURN} > out) & until [ -s out ]; do sleep 0.01; done; cat out; rm out"


async def burn(activity: Activity, script: str = BURN) -> tuple[float, float]:
    """Burn CPU time; return how long it took and how much it was, both in seconds."""
    result = await activity.shell(script)
    elapsed, used = map(float, result["stdout"].split())
    return elapsed, used


@pytest.mark.asyncio
async def test_cpu_time_counts_children_orphans_and_the_living(
    make_activity: MakeActivity,
) -> None:
    activity = await (await make_activity()).ready()
    idle = activity.unit.usage().cpu_seconds
    assert idle == 0.0, "the agent's own time is not the requestor's to pay"
    _, used = await burn(activity)
    child = activity.unit.usage().cpu_seconds
    # neither forgotten nor counted twice; the shell around it, and clock ticks, come on top
    assert 0.8 * used <= child < 1.8 * used
    assert await activity.shell(f"(setsid {BURN} > orphan) & until [ -s orphan ]; do :; done")
    orphan = activity.unit.usage().cpu_seconds
    assert orphan >= child + 0.1
    await activity.shell("(while :; do :; done) > /dev/null 2>&1 &")
    async with asyncio.timeout(60):
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


async def expect_five_times_as_long(usual: Activity, slow: Activity, script: str) -> float:
    """Fail if the work never takes about five times as long; return the CPU seconds it took.

    Others on the machine disturb both sides of a comparison, so it may be repeated.
    """
    ratios: list[float] = []
    burnt_seconds = 0.0
    while not any(3.0 < ratio < 9.0 for ratio in ratios):
        assert len(ratios) < 8, ratios
        elapsed, _ = await burn(usual, script)
        slowed, used = await burn(slow, script)
        burnt_seconds += used
        ratios.append(slowed / elapsed)
    return burnt_seconds


@pytest.mark.asyncio
async def test_a_pace_of_a_fifth_makes_work_take_five_times_as_long(
    make_activity: MakeActivity,
) -> None:
    slow = await (await make_activity(pace=0.2)).ready()
    used = await expect_five_times_as_long(await (await make_activity()).ready(), slow, BURN)
    assert slow.unit.usage().cpu_seconds < 1.8 * used, "slow is not the same as expensive"


@pytest.mark.asyncio
async def test_background_work_is_slowed_too(make_activity: MakeActivity) -> None:
    slow = await (await make_activity(pace=0.2)).ready()
    await expect_five_times_as_long(await (await make_activity()).ready(), slow, IN_BACKGROUND)


@pytest.mark.asyncio
async def test_waiting_is_not_slowed(make_activity: MakeActivity) -> None:
    elapsed = []
    for pace in (1.0, 0.05):
        activity = await (await make_activity(pace=pace)).ready()
        begin = time.monotonic()
        assert (await activity.shell("sleep 0.5"))["result"] == "Ok"
        elapsed.append(time.monotonic() - begin)
    usual, slow = elapsed
    assert slow < usual + 5, "a slowed sleep would take 10 s"


@pytest.mark.parametrize("pace", [0.0, -1.0, 1.5])
def test_impossible_paces_are_refused(tmp_path: Path, pace: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        ContainerSpec(tmp_path, pace=pace)


@pytest.mark.parametrize("path", ["golem/work", "/", "/golem/../etc", ""])
def test_impossible_volumes_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="no absolute path"):
        ContainerSpec(tmp_path, volumes=(path,))
