"""One short line for each event that matters, where there is no terminal to draw on.

The lines are ASCII apart from names and messages, stamped with the time since this process' first
event, and stable: scripts may search them.
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

STREAK = 3
BENIGN_ENDS = ("released", "the run is over")


class PlainLines:
    """An `Observer` that prints lines."""

    def __init__(self, stream: TextIO, history: Iterable[TimedEvent] = ()) -> None:
        """Print to `stream`; `history` is what earlier sessions did, it is not printed."""
        self._stream = stream
        self._view = RunView.replay(history)
        self._view.leave_session()
        self._first_unix_seconds: float | None = None

    def on_event(self, event: Event, unix_seconds: float) -> None:
        """Print the event's line, if it has one."""
        if self._first_unix_seconds is None:
            self._first_unix_seconds = unix_seconds
        self._view.apply(event, unix_seconds)
        stamp = stamp_text(unix_seconds - self._first_unix_seconds)
        lines = (describe, describe_streak, describe_cost)
        for line in (write(self._view, event) for write in lines):
            if line is None:
                continue
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
                f"market: looking for {_counted(event.providers, 'provider')} in subnet "
                f"{one_line(event.subnet)} on {one_line(event.payment_network)}"
            )
        case events.Evaluated(round=0) | events.Evaluated(purpose="final"):
            return _evaluated(event)
        case events.RoundStarted(salvaged=salvaged) if salvaged:
            return (
                f"round {event.round + 1}: {salvaged} of {_counted(event.clients, 'result')} "
                f"{'was' if salvaged == 1 else 'were'} kept from before"
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


def describe_streak(view: RunView, event: Event) -> str | None:
    """Return a hint at every third rollback in a row; None otherwise."""
    count = view.rollbacks_in_a_row if isinstance(event, events.ModelRolledBack) else 0
    if not count or count % STREAK:
        return None
    return f"{count} rounds in a row were rolled back; see evaluation.gate"


def describe_cost(view: RunView, event: Event) -> str | None:
    """Return after a round what steps and returns have cost so far; None if nothing did."""
    if not isinstance(event, events.CheckpointWritten) or not event.round or not view.cost_glm:
        return None
    words = []
    if (price := view.glm_per_million_steps()) is not None:
        words.append(f"{glm_text(price)} GLM per million steps")
    if (price := view.glm_per_return_point()) is not None:
        words.append(f"{glm_text(price)} GLM per point of return gained")
    return f"cost: {', '.join(words)}" if words else None


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
        case events.DeliveryRejected():
            where = f"round {event.round + 1}, client {event.client}"
            name = one_line(event.provider_name) or "somebody"
            then = "done again" if event.is_redone else "the round goes on without it"
            what = "fake rejected" if event.objection == "fraud" else "update rejected"
            return f"{what}: {name}: {where}: {one_line(event.reason)}; {then}"
        case events.ProviderConvicted():
            where = f"round {event.round + 1}, client {event.client}"
            bills = "; its bills are refused" if event.bills_refused else ""
            name, reason = one_line(event.provider_name), one_line(event.reason)
            return f"faked work: {name}: {where}: {reason}; it is banned{bills}"
        case events.WorkAudited(outcome="undecided" | "contradicted" as outcome):
            where = f"round {event.round + 1}, client {event.client}"
            name, reason = one_line(event.provider_name), one_line(event.reason)
            said = "undecided" if outcome == "undecided" else "contradicted, nobody convicted"
            return f"audit {said}: {name}: {where}: {reason}"
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
        f"run {one_line(event.name)}: {_counted(event.rounds, 'round')} of "
        f"{_counted(event.clients, 'client')} x {_counted(event.local_steps, 'step')}, "
        f"{_counted(event.parameters, 'parameter')}, "
        f"budget {glm_text(Decimal(event.budget_glm))} GLM"
    )


def _evaluated(event: events.Evaluated) -> str:
    what = "final evaluation" if event.purpose == "final" else "untrained model"
    return f"{what}: return {_mean_and_spread(event)} over {_counted(event.episodes, 'episode')}"


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
    parts.append(f"{len(entry.merged_clients)} of {_counted(entry.clients, 'client')}")
    parts.append(_counted(entry.total_steps, "step"))
    if entry.seconds > 0:
        parts.append(f"{entry.steps / entry.seconds:.0f} steps/s")
    parts.append(f"{glm_text(view.cost_glm)} GLM")
    return f"round {number}/{view.started.rounds}: {', '.join(parts)}"


def _finished(view: RunView, event: events.RunFinished) -> str:
    reached = "" if event.mean_return is None else f", return {_number(event.mean_return)}"
    # Why it ended is told by the closing account.
    return (
        f"end: {event.outcome} after {_counted(event.rounds, 'round')}, "
        f"{_counted(event.total_steps, 'step')}{reached}, {glm_text(view.cost_glm)} GLM"
    )


def _counted(count: int, noun: str) -> str:
    """Return `1 round`, `14336 steps`: no thousands separators, scripts read these."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
