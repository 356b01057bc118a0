"""From what came in to the candidate: the last looks at a round's updates, then the merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from requestor.federation.model import Tensors
from requestor.federation.rounds import RoundOutcome, RoundPlan, close_round
from requestor.training_run.open_round import Delivery
from requestor.training_run.settings import RunSettings


@dataclass(frozen=True)
class RoundCloser:
    """Closes the rounds of a run."""

    settings: RunSettings

    async def close(
        self, plan: RoundPlan, model: Tensors, deliveries: Sequence[Delivery]
    ) -> RoundOutcome:
        """Return the candidate that `deliveries` make of `model`.

        Raises:
            QuorumMissed: there are fewer updates than the quorum.
        """
        return close_round(
            plan,
            model,
            [delivery.update for delivery in deliveries],
            self.settings.rule,
            self.settings.optimizer,
        )
