"""One short line for each event that matters, where there is no terminal to draw on.

The lines are ASCII apart from names and messages, stamped with the time since this session began,
and stable: scripts may search them.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TextIO

from requestor.reporting.event_log import TimedEvent
from requestor.reporting.run_view import RunView
from requestor.reporting.wording import glm_text, one_line, stamp_text
from requestor.training_run import events
from requestor.training_run.events import Event

BENIGN_ENDS = ("released", "the run is over")


class PlainLines:
    """An `Observer` that prints lines."""

    def __init__(self, stream: TextIO, history: Iterable[TimedEvent] = ()) -> None:
        """Print to `stream`; `history` is what earlier sessions did, it is not printed."""
        self._stream = stream
        self._view = RunView.replay(history)

    def on_event(self, event: Event, unix_seconds: float) -> None:
        """Print the event's line, if it has one."""
        self._view.apply(event, unix_seconds)
        line = describe(self._view, event)
        if line is not None:
            stamp = stamp_text(self._view.session_seconds(unix_seconds))
            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            safe = line.encode(encoding, "replace").decode(encoding)
            self._stream.write(f"[{stamp}] {safe}\n")
            self._stream.flush()

    def close(self) -> None:
        """Nothing is left to do; the stream belongs to the caller."""


def describe(view: RunView, event: Event) -> str | None:
    """Return the line of an event that `view` has just taken in; None if it is not worth one."""
    match event:
        case events.RunStarted():
            return _started(event)
        case events.Notice():
            return one_line(event.text)
        case events.RentingStarted():
            return (
                f"market: looking for {event.providers} providers in subnet "
                f"{one_line(event.subnet)} on {one_line(event.payment_network)}"
            )
        case events.Evaluated(round=0) | events.Evaluated(purpose="final"):
            return _evaluated(event)
        case events.RoundStarted(salvaged=salvaged) if salvaged:
            return (
                f"round {event.round + 1}: {salvaged} of {event.clients} results were kept "
                "from before"
            )
        case events.ModelRolledBack():
            return f"rollback: round {event.round + 1}: {one_line(event.reason)}"
        case events.CheckpointWritten():
            return _round(view, event.round)
        case events.MarketplaceWentAway():
            return f"daemon lost: {one_line(event.reason)}"
        case events.RunFinished():
            return _finished(view, event)
    return describe_trouble(view, event) or _describe_lease(view, event)


def describe_trouble(view: RunView, event: Event) -> str | None:
    """Return the line of an event in which a provider fails us, or None; nothing is told twice."""
    match event:
        case events.OrderFailed():
            where = f"round {event.round + 1}, client {event.client}"
            name = view.label(view.provider_of(event.lease))
            return f"order failed: {name}: {where}: {one_line(event.reason)}"
        case events.UpdateRejected():
            where = f"round {event.round + 1}, client {event.client}"
            name = view.label(view.provider_of(event.lease))
            return f"result refused: {name}: {where}: {one_line(event.reason)}"
        case events.LeaseEnded(reason=reason) if reason not in BENIGN_ENDS:
            provider = view.provider_of(event.lease)
            text = one_line(reason)
            if not provider.last_failure or provider.last_failure not in text:
                return f"lease ended: {view.label(provider)}: {text}"
    return None


def _describe_lease(view: RunView, event: Event) -> str | None:
    match event:
        case events.LeaseOpened():
            name = view.label(view.provider_of(event.lease))
            return f"lease opened: {name} ({one_line(event.provider_id, 10)})"
        case events.LeaseEnded():
            return f"lease ended: {view.label(view.provider_of(event.lease))}"
    return None


def _started(event: events.RunStarted) -> str:
    if event.is_resumed:
        return (
            f"run {one_line(event.name)}: resumed after round {event.round} of {event.rounds}, "
            f"budget {glm_text(Decimal(event.budget_glm))} GLM"
        )
    return (
        f"run {one_line(event.name)}: {event.rounds} rounds of {event.clients} clients x "
        f"{event.local_steps} steps, {event.parameters} parameters, "
        f"budget {glm_text(Decimal(event.budget_glm))} GLM"
    )


def _evaluated(event: events.Evaluated) -> str:
    what = "final evaluation" if event.purpose == "final" else "untrained model"
    return f"{what}: return {_mean_and_spread(event)} over {event.episodes} episodes"


def _mean_and_spread(evaluation: events.Evaluated) -> str:
    return f"{_number(evaluation.mean_return)} +/- {_number(evaluation.std_return)}"


def _number(value: float | None) -> str:
    return "nan" if value is None else f"{value:.2f}"


def _round(view: RunView, number: int) -> str | None:
    entry = view.rounds.get(number)
    if entry is None or entry.merged_clients is None or view.started is None:
        return None
    parts = []
    if entry.evaluation is not None:
        best = " (best)" if entry.is_best else ""
        parts.append(f"return {_mean_and_spread(entry.evaluation)}{best}")
    parts.append(f"{len(entry.merged_clients)} of {entry.clients} clients")
    parts.append(f"{entry.total_steps} steps")
    if entry.seconds > 0:
        parts.append(f"{entry.steps / entry.seconds:.0f} steps/s")
    parts.append(f"{glm_text(view.cost_glm)} GLM")
    return f"round {number}/{view.started.rounds}: {', '.join(parts)}"


def _finished(view: RunView, event: events.RunFinished) -> str:
    reached = "" if event.mean_return is None else f", return {_number(event.mean_return)}"
    why = f": {one_line(event.message)}" if event.message else ""
    return (
        f"end: {event.outcome} after {event.rounds} rounds, {event.total_steps} steps"
        f"{reached}, {glm_text(view.cost_glm)} GLM{why}"
    )
