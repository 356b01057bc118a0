"""An exe-unit on the service bus: its calls, its reports, its end, and a bus that comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from requestor.mock_golem.clock import SystemClock
from requestor.mock_golem.exe_unit import CommandFaults, ContainerSpec, ExeUnit
from requestor.mock_golem.gftp import GftpStore
from requestor.mock_golem.testnet import exe_bridge
from requestor.mock_golem.testnet.bus import CallRefused, StreamedReply
from requestor.mock_golem.testnet.exe_bridge import ActivityLink, BusDoor, ExeUnitCalls
from requestor.mock_golem.testnet.packets import CallReply, CallRequest
from requestor.mock_golem.testnet.values import dump, load

if TYPE_CHECKING:
    from tests.requestor.mock_golem.testnet.conftest import BusStandIn

pytestmark = pytest.mark.asyncio
ACTIVITY = "a1"
SERVICE = f"/public/exeunit/{ACTIVITY}"
# as yagna 0.17.6 passes on `{"deploy": {}}`
DEPLOY = [
    {"deploy": {"env": {}, "hostname": None, "hosts": {}, "net": [], "progress": None}},
    {"start": {"args": []}},
]


class Owner:
    """What a provider does for its exe-units: its network may stall."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.batches = 0
        self.stalls = False

    async def answerable(self) -> None:
        """Wait until the network lets answers through."""
        await self.open.wait()

    def batch_sent(self) -> None:
        """Count, and stall if it shall."""
        self.batches += 1
        if self.stalls:
            self.open.clear()


class Calls:
    """An exe-unit's calls, made without a bus."""

    def __init__(self, unit: ExeUnit) -> None:
        self.owner = Owner()
        self.before_reply: list[str] = []

        async def note() -> None:
            self.before_reply.append(unit.state)

        owner: Any = self.owner
        self.answering = ExeUnitCalls(ACTIVITY, unit, owner, note)

    async def __call__(self, method: str, **values: Any) -> Any:
        answer = await self.answering.answer(method, dump(values))
        assert isinstance(answer, bytes)
        return load(answer)

    async def finished(self, batch: str) -> list[dict[str, Any]]:
        """Return a batch's results once it has ended."""
        while True:
            answer = await self("GetExecBatchResults", batchId=batch, timeout=5.0)
            results: list[dict[str, Any]] = answer["Ok"]
            if results and results[-1]["isBatchFinished"]:
                return results


def no_faults(command: str) -> CommandFaults:
    """Let every command go well."""
    return CommandFaults()


@pytest_asyncio.fixture
async def unit(tmp_path: Path) -> AsyncIterator[ExeUnit]:
    """An initialized exe-unit."""
    store = GftpStore(tmp_path / "store")
    spec = ContainerSpec(
        tmp_path / "activity", environment={"PATH": "/usr/bin:/bin"}, isolation="process"
    )
    one = ExeUnit(spec, store, no_faults)
    await one.initialize()
    yield one
    await one.terminate()


def shell(text: str) -> dict[str, Any]:
    """Return a run command as a daemon passes it on."""
    capture: dict[str, Any] = {"stdout": {"stream": {}}, "stderr": {"stream": {}}}
    return {"run": {"entry_point": "/bin/sh", "args": ["-c", text], "capture": capture}}


# ---------------------------------------------------------------------- calls


async def test_a_script_is_executed_and_its_results_are_told(unit: ExeUnit) -> None:
    call = Calls(unit)
    script = [*DEPLOY, shell("echo out; echo err >&2")]
    assert await call("Exec", batchId="b1", exeScript=script) == {"Ok": "b1"}
    results = await call.finished("b1")
    assert [result["result"] for result in results] == ["Ok", "Ok", "Ok"]
    assert (results[2]["stdout"], results[2]["stderr"]) == ("out\n", "err\n")
    assert call.owner.batches == 1


async def test_a_failing_command_is_a_result(unit: ExeUnit) -> None:
    call = Calls(unit)
    await call("Exec", batchId="b1", exeScript=[*DEPLOY, shell("exit 3"), shell("true")])
    results = await call.finished("b1")
    assert [result["result"] for result in results] == ["Ok", "Ok", "Error"]
    assert results[-1]["message"] == "ExeScript command exited with code 3"


async def test_results_are_waited_for_no_longer_than_asked(unit: ExeUnit) -> None:
    call = Calls(unit)
    await call("Exec", batchId="b1", exeScript=DEPLOY)
    await call.finished("b1")
    await call("Exec", batchId="b2", exeScript=[shell("sleep 60")])
    query = {"batchId": "b2", "timeout": 0.01}
    assert await call("GetExecBatchResults", **query, commandIndex=None) == {"Ok": []}
    assert await call("GetExecBatchResults", **query, commandIndex=0) == {"Err": "timeout"}


async def test_what_is_wrong_is_told_as_a_daemon_reads_it(unit: ExeUnit) -> None:
    call = Calls(unit)
    unknown = await call("GetExecBatchResults", batchId="none", timeout=1.0)
    assert unknown == {"Err": {"notFound": "batch_id = none"}}
    nonsense = await call("Exec", batchId="b1", exeScript=[{"dance": {}}])
    assert "unknown variant `dance`" in nonsense["Err"]["badRequest"]


@pytest.mark.parametrize(
    ("method", "data"),
    [
        ("Dance", dump({})),
        ("Exec", b"nonsense"),
        ("Exec", dump([1])),
        ("Exec", dump({"exeScript": []})),
        ("Exec", dump({"batchId": 7, "exeScript": []})),
        ("GetExecBatchResults", dump({"batchId": "b1", "timeout": "soon"})),
        ("GetExecBatchResults", dump({"batchId": "b1", "timeout": -1.0})),
        ("GetExecBatchResults", dump({"batchId": "b1", "timeout": 1, "commandIndex": -1})),
        ("GetExecBatchResults", dump({"batchId": "b1", "timeout": 1, "commandIndex": True})),
    ],
)
async def test_calls_that_make_no_sense_are_refused(
    unit: ExeUnit, method: str, data: bytes
) -> None:
    with pytest.raises(CallRefused):
        await Calls(unit).answering.answer(method, data)


async def test_the_running_command_is_told(unit: ExeUnit) -> None:
    call = Calls(unit)
    idle = await call("GetRunningCommand")
    assert idle == {"Err": {"notFound": f"No running command within activity: {ACTIVITY}"}}
    await call("Exec", batchId="b1", exeScript=DEPLOY)
    await call.finished("b1")
    await call("Exec", batchId="b2", exeScript=[shell("sleep 60")])
    running = {"command": "run", "progress": None, "params": ["/bin/sh", "-c", "sleep 60"]}
    assert await call("GetRunningCommand") == {"Ok": [running]}


async def test_events_are_streamed(unit: ExeUnit) -> None:
    call = Calls(unit)
    await call("Exec", batchId="b1", exeScript=DEPLOY)
    stream = await call.answering.answer(
        "StreamExecBatchResults", dump({"activity_id": ACTIVITY, "batch_id": "b1"})
    )
    assert isinstance(stream, StreamedReply)
    kinds = [next(iter(load(part)["Ok"]["kind"])) async for part in stream.parts]
    assert kinds == ["started", "stdout", "finished", "started", "finished"]


async def test_a_stall_holds_answers_back_but_not_that_a_batch_was_taken(unit: ExeUnit) -> None:
    call = Calls(unit)
    call.owner.stalls = True
    assert await call("Exec", batchId="b1", exeScript=DEPLOY) == {"Ok": "b1"}
    asked = asyncio.ensure_future(call("GetExecBatchResults", batchId="b1", timeout=5.0))
    await unit.results("b1", 30.0, command_index=1)
    assert not asked.done()
    call.owner.open.set()
    assert (await asked)["Ok"]


async def test_the_state_is_reported_before_the_result_that_led_to_it(unit: ExeUnit) -> None:
    call = Calls(unit)
    await call("Exec", batchId="b1", exeScript=DEPLOY)
    await call.finished("b1")
    assert call.before_reply[-1] == "Ready"


# ---------------------------------------------------------------------- the link


def linked(unit: ExeUnit, bus: BusStandIn) -> asyncio.Task[None]:
    """Join an exe-unit to the bus."""
    owner: Any = Owner()
    link = ActivityLink(ACTIVITY, unit, owner, BusDoor(bus.address, SystemClock()))
    return asyncio.create_task(link.run())


def states(bus: BusStandIn) -> list[str]:
    """Return the states reported, in order."""
    return [call["state"]["state"][0] for call in bus.calls("SetActivityState")]


async def test_it_registers_reports_and_answers(unit: ExeUnit, bus: BusStandIn) -> None:
    link = linked(unit, bus)
    await bus.changes.until(lambda: states(bus) == ["Initialized"])
    (usage,) = bus.calls("SetActivityUsage")
    assert usage["activityId"] == ACTIVITY
    cpu_seconds, seconds = usage["usage"]["currentUsage"]
    assert cpu_seconds == 0.0 and 0.0 <= seconds < 30.0
    assert abs(usage["usage"]["timestamp"] - datetime.now(UTC).timestamp()) < 30
    (reply,) = await bus.call(f"{SERVICE}/Exec", {"batchId": "b1", "exeScript": DEPLOY})
    assert load(reply.data) == {"Ok": "b1"}
    await unit.terminate("Tired", "no more")
    await asyncio.wait_for(link, 10)
    assert bus.calls("SetActivityState")[-1]["state"] == {
        "state": ["Terminated", None],
        "reason": "Tired",
        "errorMessage": "no more",
    }
    assert states(bus)[0] == "Initialized" and states(bus)[-1] == "Terminated"


async def test_the_last_usage_is_told_before_the_end(unit: ExeUnit, bus: BusStandIn) -> None:
    link = linked(unit, bus)
    await bus.changes.until(lambda: states(bus))
    await unit.terminate()
    await asyncio.wait_for(link, 10)
    methods = [call.address for call in bus.heard if isinstance(call, CallRequest)]
    assert methods[-2:] == ["/local/activity/SetActivityUsage", "/local/activity/SetActivityState"]
    assert bus.calls("SetActivityUsage")[-1]["usage"]["currentUsage"] == [
        unit.usage().cpu_seconds,
        unit.usage().duration_seconds,
    ]


async def test_usage_is_told_again_and_again(
    unit: ExeUnit, bus: BusStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exe_bridge, "REPORT_SECONDS", 0.0)
    link = linked(unit, bus)
    await bus.changes.until(lambda: len(bus.calls("SetActivityUsage")) >= 3)
    seconds = [call["usage"]["currentUsage"][1] for call in bus.calls("SetActivityUsage")]
    assert seconds == sorted(seconds)
    assert states(bus) == ["Initialized"]  # it has not changed, and no 4 seconds have passed
    await unit.terminate()
    await asyncio.wait_for(link, 10)


async def test_an_exe_unit_that_vanishes_says_no_more(unit: ExeUnit, bus: BusStandIn) -> None:
    link = linked(unit, bus)
    await bus.changes.until(lambda: states(bus) == ["Initialized"])
    await bus.call_raw(
        f"{SERVICE}/Exec", dump({"batchId": "b1", "exeScript": [*DEPLOY, shell("sleep 60")]}), "r1"
    )
    asked = dump({"batchId": "b1", "timeout": 60.0})
    await bus.call_raw(f"{SERVICE}/GetExecBatchResults", asked, "r2")
    heard = len(bus.calls("SetActivityUsage"))
    await unit.vanish()
    await asyncio.wait_for(link, 10)
    await bus.changes.until(lambda: SERVICE not in bus.services)
    assert "Terminated" not in states(bus)
    assert len(bus.calls("SetActivityUsage")) <= heard + 1
    # the call that waits gets no answer, as from a process that was killed
    replies = [one for one in bus.heard if isinstance(one, CallReply) and one.request_id == "r2"]
    assert replies == []


async def test_a_bus_that_comes_back_finds_it_again(
    unit: ExeUnit, bus: BusStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exe_bridge, "RECONNECT_SECONDS", 0.01)
    link = linked(unit, bus)
    await bus.changes.until(lambda: states(bus) == ["Initialized"])
    await bus.call(f"{SERVICE}/Exec", {"batchId": "b1", "exeScript": DEPLOY})
    await bus.stop()
    await bus.changes.until(lambda: not bus.services)
    bus.heard.clear()
    await bus.start()
    await bus.changes.until(lambda: SERVICE in bus.services and states(bus))
    (reply,) = await bus.call(
        f"{SERVICE}/GetExecBatchResults", {"batchId": "b1", "timeout": 5.0}, "r9"
    )
    assert load(reply.data)["Ok"][0]["result"] == "Ok"
    await unit.terminate()
    await asyncio.wait_for(link, 10)
    assert states(bus)[-1] == "Terminated"


async def test_an_end_while_the_bus_is_away_is_told_later(
    unit: ExeUnit, bus: BusStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exe_bridge, "RECONNECT_SECONDS", 0.01)
    link = linked(unit, bus)
    await bus.changes.until(lambda: states(bus) == ["Initialized"])
    await bus.stop()
    await unit.terminate()
    assert not link.done()
    bus.heard.clear()
    await bus.start()
    await asyncio.wait_for(link, 10)
    assert states(bus) == ["Terminated"]


async def test_a_daemon_that_refuses_a_report_is_tried_anew(
    unit: ExeUnit, bus: BusStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exe_bridge, "RECONNECT_SECONDS", 0.01)
    refusal = dump({"Err": {"service": "not yet"}})
    bus.answer = lambda call: [CallReply(call.request_id, data=refusal)]
    link = linked(unit, bus)
    await bus.changes.until(lambda: len(bus.calls("SetActivityUsage")) >= 2)
    bus.answer = lambda call: [CallReply(call.request_id, data=dump({"Ok": None}))]
    await bus.changes.until(lambda: states(bus) == ["Initialized"])
    await unit.terminate()
    await asyncio.wait_for(link, 10)
