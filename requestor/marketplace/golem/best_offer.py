"""yapapi's pool of agreements, with the choice of the next offer in our hands.

yapapi scores an offer once, when it comes, and takes the highest score whenever it wants another
agreement: it takes the first while the best are still on their way, by scores that may have been
overtaken. Here nothing is scored before an offer is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from yapapi.agreements_pool import AgreementsPool
from yapapi.rest.market import Agreement

Pick = Callable[[Collection[str]], str | None]
"""Given the providers whose offers are in hand, whose is to be taken; None: nobody's now."""


class BestOfferPool(AgreementsPool):
    """Takes the offer that `pick` names; `agreed` hears of an agreement before the next choice."""

    def __init__(
        self, pick: Pick, agreed: Callable[[Agreement], None], before: AgreementsPool
    ) -> None:
        """Go on from the pool `before`, of which nothing was taken yet."""
        super().__init__(before.emitter, before.offer_recycler, before._market_api)
        self._offer_buffer = before._offer_buffer
        self._pick = pick
        self._agreed = agreed

    @property
    def in_hand(self) -> tuple[str, ...]:
        """The providers whose offers could be taken now."""
        return tuple(self._offer_buffer)

    async def _get_agreement(self) -> Agreement | None:
        """Let yapapi see the picked offer alone; the others are put back if no newer one came."""
        offers: dict[str, Any] = self._offer_buffer
        picked = self._pick(tuple(offers))
        aside = {node: offer for node, offer in offers.items() if node != picked}
        for node in aside:
            del offers[node]
        try:
            agreement: Agreement | None = await super()._get_agreement()
            if agreement is not None:
                self._agreed(agreement)
            return agreement
        finally:
            for node, offer in aside.items():
                offers.setdefault(node, offer)
