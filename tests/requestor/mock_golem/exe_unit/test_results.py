"""What pollers and streams are told, and when."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from requestor.mock_golem.exe_unit import CommandFaults, ExeUnitGone, UnknownBatch
from requestor.mock_golem.exe_unit.batch import Batch
from requestor.mock_golem.exe_unit.script import parse_script

if TYPE_CHECKING:
    from tests.requestor.mock_golem.exe_unit.conftest import MakeActivity

pytestmark = pytest.mark.asyncio

NOON = datetime(2030, 1, 2, 12, 0, 0, 123, tzinfo=UTC)
TRUE = {"run": {"entry_point": "/bin/true", "args": []}}


def new_batch(count: int = 2, capture: dict[str, Any] | None = None) -> Batch:
    command = {"run": {"entry_point": "/bin/true", "args": [], "capture": capture or {}}}
    return Batch("b1", parse_script([command] * count), lambda: NOON)


async def test_results_are_cumulative_and_come_when_there_is_news() -> None:
    batch = new_batch(2)
    first = asyncio.create_task(batch.results(1000.0, None))
    await asyncio.sleep(0)
    assert not first.done()
    batch.finish_command(0, 0, None)
    assert [result["index"] for result in await first] == [0]
    second = asyncio.create_task(batch.results(1000.0, None))
    await asyncio.sleep(0)
    assert not second.done(), "nothing new: it must not answer early"
    batch.finish_command(1, 0, None)
    results = await second
    assert [result["index"] for result in results] == [0, 1]
    assert [result["isBatchFinished"] for result in results] == [False, True]
    assert results[0]["eventDate"] == "2030-01-02T12:00:00.000123Z"
    assert await batch.results(1000.0, None) == results


async def test_without_news_the_old_results_come_when_the_time_is_up() -> None:
    batch = new_batch(2)
    assert await batch.results(0.0, None) == []
    batch.finish_command(0, 0, None)
    assert len(await batch.results(0.0, None)) == 1
    assert len(await batch.results(0.0, None)) == 1


async def test_a_command_index_waits_for_that_command() -> None:
    batch = new_batch(3)
    batch.finish_command(0, 0, None)
    with pytest.raises(TimeoutError):
        await batch.results(0.0, 1)
    waiting = asyncio.create_task(batch.results(1000.0, 1))
    await asyncio.sleep(0)
    assert not waiting.done()
    batch.finish_command(1, 0, None)
    assert [result["index"] for result in await waiting] == [0, 1]
    assert [result["isBatchFinished"] for result in await waiting] == [False, True]


async def test_a_failed_batch_is_finished() -> None:
    batch = new_batch(2)
    batch.finish_command(0, 7, "broken")
    (result,) = await batch.results(1000.0, 1)
    assert result["result"] == "Error"
    assert (result["message"], result["isBatchFinished"]) == ("broken", True)


async def test_waiting_callers_are_cut_off_when_the_unit_ends(make_activity: MakeActivity) -> None:
    activity = await make_activity(lambda name: CommandFaults(hang=name == "start"))
    batch_id = activity.begin({"deploy": {}}, {"start": {}})
    waiting = asyncio.create_task(activity.unit.results(batch_id, 1000.0, 1))

    async def listen() -> None:
        async for _ in activity.unit.events(batch_id):
            pass

    listening = asyncio.create_task(listen())
    assert len(await activity.unit.results(batch_id, 1000.0)) == 1
    await activity.unit.terminate()
    for task in (waiting, listening):
        with pytest.raises(ExeUnitGone, match="Service receiver was cancelled"):
            await task
    with pytest.raises(ExeUnitGone, match="endpoint address not found"):
        await activity.unit.results(batch_id, 1000.0)


async def test_unknown_batches(make_activity: MakeActivity) -> None:
    activity = await make_activity()
    with pytest.raises(UnknownBatch):
        await activity.unit.results("none", 0.0)
    with pytest.raises(UnknownBatch):
        activity.unit.events("none")


async def test_events_tell_the_whole_story_to_late_listeners_too(
    make_activity: MakeActivity,
) -> None:
    activity = await (await make_activity()).ready()
    command = {
        "run": {
            "entry_point": "/bin/sh",
            "args": ["-c", "echo out; exit 3"],
            "capture": {"stdout": {"stream": {}}, "stderr": {"stream": {}}},
        }
    }
    batch_id = activity.begin(command, TRUE)
    early = asyncio.create_task(_all_events(activity.unit, batch_id))
    await activity.finish(batch_id)
    events = await _all_events(activity.unit, batch_id)
    assert await early == events
    assert {(event["batch_id"], event["index"]) for event in events} == {(batch_id, 0)}
    assert [event["kind"] for event in events] == [
        {"started": {"command": command}},
        {"stdout": "out\n"},
        {"finished": {"return_code": 3, "message": "ExeScript command exited with code 3"}},
    ]
    assert all(datetime.fromisoformat(event["timestamp"]) for event in events)


async def _all_events(unit: Any, batch_id: str) -> list[dict[str, Any]]:
    return [event async for event in unit.events(batch_id)]


@pytest.mark.parametrize(
    ("mode", "expected", "streamed"),
    [
        (None, None, None),
        ({"stream": {}}, "0123456789", "0123456789"),
        ({"stream": {"limit": 4}}, "0123", "0123"),
        ({"stream": {"limit": 3, "format": "bin"}}, [48, 49, 50], [48, 49, 50]),
        ({"atEnd": {}}, "0123456789", None),
        ({"atEnd": {"head": 4}}, "0123", None),
        ({"atEnd": {"tail": 4}}, "6789", None),
        ({"atEnd": {"headTail": 5, "format": "str"}}, "01289", None),
    ],
)
async def test_captures(
    make_activity: MakeActivity, mode: dict[str, Any] | None, expected: Any, streamed: Any
) -> None:
    activity = await (await make_activity()).ready()
    capture = {"stderr": mode} if mode is not None else None
    command: dict[str, Any] = {
        "run": {"entry_point": "/bin/sh", "args": ["-c", "printf 0123456789 >&2"]}
    }
    if capture is not None:
        command["run"]["capture"] = capture
    batch_id = activity.begin(command)
    (result,) = await activity.finish(batch_id)
    assert (result["stdout"], result["stderr"]) == (None, expected)
    events = await _all_events(activity.unit, batch_id)
    pieces = [event["kind"]["stderr"] for event in events if "stderr" in event["kind"]]
    whole: Any = None
    for piece in pieces:
        whole = piece if whole is None else whole + piece
    assert whole == streamed


async def test_output_is_limited(make_activity: MakeActivity) -> None:
    activity = await (await make_activity(output_limit_bytes=100_000)).ready()
    result = await activity.shell("head -c 3000000 /dev/zero | tr '\\0' x")
    assert result["result"] == "Ok"
    assert result["stdout"] == "x" * 100_000


async def test_output_at_end_may_be_long(make_activity: MakeActivity) -> None:
    activity = await (await make_activity(output_limit_bytes=3 << 20)).ready()
    (result,) = await activity.execute(
        {
            "run": {
                "entry_point": "/bin/sh",
                "args": ["-c", "head -c 2500000 /dev/zero | tr '\\0' y"],
                "capture": {"stdout": {"atEnd": {}}},
            }
        }
    )
    assert result["stdout"] == "y" * 2_500_000


async def test_output_that_is_no_utf8_is_shown_byte_by_byte(make_activity: MakeActivity) -> None:
    activity = await (await make_activity()).ready()
    assert (await activity.shell("printf '\\377a'"))["stdout"] == "\u00ffa"


async def test_a_command_ends_though_its_background_holds_the_pipe(
    make_activity: MakeActivity,
) -> None:
    activity = await (await make_activity()).ready()
    result = await activity.shell("(sleep 1000; echo late) & echo early")
    assert result["stdout"] == "early\n"
    assert activity.processes() != []
