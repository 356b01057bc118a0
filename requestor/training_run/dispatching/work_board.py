"""What there is to do in a session: the items of the open round, while money lasts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from requestor.marketplace.ports import LeaseInfo, ProviderPool
from requestor.training_run.dispatching.bell import Bell
from requestor.training_run.dispatching.crew import Crew
from requestor.training_run.dispatching.open_round import OpenRound

DISPATCH_MARGIN_SECONDS = 1.0
"""Money for this much more of everybody's time must be left over when an order goes out."""

UNKNOWN_ITEM_SECONDS = 1.0


class WorkBoard:
    """Where drivers look for work; rounds are put up and taken down."""

    def __init__(
        self, pool: ProviderPool, crew: Crew, bell: Bell, clock: Callable[[], float]
    ) -> None:
        """Hand out work to `crew` as long as the money of `pool` lasts."""
        self._pool = pool
        self._crew = crew
        self._bell = bell
        self._clock = clock
        self._round: OpenRound | None = None
        self._last_typical_seconds: float | None = None

    @property
    def open_round(self) -> OpenRound | None:
        """The round whose items are to be done."""
        return self._round

    @property
    def typical_seconds(self) -> float | None:
        """How long an item takes in this round, or took in the last one; None if not known."""
        if self._round is not None:
            return self._round.queue.typical_seconds
        return self._last_typical_seconds

    @property
    def may_dispatch(self) -> bool:
        """True if there is money for another order."""
        expected = 1.25 * (self.typical_seconds or UNKNOWN_ITEM_SECONDS)
        left = self._pool.spending.may_spend_seconds(self._clock())
        return left >= expected + DISPATCH_MARGIN_SECONDS

    @property
    def hands_out(self) -> bool:
        """True if orders may go out now."""
        return not self._bell.is_stopping and self.may_dispatch

    @property
    def hands(self) -> Sequence[LeaseInfo]:
        """Whose leases may take orders now."""
        return self._crew.infos if self.hands_out else ()

    def put_up(self, state: OpenRound) -> None:
        """Have the items of a round done."""
        self._round = state
        self._bell.ring()

    def take_down(self, state: OpenRound) -> None:
        """Hand out no more of a round; what comes in late does not count."""
        state.is_closed = True
        self._last_typical_seconds = state.queue.typical_seconds
        self._round = None
