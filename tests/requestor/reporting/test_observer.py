from __future__ import annotations

import logging

import pytest

from requestor.reporting.observer import Observers
from requestor.training_run.events import Event, Notice


class Recorder:
    def __init__(self, *, is_broken: bool = False) -> None:
        self.seen: list[str] = []
        self.is_broken = is_broken

    def on_event(self, event: Event, unix_seconds: float) -> None:
        self.seen.append(f"{event.kind}@{unix_seconds:g}")
        if self.is_broken:
            raise BrokenPipeError("the terminal went away")

    def close(self) -> None:
        self.seen.append("closed")
        if self.is_broken:
            raise OSError("disk full")


def test_a_broken_observer_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    first, broken, last = Recorder(), Recorder(is_broken=True), Recorder()
    observers = Observers([first, broken, last])
    with caplog.at_level(logging.ERROR):
        observers.on_event(Notice("a"), 1.0)
        observers.on_event(Notice("b"), 2.0)
        observers.close()
        observers.close()
    assert first.seen == last.seen == ["notice@1", "notice@2", "closed"]
    assert broken.seen == ["notice@1"]
    assert "Recorder failed and is left out" in caplog.text


def test_a_failure_to_close_does_not_stop_the_others() -> None:
    first = Recorder()
    broken = Recorder(is_broken=True)
    Observers([first, broken]).close()
    assert first.seen == ["closed"]
