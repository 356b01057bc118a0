"""Who listens to a run, and how one broken listener is kept from hurting it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from requestor.training_run.events import Event

logger = logging.getLogger(__name__)


class Observer(Protocol):
    """Something that is told every event of a run, in order."""

    def on_event(self, event: Event, unix_seconds: float) -> None:
        """Take note of an event that happened at `unix_seconds`."""
        ...

    def close(self) -> None:
        """No more events will come; calling it twice does no harm."""
        ...


class Observers:
    """Pass events on to several observers. One that raises is dropped, and the run goes on.

    A terminal that went away or a full disk must not cost what was paid for. An observer whose
    loss is not acceptable, such as the event log, is called directly.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        """Tell `observers`, in this order."""
        self._observers = list(observers)

    def on_event(self, event: Event, unix_seconds: float) -> None:
        """Tell everybody who is left."""
        for observer in list(self._observers):
            try:
                observer.on_event(event, unix_seconds)
            except Exception:
                logger.exception("%s failed and is left out", type(observer).__name__)
                self._observers.remove(observer)

    def close(self) -> None:
        """Close everybody who is left."""
        while self._observers:
            observer = self._observers.pop()
            try:
                observer.close()
            except Exception:
                logger.exception("%s failed to close", type(observer).__name__)
