"""From what came in to the candidate: the last looks at a round's updates, then the merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from requestor.errors import RunFailed
from requestor.federation.merging.protocol import State
from requestor.federation.model import Tensors
from requestor.federation.rounds import QuorumMissed, RoundOutcome, RoundPlan, close_round
from requestor.training_run.open_round import Delivery
from requestor.training_run.settings import RunSettings


@dataclass(frozen=True)
class RoundCloser:
    """Closes the rounds of a run."""

    settings: RunSettings

    async def close(
        self,
        plan: RoundPlan,
        model: Tensors,
        deliveries: Sequence[Delivery],
        *,
        state: State | None = None,
        rejected: int = 0,
    ) -> RoundOutcome:
        """Return the candidate that `deliveries` make of `model`.

        state: what the merge before this model's returned. rejected: how many items are missing
            because what came for them was refused.

        Raises:
            RunFailed: there are fewer updates than the quorum, or than the rule needs to bear the
                bad ones that may be among them.
        """
        updates = [delivery.update for delivery in deliveries]
        try:
            return close_round(
                plan, model, updates, self.settings.merger, state=state, rejected=rejected
            )
        except QuorumMissed as error:
            raise RunFailed(
                str(error),
                fix="rent more providers (golem.providers), or assume fewer to lie "
                "(federation.aggregation.faulty_providers); `derl-request resume` tries again",
            ) from error
