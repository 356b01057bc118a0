"""An event loop whose clock jumps: waiting costs no time, and waiting for nothing is an error."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

import pytest
from hypothesis import settings

T = TypeVar("T")

# examples are few milliseconds each, but the machine may be busy with other things
settings.register_profile("derl", deadline=None)
settings.load_profile("derl")

MAX_TURNS_AT_ONE_INSTANT = 50_000


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that starts at 0 s and goes on to the next timer when all tasks wait."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self.now


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Take what is ready; else let time pass without waiting for it."""
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise AssertionError("every task waits for something that will never happen")
        self._turns = 0 if timeout > 0 else self._turns + 1
        assert self._turns < MAX_TURNS_AT_ONE_INSTANT, "the tasks spin without letting time pass"
        self._loop.now += max(0.0, timeout)
        return []


class RunInVirtualTime(Protocol):
    """Runs a coroutine in a loop whose clock jumps, and returns its result."""

    def __call__(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` to its end."""
        ...


def _run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


@pytest.fixture
def run_in_virtual_time() -> RunInVirtualTime:
    return _run
