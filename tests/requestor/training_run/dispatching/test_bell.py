"""Who waits is woken by what concerns it, by a request to stop, or by the clock."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from requestor.training_run.dispatching.bell import Bell

if TYPE_CHECKING:
    from tests.requestor.conftest import RunInVirtualTime


@pytest.mark.parametrize(
    ("sound", "driver", "round_"),
    [("ring", 2.0, 2.0), ("tell_round", 10.0, 2.0), ("stop", 2.0, 2.0), ("nothing", 10.0, 10.0)],
)
def test_who_is_woken(
    run_in_virtual_time: RunInVirtualTime, sound: str, driver: float, round_: float
) -> None:
    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        bell = Bell(stop)
        sounds = {"ring": bell.ring, "tell_round": bell.tell_round, "stop": stop.set}
        loop.call_later(2.0, sounds.get(sound, lambda: None))
        woken: dict[str, float] = {}

        async def wait(who: str) -> None:
            await (bell.wait(10.0) if who == "driver" else bell.wait_for_news(10.0))
            woken[who] = loop.time()

        await asyncio.gather(wait("driver"), wait("round"))
        assert woken == pytest.approx({"driver": driver, "round": round_})

    run_in_virtual_time(main())


def test_a_bell_that_rang_wakes_nobody_who_waits_later(
    run_in_virtual_time: RunInVirtualTime,
) -> None:
    async def main() -> None:
        stop = asyncio.Event()
        bell = Bell(stop)
        bell.ring()
        stop.set()  # it wakes everybody once, and those who close down wait on
        before = asyncio.get_running_loop().time()
        await bell.wait(3.0)
        await bell.wait_for_news(4.0)
        assert asyncio.get_running_loop().time() - before == pytest.approx(7.0)

    run_in_virtual_time(main())
