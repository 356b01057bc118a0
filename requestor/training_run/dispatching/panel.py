"""The reviewers of a run as one body: it passes on what comes in, and hears all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from requestor.training_run import events
from requestor.training_run.dispatching.crew import Crew
from requestor.training_run.dispatching.open_round import OpenRound
from requestor.training_run.dispatching.reviewing import FAILURES, Objection, Reviewer
from requestor.training_run.orders.deliveries import Delivery

LOOK_SECONDS = 0.5


class Panel:
    """Asks reviewers in turn; each sees what those before it have let pass."""

    def __init__(
        self,
        reviewers: Sequence[Reviewer],
        crew: Crew,
        emit: Callable[[events.Event], None],
    ) -> None:
        """Let `reviewers` look; providers whose work is rejected leave the `crew`."""
        self._reviewers = tuple(reviewers)
        self._crew = crew
        self._emit = emit

    def note(self, delivery: Delivery) -> None:
        """Pass on that a delivery came in and counts."""
        for reviewer in self._reviewers:
            reviewer.note(delivery)

    def compare(self, first: Delivery, second: Delivery) -> None:
        """Pass on that an item was delivered once more."""
        for reviewer in self._reviewers:
            reviewer.compare(first, second)

    async def review(self, state: OpenRound, check: Callable[[], None]) -> bool:
        """Have what is new in a round reviewed; False if nothing is.

        What is objected to is taken out, and done by somebody else; its sender leaves. `check` is
        called again and again meanwhile; what it raises ends the review.
        """
        if not self._reviewers or not state.has_news():
            return False
        found: list[Objection] = []
        for reviewer in self._reviewers:
            objected = {id(objection.delivery) for objection in found}
            left = [d for d in state.harvest.deliveries if id(d) not in objected]
            task = asyncio.ensure_future(reviewer.review(state.plan, left))
            try:
                while not task.done():
                    check()
                    await asyncio.wait({task}, timeout=LOOK_SECONDS)
            finally:
                task.cancel()
            found += task.result()
        for objection in found:
            state.reject(objection.delivery, objection.rejection)
        state.settle_rejections()
        for objection in found:
            is_redone = objection.delivery.update.item not in state.left_out
            self._draw_consequences(objection, is_redone=is_redone)
        return True

    def _draw_consequences(self, objection: Objection, *, is_redone: bool) -> None:
        item, source = objection.delivery.update.item, objection.delivery.source
        self._emit(
            events.DeliveryRejected(
                item.round,
                item.client,
                source.lease if source else "",
                provider_name=source.provider_name if source else "",
                provider_id=source.provider_id if source else "",
                objection=objection.kind,
                reason=objection.reason,
                is_redone=is_redone,
            )
        )
        if source is None or source.is_own:
            return
        is_fraud = objection.kind == "fraud"
        self._crew.dismiss(
            lambda info: (
                info.provider_id == source.provider_id if is_fraud else info.id == source.lease
            ),
            objection.reason,
            FAILURES[objection.kind],
        )
