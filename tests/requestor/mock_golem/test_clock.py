"""Clocks, instants as text, and waiting for changes."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from requestor.mock_golem.clock import ManualClock, SystemClock, parse_instant, rfc3339
from requestor.mock_golem.signals import Signal

NOW = datetime(2026, 11, 20, 3, 36, 56, 123456, tzinfo=UTC)


def test_instants() -> None:
    assert rfc3339(NOW) == "2026-11-20T03:36:56.123456Z"
    assert parse_instant(rfc3339(NOW)) == NOW
    assert parse_instant("2026-11-20T03:36:56.123456789Z") == NOW
    assert parse_instant("2026-11-20T03:36:56.123456+00:00") == NOW
    assert parse_instant("2026-11-20T03:36:56.123456 00:00") == NOW  # an unescaped plus
    assert parse_instant("2026-11-20T04:36:56.123456+01:00") == NOW
    assert parse_instant("2026-11-20T03:36:56.123456") == NOW
    with pytest.raises(ValueError, match="noon"):
        parse_instant("noon")


@pytest.mark.asyncio
async def test_the_manual_clock_wakes_in_order() -> None:
    clock = ManualClock(NOW)
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, *steps: float) -> None:
        for seconds in steps:
            await clock.sleep(seconds)
            woken.append((name, (clock.now() - NOW).total_seconds()))

    tasks = [
        asyncio.create_task(sleep("a", 3, 3)),
        asyncio.create_task(sleep("b", 2, 2, 2)),
        asyncio.create_task(sleep("c", 0)),
    ]
    await clock.advance(5)
    assert woken == [("c", 0), ("b", 2), ("a", 3), ("b", 4)]
    assert clock.now() == NOW + timedelta(seconds=5)
    await clock.advance(1)
    assert woken[4:] == [("a", 6), ("b", 6)]
    await asyncio.gather(*tasks)


@pytest.mark.asyncio
async def test_the_system_clock() -> None:
    clock = SystemClock()
    before = clock.now()
    await clock.sleep(0)
    assert before <= clock.now()
    assert before.tzinfo is UTC


@pytest.mark.asyncio
async def test_signals_wake_waiters() -> None:
    signal = Signal()
    found: list[int] = []
    wait = asyncio.create_task(signal.wait_for(lambda: list(found), 30))
    await asyncio.sleep(0)
    signal.notify()  # nothing there yet: the waiter goes on waiting
    await asyncio.sleep(0)
    assert not wait.done()
    found.append(1)
    signal.notify()
    assert await asyncio.wait_for(wait, 20) == [1]
    assert await signal.wait_for(lambda: False, 0.01) is False
    assert await signal.wait_for(lambda: True, 0) is True
