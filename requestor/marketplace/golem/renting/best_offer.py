"""The choice of the next offer, taken out of yapapi's hands.

yapapi scores an offer once, when it comes, and takes the highest score whenever it wants another
agreement: it takes the first while the best are still on their way, by scores that may have been
overtaken. Here nothing is scored before an offer is taken.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Any

from yapapi.agreements_pool import AgreementsPool
from yapapi.rest.market import Agreement
from yapapi.services import Cluster

from requestor.errors import BudgetReached
from requestor.marketplace.choice.selection import Offered, Selection
from requestor.marketplace.golem.paying.bookkeeping import Bookkeeper
from requestor.marketplace.golem.renting.strategy import read_offered
from requestor.marketplace.money.spending import SpendingGuard

logger = logging.getLogger(__name__)

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
        self.is_agreeing = False

    @property
    def in_hand(self) -> tuple[str, ...]:
        """The providers whose offers could be taken now."""
        return tuple(self._offer_buffer)

    async def end(self, agreement_id: str) -> None:
        """End an agreement, if it is there; yapapi leaves it to some providers to do so."""
        held = self._agreements.get(agreement_id)
        await self.release_agreement(agreement_id, allow_reuse=False)
        if held is not None and not held.agreement.terminated:
            await held.agreement.terminate({"message": "Not needed any more"})

    async def _get_agreement(self) -> Agreement | None:
        """Let yapapi see the picked offer alone; the others are put back if no newer one came."""
        offers: dict[str, Any] = self._offer_buffer
        picked = self._pick(tuple(offers))
        aside = {node: offer for node, offer in offers.items() if node != picked}
        for node in aside:
            del offers[node]
        self.is_agreeing = picked is not None
        try:
            agreement: Agreement | None = await super()._get_agreement()
            if agreement is not None:
                self._agreed(agreement)
            return agreement
        finally:
            self.is_agreeing = False
            for node, offer in aside.items():
                offers.setdefault(node, offer)


class OfferDesk:
    """Takes offers by `selection`, as far as the money goes.

    too_poor: hears of it when the budget does not pay for anybody.
    """

    def __init__(
        self,
        selection: Selection,
        books: Bookkeeper,
        spending: SpendingGuard,
        platform: str,
        too_poor: Callable[[BudgetReached], None],
    ) -> None:
        """Prepare; providers are paid by `platform`."""
        self._selection = selection
        self._books = books
        self._spending = spending
        self._platform = platform
        self._too_poor = too_poor
        self._pool: BestOfferPool | None = None
        self._endings: dict[str, asyncio.Task[None]] = {}

    def take_over(self, cluster: Cluster[Any]) -> None:
        """Choose for a cluster from now on; offers begin to come in."""
        runner: Any = cluster.service_runner
        self._pool = BestOfferPool(self._pick, self._agreed, runner._job.agreements_pool)
        runner._job.agreements_pool = self._pool
        self._selection.begin()

    def end(self, agreement_id: str) -> None:
        """Have an agreement ended, whoever works under it; once at a time is enough.

        yapapi keeps one without an activity, and with it the provider, until the end.
        """
        if agreement_id not in self._endings and self._pool is not None:
            ending = asyncio.create_task(self._end(self._pool, agreement_id))
            self._endings[agreement_id] = ending
            ending.add_done_callback(lambda _: self._endings.pop(agreement_id))

    async def _end(self, pool: BestOfferPool, agreement_id: str) -> None:
        try:
            await pool.end(agreement_id)
        except Exception as error:
            logger.warning("the agreement %s can't be ended: %s", agreement_id, error)

    def close(self) -> None:
        """End nothing any more: whoever closes the session ends all that is left."""
        for ending in self._endings.values():
            ending.cancel()

    def in_hand(self) -> dict[str, Offered]:
        """Return the offers that could be taken now, by node id."""
        return self._known(self._pool.in_hand if self._pool is not None else ())

    def may_agree(self) -> bool:
        """Tell whether an agreement with anybody is being made, or may be from what is offered."""
        if self._pool is None or self._pool.is_agreeing or self._selection.is_gathering:
            return True
        return self._selection.pick(self.in_hand(), self._left_glm()) is not None

    def _left_glm(self) -> Decimal:
        spending = self._spending
        left = spending.budget_glm - spending.spent_before_glm
        return left - spending.exposure_glm(time.monotonic())

    def _known(self, nodes: Collection[str]) -> dict[str, Offered]:
        offers = self._selection.offers
        return {node: offers[node] for node in nodes if node in offers}

    def _pick(self, nodes: Collection[str]) -> str | None:
        left = self._left_glm()
        picked = self._selection.pick(self._known(nodes), left)
        least = self._selection.unaffordable_glm
        if picked is None and least is not None and not self._selection.is_renting:
            so_far = "" if self._selection.had_agreement else "; nothing was rented"
            self._too_poor(
                BudgetReached(
                    f"what is left of the budget ({left:.3g} GLM) does not even pay for the start "
                    f"of the cheapest provider ({least:.3g} GLM){so_far}",
                    fix="`derl-request resume golem.budget_glm=…` goes on with a larger budget; "
                    "`derl-request quote` tells what the run needs",
                )
            )
        return picked

    def _agreed(self, agreement: Any) -> None:
        """Note an agreement at once: yapapi tells of it a little later, after the next choice."""
        self._books.open(agreement)
        offer = agreement.details.raw_details.offer
        offered = read_offered(str(offer.provider_id), offer.properties, self._platform)
        self._selection.agreed(agreement.id, offered)
