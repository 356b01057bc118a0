"""One round, from its plan to a merged candidate.

Read next: `dispatching/dispatcher.py`, which has the work done, and `judging/round_closing.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from requestor.federation.rounds import RoundPlan, plan_round
from requestor.training_run import events
from requestor.training_run.checkpoints import Checkpoint
from requestor.training_run.desks import Desks
from requestor.training_run.dispatching.dispatcher import Dispatcher
from requestor.training_run.dispatching.reviewing import Reviewer
from requestor.training_run.judging.referee import Candidate, Referee
from requestor.training_run.judging.round_closing import RoundCloser
from requestor.training_run.orders.deliveries import Harvest
from requestor.training_run.orders.order_desk import RoundDesk
from requestor.training_run.spending_reports import SpendingReporter


@dataclass(frozen=True)
class ClosedRound:
    """A round whose work is done and merged, and whose candidate waits for the referee."""

    plan: RoundPlan
    desk: RoundDesk
    harvest: Harvest
    candidate: Candidate


@dataclass(frozen=True)
class RoundMaker:
    """Has rounds done; `reviewers` are those of the dispatchers it is given."""

    desks: Desks
    referee: Referee
    reviewers: Sequence[Reviewer]
    emit: Callable[[events.Event], None]
    clock: Callable[[], float]

    async def make(
        self, before: Checkpoint, dispatcher: Dispatcher, spending: SpendingReporter
    ) -> ClosedRound:
        """Have the round after `before` done and merged; raises what `run_round` raises."""
        started = self.clock()
        settings, store = self.desks.settings, self.desks.store
        model = store.load(before.model).tensors
        plan = plan_round(settings.federation, before.round)
        desk = self.desks.open(before, model)
        for reviewer in self.reviewers:
            reviewer.begin(plan, desk.files)
        harvest = await dispatcher.run_round(plan, desk)
        state = store.load(before.merge_state).tensors if before.merge_state else {}
        closer = RoundCloser(
            settings, self.referee.trials(before.model), self.referee.server_steps(before.model)
        )
        outcome = await closer.close(plan, model, harvest, state=state)
        total = before.total_steps + outcome.steps
        spending.tell()  # a row of the metrics has the cost of its own round
        self.emit(
            events.RoundClosed(
                round=plan.round,
                merged_clients=outcome.merged_clients,
                steps=outcome.steps,
                total_steps=total,
                seconds=self.clock() - started,
                left_out=outcome.left_out,
            )
        )
        candidate = Candidate(plan.round + 1, total, outcome.candidate, outcome.state)
        return ClosedRound(plan, desk, harvest, candidate)
