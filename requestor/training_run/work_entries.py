"""From the events of a run to the ledger: which order was done under which agreement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from requestor.marketplace.money.ledger import Ledger
from requestor.training_run import events

Outcome = Literal["counted", "late", "failed", "refused", "audit"]


class WorkEntries:
    """Passes events on, and enters every order that was answered, so that it can be read from the
    ledger what each agreement's money was for."""

    def __init__(
        self,
        ledger: Ledger,
        emit: Callable[[events.Event], None],
        clock: Callable[[], float],
    ) -> None:
        """Write to `ledger`, pass on to `emit`; `clock` is in seconds."""
        self._ledger = ledger
        self._pass_on = emit
        self._clock = clock
        self._agreements: dict[str, str] = {}
        self._sent_seconds: dict[str, float] = {}

    def __call__(self, event: events.Event) -> None:
        """Take in an event."""
        match event:
            case events.LeaseOpened():
                self._agreements[event.lease] = event.agreement_id
            case events.OrderSent():
                self._sent_seconds[event.lease] = self._clock()
            case events.OrderDone():
                not_counted: Outcome = "audit" if event.is_audit else "late"
                outcome: Outcome = "counted" if event.counts else not_counted
                self._enter(event, outcome, event.steps, event.seconds)
            case events.OrderFailed():
                self._enter(event, "failed", 0, None)
            case events.UpdateRejected():
                self._enter(event, "refused", 0, None)
        self._pass_on(event)

    def _enter(
        self,
        event: events.OrderDone | events.OrderFailed | events.UpdateRejected,
        outcome: Outcome,
        steps: int,
        seconds: float | None,
    ) -> None:
        sent = self._sent_seconds.pop(event.lease, None)
        agreement_id = self._agreements.get(event.lease)
        if agreement_id is None:
            return
        if seconds is None:
            seconds = 0.0 if sent is None else self._clock() - sent
        self._ledger.write(
            "work_done",
            agreement_id=agreement_id,
            round=event.round,
            client=event.client,
            outcome=outcome,
            steps=steps,
            seconds=round(seconds, 3),
        )
