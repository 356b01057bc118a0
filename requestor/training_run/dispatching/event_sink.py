"""Takes the events of many tasks; what fails in telling ends the round, and not who told of it."""

from __future__ import annotations

from collections.abc import Callable

from requestor.training_run import events


class EventSink:
    """Passes events on, and keeps the first fault for the round."""

    def __init__(self, report: Callable[[events.Event], None], ring: Callable[[], None]) -> None:
        """Give events to `report`; `ring` wakes the round to a fault."""
        self._report = report
        self._ring = ring
        self._fault: Exception | None = None

    def emit(self, event: events.Event) -> None:
        """Tell of an event; if that fails (a full disk), the round ends with the error."""
        try:
            self._report(event)
        except Exception as error:
            self.fault(error)
            self._ring()

    def fault(self, error: Exception) -> None:
        """Let the round end with an error, unless it already has one to end with."""
        self._fault = self._fault or error

    def check(self) -> None:
        """Raise the first fault, if there is one."""
        if self._fault is not None:
            raise self._fault
