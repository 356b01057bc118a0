"""From what came in to the candidate: the last looks at a round's updates, then the merge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from requestor.errors import RunFailed
from requestor.federation.gradient_merging import close_gradient_round
from requestor.federation.merging.judged import JudgedMerge, Trial
from requestor.federation.merging.merger import Merger
from requestor.federation.merging.protocol import State
from requestor.federation.model import Tensors
from requestor.federation.rounds import QuorumMissed, RoundOutcome, RoundPlan, close_round
from requestor.federation.seeds import derive_seed
from requestor.training_run.judging.server_steps import ServerSteps
from requestor.training_run.judging.trials import Trials
from requestor.training_run.orders.deliveries import Harvest
from requestor.training_run.settings import RunSettings


@dataclass(frozen=True)
class RoundCloser:
    """Closes the rounds of a run.

    Merges that look at how models play need `trials`, and methods where the server trains too its
    `steps`.
    """

    settings: RunSettings
    trials: Trials | None = None
    steps: ServerSteps | None = None

    async def close(
        self,
        plan: RoundPlan,
        model: Tensors,
        harvest: Harvest,
        *,
        state: State | None = None,
    ) -> RoundOutcome:
        """Return the candidate that a round's harvest makes of `model`.

        What is missing because it was rejected does not count towards the quorum: whether the
        round can bear it has been decided by then.

        state: what the merge before this model's returned.

        Raises:
            RunFailed: there are fewer updates than the quorum, or than the rule needs to bear the
                bad ones that may be among them; or the server's own training came to nothing.
        """
        updates = [delivery.update for delivery in harvest.deliveries]
        awaited = replace(plan, quorum=plan.quorum - harvest.missing)

        close = close_round if plan.gradient is None else close_gradient_round

        def closed(merger: Merger) -> RoundOutcome:
            return close(
                awaited, model, updates, merger, state=state, rejected=harvest.missing
            )

        merger = self.settings.merger
        try:
            if plan.gradient is not None:
                return await self._stepped(plan, closed(merger))
            if merger.judged is None:
                return closed(merger)
            return await self._judged(merger.judged, closed, plan.round, len(updates))
        except QuorumMissed as error:
            raise RunFailed(
                str(error),
                fix="rent more providers (golem.providers), or assume fewer to lie "
                "(federation.aggregation.faulty_providers); `derl-request resume` tries again",
            ) from error

    async def _stepped(self, plan: RoundPlan, merged: RoundOutcome) -> RoundOutcome:
        """Have the server take its own steps along what was merged."""
        if self.steps is None:
            raise RunFailed("the server's own steps follow this merge, and nobody takes them now")
        return replace(merged, candidate=await self.steps.take(plan, merged))

    async def _judged(
        self,
        judged: JudgedMerge,
        closed: Callable[[Merger], RoundOutcome],
        round_index: int,
        clients: int,
    ) -> RoundOutcome:
        """Have mixtures of the updates played until one is found, and merge that."""
        if self.trials is None:
            raise RunFailed("what was merged here was chosen by playing, and nobody plays now")
        told: list[Trial] = []
        seed = derive_seed(self.settings.federation.run_seed, "merge search", round_index)
        while len(wanted := judged.wanted(clients, seed, told)):
            for shares in wanted:
                tensors = closed(self.settings.merger.decided(shares)).candidate
                score = await self.trials.score(round_index, tensors, judged.trial_episodes)
                told.append(Trial(np.asarray(shares), score))
        best = max(trial.score for trial in told[:clients])
        self.trials.tell(
            f"round {round_index + 1}: the best of {clients} clients' models returned {best:g} in "
            f"trials, the best of {len(told)} mixtures {max(t.score for t in told):g}"
        )
        return closed(self.settings.merger.decided(judged.shares(told)))
