"""A connection to the service bus: calls both ways, refusals, and a bus that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from requestor.mock_golem.testnet import bus as bus_module
from requestor.mock_golem.testnet.bus import (
    MAX_CALLS_AT_ONCE,
    BusConnection,
    BusError,
    CallRefused,
    StreamedReply,
)
from requestor.mock_golem.testnet.packets import (
    CallReply,
    CallRequest,
    Hello,
    Ping,
    Pong,
    RegisterRequest,
)
from requestor.mock_golem.testnet.values import dump, load

if TYPE_CHECKING:
    from tests.requestor.mock_golem.testnet.conftest import BusStandIn

pytestmark = pytest.mark.asyncio
SERVICE = "/public/exeunit/a1"


async def echo(method: str, data: bytes) -> bytes:
    """Answer with the method's name and what came."""
    return method.encode() + b":" + data


async def parts() -> AsyncIterator[bytes]:
    """Yield two parts."""
    yield b"one"
    yield b"two"


async def test_it_says_hello_then_registers(bus: BusStandIn) -> None:
    connection = await BusConnection.open(bus.address, echo)
    await connection.register(SERVICE)
    hello, register = bus.heard
    assert isinstance(hello, Hello) and len(hello.instance_id) == 16
    assert register == RegisterRequest(SERVICE)
    await connection.close()


async def test_two_connections_have_two_instance_ids(bus: BusStandIn) -> None:
    first = await BusConnection.open(bus.address, echo)
    second = await BusConnection.open(bus.address, echo)
    await bus.changes.until(lambda: len(bus.heard) == 2)
    ids = {packet.instance_id for packet in bus.heard if isinstance(packet, Hello)}
    assert len(ids) == 2
    await asyncio.gather(first.close(), second.close())


async def test_a_service_that_somebody_else_has_is_refused(bus: BusStandIn) -> None:
    bus.register_code = 409
    connection = await BusConnection.open(bus.address, echo)
    with pytest.raises(BusError, match="409 as told"):
        await connection.register(SERVICE)
    await connection.close()


async def test_calls_are_answered(bus: BusStandIn) -> None:
    connection = await BusConnection.open(bus.address, echo)
    await connection.register(SERVICE)
    await bus.call_raw(f"{SERVICE}/Exec", b"script", "r1")
    (reply,) = await bus.changes.until(
        lambda: [packet for packet in bus.heard if isinstance(packet, CallReply)]
    )
    assert reply == CallReply("r1", 0, False, b"Exec:script")
    await connection.close()


async def test_slow_calls_do_not_hold_up_others(bus: BusStandIn) -> None:
    release = asyncio.Event()

    async def handler(method: str, data: bytes) -> bytes:
        if method == "Slow":
            await release.wait()
        return method.encode()

    connection = await BusConnection.open(bus.address, handler)
    await connection.register(SERVICE)
    await bus.call_raw(f"{SERVICE}/Slow", b"", "r1")
    assert [reply.data for reply in await bus.call(f"{SERVICE}/Fast", {}, "r2")] == [b"Fast"]
    release.set()
    await bus.changes.until(lambda: CallReply("r1", data=b"Slow") in bus.heard)
    await connection.close()


async def test_an_answer_in_parts_ends_with_a_full_one(bus: BusStandIn) -> None:
    async def handler(method: str, data: bytes) -> StreamedReply:
        return StreamedReply(parts())

    connection = await BusConnection.open(bus.address, handler)
    await connection.register(SERVICE)
    replies = await bus.call(f"{SERVICE}/StreamExecBatchResults", {})
    assert [(reply.partial, reply.data) for reply in replies] == [
        (True, b"one"),
        (True, b"two"),
        (False, b""),
    ]
    await connection.close()


async def test_refused_and_failed_calls_tell_the_caller(
    bus: BusStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(method: str, data: bytes) -> bytes:
        if method == "Wrong":
            raise CallRefused("no such method")
        raise ZeroDivisionError("a defect")

    connection = await BusConnection.open(bus.address, handler)
    await connection.register(SERVICE)
    (wrong,) = await bus.call(f"{SERVICE}/Wrong", {}, "r1")
    assert (wrong.code, wrong.data) == (400, b"no such method")
    (failed,) = await bus.call(f"{SERVICE}/Defect", {}, "r2")
    assert failed.code == 500 and b"a defect" in failed.data
    assert "ZeroDivisionError" in caplog.text
    await connection.close()


async def test_too_many_calls_at_once_are_refused(bus: BusStandIn) -> None:
    async def never(method: str, data: bytes) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    connection = await BusConnection.open(bus.address, never)
    await connection.register(SERVICE)
    for number in range(MAX_CALLS_AT_ONCE):
        await bus.call_raw(f"{SERVICE}/Exec", b"", f"r{number}")
    (reply,) = await bus.call(f"{SERVICE}/Exec", {}, "last")
    assert (reply.code, reply.data) == (500, b"too many calls at once")
    await connection.close()


async def test_pings_are_answered(bus: BusStandIn) -> None:
    connection = await BusConnection.open(bus.address, echo)
    await connection.register(SERVICE)
    bus.send(SERVICE, Ping())
    await bus.changes.until(lambda: Pong() in bus.heard)
    await connection.close()


async def test_calls_out_bring_the_answer(bus: BusStandIn) -> None:
    connection = await BusConnection.open(bus.address, echo)
    answer = await connection.call("/local/activity/SetActivityUsage", dump({"usage": 1}))
    assert load(answer) == {"Ok": None}
    assert bus.calls("SetActivityUsage") == [{"usage": 1}]
    await connection.close()


async def test_a_call_out_that_is_refused_raises(bus: BusStandIn) -> None:
    bus.answer = lambda call: [CallReply(call.request_id, 400, data=b"endpoint address not found")]
    connection = await BusConnection.open(bus.address, echo)
    with pytest.raises(BusError, match="400: endpoint address not found"):
        await connection.call("/local/nowhere", b"")
    await connection.close()


async def test_a_silent_bus_is_given_up(bus: BusStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "CALL_SECONDS", 0.01)
    bus.answer = lambda call: []
    connection = await BusConnection.open(bus.address, echo)
    with pytest.raises(BusError, match="silent"):
        await connection.call("/local/activity/SetActivityUsage", b"")
    await connection.close()


async def test_answers_to_nobody_are_left_alone(bus: BusStandIn) -> None:
    bus.answer = lambda call: [
        CallReply("another", data=b"?"),
        CallReply(call.request_id, partial=True, data=b"a part"),
        CallReply(call.request_id, data=b"right"),
        CallReply(call.request_id, data=b"again"),
    ]
    connection = await BusConnection.open(bus.address, echo)
    assert await connection.call("/local/x", b"") == b"right"
    assert await connection.call("/local/x", b"") == b"right"
    await connection.close()


async def test_who_waits_is_told_that_the_bus_has_gone(bus: BusStandIn) -> None:
    bus.answer = lambda call: []
    connection = await BusConnection.open(bus.address, echo)
    waiting = asyncio.ensure_future(connection.call("/local/x", b""))
    await bus.changes.until(lambda: any(isinstance(one, CallRequest) for one in bus.heard))
    bus.cut()
    with pytest.raises(BusError, match="gone away"):
        await waiting
    await connection.wait_closed()
    with pytest.raises(BusError, match="gone away"):
        await connection.register(SERVICE)
    await connection.close()


async def test_answering_ends_with_the_connection(bus: BusStandIn) -> None:
    cancelled = asyncio.Event()

    async def handler(method: str, data: bytes) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    connection = await BusConnection.open(bus.address, handler)
    await connection.register(SERVICE)
    await bus.call_raw(f"{SERVICE}/Exec", b"", "r1")
    bus.cut()
    async with asyncio.timeout(10):
        await connection.wait_closed()
        await connection.close()
        await cancelled.wait()


async def test_what_is_no_packet_ends_the_connection(bus: BusStandIn) -> None:
    connection = await BusConnection.open(bus.address, echo)
    await connection.register(SERVICE)
    bus.send(SERVICE, b"\xff\xff\xff\xff not a packet")
    async with asyncio.timeout(10):
        await connection.wait_closed()
    await connection.close()


async def test_no_bus_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(BusError, match=r"no service bus at .*gsb\.sock"):
        await BusConnection.open(tmp_path / "gsb.sock", echo)
