"""Looks at the deliveries of a round before they are merged; whoever objects sends work back.

`RoundMaker` tells reviewers which round begins, `Dispatcher` of everything that comes in, and asks
them when all is in; what they object to is taken out, and done again where the quorum needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from requestor.federation.rounds import RoundPlan
from requestor.marketplace.choice.failures import FailureKind
from requestor.training_run.orders.deliveries import Delivery, Rejection
from requestor.training_run.orders.round_files import RoundFiles

ObjectionKind = Literal["screened", "fraud"]
"""Beside the others' it cannot be right; or it was done again, and is not what was delivered."""

FAILURES: Mapping[ObjectionKind, FailureKind] = {"screened": "bad_result", "fraud": "faked_work"}
"""What an objection is to the standing of the provider."""


@dataclass(frozen=True)
class Objection:
    """Why one delivery must not be merged."""

    delivery: Delivery
    kind: ObjectionKind
    reason: str

    @property
    def rejection(self) -> Rejection:
        """What is kept of it."""
        delivery = self.delivery
        return Rejection(self.kind, self.reason, delivery.result_sha256, delivery.source)


class Reviewer(Protocol):
    """One way of looking at deliveries. It is told of each at once, and asked when all are in."""

    def begin(self, plan: RoundPlan, files: RoundFiles) -> None:
        """Take notice of a round that begins, and of what its orders have in common."""
        ...

    def note(self, delivery: Delivery) -> None:
        """Take notice of a delivery that has just come in and counts."""
        ...

    def compare(self, first: Delivery, second: Delivery) -> None:
        """Take notice of another delivery of an item of which `first` counts.

        Equal `result_sha256` verify each other; else at least one of the two is wrong. `second`
        never counts; it may come when its round is closed already.
        """
        ...

    async def review(
        self, plan: RoundPlan, deliveries: Sequence[Delivery]
    ) -> Sequence[Objection]:
        """Return the objections to `deliveries`, which are of one round and in client order.

        It is asked again, with all that is in then, when rejected items were done anew.
        """
        ...
