"""`RunView`: the state of a run, folded from its events. No clock, no files, no network.

Fed with the log of earlier sessions first, it continues where they ended. Rounds count from 1
here, as people count; in the log a round's own events count from 0.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from statistics import median

from requestor.reporting.event_log import TimedEvent
from requestor.reporting.provider_view import ProviderView, RoundView
from requestor.reporting.wording import one_line, provider_label
from requestor.training_run import events
from requestor.training_run.events import Event

CYCLES = 5
NOTICES = 8


@dataclass
class RunView:
    """Everything that is shown of a run. Amounts are in GLM."""

    started: events.RunStarted | None = None
    finished: events.RunFinished | None = None
    wanted_providers: int = 0
    sessions: int = 0
    rounds_done: int = 0
    current: RoundView | None = None
    rounds: dict[int, RoundView] = field(default_factory=dict)
    evaluations: dict[int, events.Evaluated] = field(default_factory=dict)
    """By rounds done; 0 is the untrained model."""

    final_evaluation: events.Evaluated | None = None
    best_round: int = 0
    closed_steps: int = 0
    due_glm: Decimal = Decimal(0)
    accepted_glm: Decimal = Decimal(0)
    provider_glm: dict[str, Decimal] = field(default_factory=dict)
    """What each provider (by id) has cost so far."""

    providers: dict[str, ProviderView] = field(default_factory=dict)
    """By id, in the order in which they came."""

    notices: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=NOTICES))
    session_unix_seconds: float | None = None
    last_unix_seconds: float = 0.0
    _earlier_seconds: float = 0.0
    _owners: dict[str, str] = field(default_factory=dict)
    _cycles: deque[float] = field(default_factory=lambda: deque(maxlen=CYCLES))
    _round_unix_seconds: float = 0.0

    @staticmethod
    def replay(history: Iterable[TimedEvent]) -> RunView:
        """Return the view after `history`."""
        view = RunView()
        for unix_seconds, event in history:
            view.apply(event, unix_seconds)
        return view

    def apply(self, event: Event, unix_seconds: float) -> None:
        """Take in the next event."""
        if isinstance(event, events.Notice):
            # Not work: a resumed process gives notices before the session that it belongs to.
            self.notices.append((unix_seconds, one_line(event.text)))
            return
        if self.session_unix_seconds is None:
            self.session_unix_seconds = unix_seconds
        if isinstance(event, events.RunStarted):
            self._start_session(event, unix_seconds)
        self.last_unix_seconds = max(self.last_unix_seconds, unix_seconds)
        match event:
            case events.RentingStarted(providers=providers):
                self.wanted_providers = providers
            case events.SpendingReported():
                self.due_glm = Decimal(event.due_glm)
                self.accepted_glm = Decimal(event.accepted_glm)
                self._take_costs(event.provider_glm)
            case events.RunFinished():
                self.finished = event
                self.accepted_glm = Decimal(event.cost_glm)
                self._take_costs(event.provider_glm)
                self.closed_steps = event.total_steps
                self.current = None
                self._end_leases("the run is over")
            case _:
                self._apply_lease(event, unix_seconds)
                self._apply_round(event, unix_seconds)

    def leave_session(self) -> None:
        """Close the last session: a new process takes over, and its session is still to begin."""
        if self.session_unix_seconds is not None:
            worked = self.last_unix_seconds - self.session_unix_seconds
            self._earlier_seconds += max(0.0, worked)
        self.session_unix_seconds = None
        self.finished = None
        self.current = None
        self.wanted_providers = 0
        for provider in self.providers.values():
            provider.leave_session("the session ended")

    # --- the numbers ---------------------------------------------------------------------------

    @property
    def total_steps(self) -> int:
        """Environment steps whose results are in, the round in flight included."""
        current = self.current
        in_flight = 0
        if current is not None and current.merged_clients is None:
            in_flight = sum(current.steps_by_client.values())
        return self.closed_steps + in_flight

    def elapsed_seconds(self, now_unix_seconds: float | None = None) -> float:
        """Return how long the run has been worked on in all its sessions, pauses left out."""
        if self.session_unix_seconds is None:
            return self._earlier_seconds
        now = self.last_unix_seconds
        if now_unix_seconds is not None and self.finished is None:
            now = max(now, now_unix_seconds)
        return self._earlier_seconds + now - self.session_unix_seconds

    def steps_per_second(self, now_unix_seconds: float | None = None) -> float | None:
        """Return steps per second over the whole run; None before the first step."""
        elapsed = self.elapsed_seconds(now_unix_seconds)
        return self.total_steps / elapsed if elapsed > 0 and self.total_steps else None

    @property
    def progress(self) -> float:
        """Share of the planned rounds that is done, the clients of the round in flight counted."""
        if self.started is None or self.started.rounds <= 0:
            return 0.0
        current = self.current
        part = current.clients_done / current.clients if current and current.clients else 0.0
        return min(1.0, (self.rounds_done + part) / self.started.rounds)

    def remaining_seconds(self, now_unix_seconds: float) -> float | None:
        """Return how long the remaining rounds will take at the pace of the last ones, or None."""
        if self.started is None or self.finished is not None:
            return None
        left = self.started.rounds - self.rounds_done
        typical = self._typical_cycle_seconds(now_unix_seconds)
        if typical is None or left <= 0:
            return None
        spent = now_unix_seconds - self._round_unix_seconds if self.current else 0.0
        return typical * left - min(max(0.0, spent), typical)

    @property
    def last_evaluation(self) -> events.Evaluated | None:
        """The latest evaluation of a round's model, not the final one."""
        return self.evaluations[max(self.evaluations)] if self.evaluations else None

    @property
    def model_evaluation(self) -> events.Evaluated | None:
        """How good the present model is: the final test where there was one, else the evaluation
        of the last round that was not rolled back."""
        final, finished = self.final_evaluation, self.finished
        if finished and final and finished.mean_return == final.mean_return:
            return final
        kept = [number for number in self.evaluations if not self.is_rolled_back(number)]
        return self.evaluations[max(kept)] if kept else None

    def is_rolled_back(self, number: int) -> bool:
        """Say whether the model of a round was dropped."""
        return number in self.rounds and self.rounds[number].is_published is False

    @property
    def rollbacks_in_a_row(self) -> int:
        """How many of the rounds that were judged last were rolled back one after the other."""
        count = 0
        for number in sorted(self.rounds, reverse=True):
            if self.rounds[number].is_published:
                break
            count += self.is_rolled_back(number)
        return count

    @property
    def is_untrained(self) -> bool:
        """Whether rounds were done and none published: the model is still the untrained one."""
        is_published = any(entry.is_published for entry in self.rounds.values())
        return self.is_rolled_back(self.rounds_done) and not is_published

    @property
    def session_providers(self) -> list[ProviderView]:
        """Who has worked, or could have worked, in this session."""
        return [entry for entry in self.providers.values() if entry.is_of_this_session]

    @property
    def best_evaluation(self) -> events.Evaluated | None:
        """The evaluation of the best model."""
        return self.evaluations.get(self.best_round)

    @property
    def budget_glm(self) -> Decimal:
        """The most that the run may cost."""
        return Decimal(self.started.budget_glm) if self.started else Decimal(0)

    @property
    def cost_glm(self) -> Decimal:
        """What the run costs so far: the best estimate while it works, then what was accepted."""
        return self.accepted_glm if self.finished else max(self.due_glm, self.accepted_glm)

    @property
    def return_gain(self) -> float | None:
        """Points of mean return that the present model is above the untrained one, if known."""
        untrained, present = self.evaluations.get(0), self.model_evaluation
        if untrained is None or present is None:
            return None
        gain = present.mean_return - untrained.mean_return
        return gain if math.isfinite(gain) else None

    def glm_per_return_point(self, cost_glm: Decimal | None = None) -> Decimal | None:
        """Return the cost of a point of mean return gained over the untrained model.

        None where nothing is gained (yet): what was spent has bought no return, and no number
        says for how much it could be had.
        """
        gain = self.return_gain
        if gain is None or gain <= 0:
            return None
        cost = self.cost_glm if cost_glm is None else cost_glm
        return cost / Decimal(repr(gain))

    def glm_per_million_steps(self, cost_glm: Decimal | None = None) -> Decimal | None:
        """Return the cost of a million steps; None before the first step."""
        if not self.total_steps:
            return None
        cost = self.cost_glm if cost_glm is None else cost_glm
        return cost * 1_000_000 / self.total_steps

    def provider_cost_glm(self, provider: ProviderView) -> Decimal:
        """Return what a provider has cost so far."""
        return self.provider_glm.get(provider.id, Decimal(0))

    def provider_of(self, lease: str) -> ProviderView:
        """Return the provider behind a lease; one made up if the log does not say."""
        owner = self._owners.setdefault(lease, lease)
        return self.providers.setdefault(owner, ProviderView(owner, owner))

    def label(self, provider: ProviderView) -> str:
        """Return how a provider is called here: by its name, with a piece of its id if need be."""
        namesakes = sum(other.name == provider.name for other in self.providers.values())
        return provider_label(provider.name, provider.id, is_unique=namesakes <= 1)

    def _take_costs(self, told: Mapping[str, str]) -> None:
        self.provider_glm |= {provider: Decimal(glm) for provider, glm in told.items()}

    # --- taking events in ----------------------------------------------------------------------

    def _start_session(self, event: events.RunStarted, unix_seconds: float) -> None:
        if self.started is not None or event.is_resumed:
            self.leave_session()
            self.session_unix_seconds = unix_seconds
        self.sessions += 1
        self.started = event
        self._rewind(event.round)

    def _rewind(self, rounds_done: int) -> None:
        """Go to the state after `rounds_done` rounds, which is what is on the disk."""
        self.rounds_done = rounds_done
        for number, entry in self.rounds.items():
            if number > rounds_done:
                entry.reopen()
            elif entry.merged_clients is not None:
                entry.is_checkpointed = True
        for number in [number for number in self.evaluations if number > rounds_done]:
            del self.evaluations[number]
        known = [number for number, entry in self.rounds.items() if entry.is_best]
        self.best_round = max(known, default=0)
        closed = [e.total_steps for n, e in self.rounds.items() if n <= rounds_done]
        self.closed_steps = max(closed, default=0)

    def _end_leases(self, reason: str) -> None:
        for provider in self.providers.values():
            for lease in list(provider.leases):
                provider.end_lease(lease, reason)

    def _apply_lease(self, event: Event, unix_seconds: float) -> None:
        match event:
            case events.LeaseOpened():
                self._owners[event.lease] = event.provider_id
                provider = self.provider_of(event.lease)
                provider.name = event.provider_name
                provider.open_lease(event.lease, event.agreement_id)
            case events.LeaseEnded():
                self.provider_of(event.lease).end_lease(event.lease, event.reason)
            case events.MarketplaceWentAway():
                self._end_leases("the daemon was lost")
            case events.OrderSent():
                self.provider_of(event.lease).start(event, unix_seconds)
                self._round(event.round + 1).copies += event.is_copy
            case events.OrderDone():
                provider = self.provider_of(event.lease)
                provider.finish(event)
                self._round(event.round + 1).finish(event, provider.id)
            case events.OrderFailed():
                provider = self.provider_of(event.lease)
                provider.fail(event.lease, event.reason, is_rejection=False)
                self._round(event.round + 1).failed_orders += 1
            case events.UpdateRejected():
                provider = self.provider_of(event.lease)
                provider.fail(event.lease, event.reason, is_rejection=True)
                self._round(event.round + 1).rejected += 1
            case events.DeliveryRejected():
                entry = self._round(event.round + 1)
                entry.rejected += 1
                entry.screened += 1
                entry.steps_by_client.pop(event.client, None)
                entry.claimed.pop(event.client, None)
                if event.lease:
                    self.provider_of(event.lease).take_back(event.reason)

    def _apply_round(self, event: Event, unix_seconds: float) -> None:
        match event:
            case events.RoundStarted():
                self._forget_details(event.round + 1)
                self.current = self._round(event.round + 1)
                self.current.clients = event.clients
                self.current.salvaged = event.salvaged
                self._round_unix_seconds = unix_seconds
            case events.RoundClosed():
                closed = self._round(event.round + 1)
                closed.merged_clients = tuple(event.merged_clients)
                closed.steps = event.steps
                closed.seconds = event.seconds
                closed.total_steps = self.closed_steps = event.total_steps
            case events.Evaluated(purpose="final"):
                self.final_evaluation = event
            case events.Evaluated():
                self.evaluations[event.round] = event
                if event.round:
                    self._round(event.round).evaluation = event
            case events.ModelPublished():
                self._round(event.round + 1).is_published = True
                if event.is_best:
                    self._round(event.round + 1).is_best = True
                    self.best_round = event.round + 1
            case events.ModelRolledBack():
                self._round(event.round + 1).is_published = False
            case events.CheckpointWritten():
                self._checkpoint(event.round, unix_seconds)

    def _checkpoint(self, number: int, unix_seconds: float) -> None:
        self.rounds_done = number
        if self.current is not None and self.current.number == number:
            self._cycles.append(unix_seconds - self._round_unix_seconds)
            self.current = None
        if number:
            self._round(number).is_checkpointed = True

    def _round(self, number: int) -> RoundView:
        return self.rounds.setdefault(number, RoundView(number))

    def _forget_details(self, number: int) -> None:
        """Drop what only a round's metrics row needed, or long runs would grow without end."""
        before = self.rounds.get(number - 1)
        if before is not None:
            before.claimed = {}
            before.steps_by_client = {}
            before.provider_steps = {}
            before.provider_seconds = {}

    def _typical_cycle_seconds(self, now_unix_seconds: float) -> float | None:
        if self._cycles:
            return median(self._cycles)
        current = self.current
        if current is None or not current.clients_done:
            return None
        spent = now_unix_seconds - self._round_unix_seconds
        return spent * current.clients / current.clients_done
