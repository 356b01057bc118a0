"""From what came in to the candidate: the last looks at a round's updates, then the merge."""

from __future__ import annotations

from dataclasses import dataclass, replace

from requestor.errors import RunFailed
from requestor.federation.merging.protocol import State
from requestor.federation.model import Tensors
from requestor.federation.rounds import QuorumMissed, RoundOutcome, RoundPlan, close_round
from requestor.training_run.open_round import Harvest
from requestor.training_run.settings import RunSettings


@dataclass(frozen=True)
class RoundCloser:
    """Closes the rounds of a run."""

    settings: RunSettings

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
                bad ones that may be among them.
        """
        try:
            return close_round(
                replace(plan, quorum=plan.quorum - harvest.missing),
                model,
                [delivery.update for delivery in harvest.deliveries],
                self.settings.merger,
                state=state,
                rejected=harvest.missing,
            )
        except QuorumMissed as error:
            raise RunFailed(
                str(error),
                fix="rent more providers (golem.providers), or assume fewer to lie "
                "(federation.aggregation.faulty_providers); `derl-request resume` tries again",
            ) from error
