"""Looks at the deliveries of a round before they are merged; whoever objects sends work back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from requestor.federation.rounds import RoundPlan
from requestor.training_run.open_round import Delivery

ObjectionKind = Literal["screened", "fraud"]
"""Beside the others' it cannot be right; or it was done again, and is not what was delivered."""


@dataclass(frozen=True)
class Objection:
    """Why one delivery must not be merged."""

    delivery: Delivery
    kind: ObjectionKind
    reason: str


class Reviewer(Protocol):
    """One way of looking at deliveries. It is told of each at once, and asked when all are in."""

    def note(self, delivery: Delivery) -> None:
        """Take notice of a delivery that has just come in and counts."""
        ...

    async def review(
        self, plan: RoundPlan, deliveries: Sequence[Delivery]
    ) -> Sequence[Objection]:
        """Return the objections to `deliveries`, which are of one round and in client order."""
        ...
