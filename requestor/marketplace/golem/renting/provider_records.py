"""What one session learns of its providers, and what of it is kept for later ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from requestor.marketplace.choice.failures import FailureKind
from requestor.marketplace.choice.history import (
    Evidence,
    ProviderHistory,
    Start,
    Suspicions,
    Who,
)
from requestor.marketplace.choice.selection import Selection
from requestor.marketplace.golem.daemon.api import DaemonApi, DaemonError
from requestor.marketplace.golem.paying.bookkeeping import Bookkeeper
from requestor.marketplace.money.ledger_entries import BillRefused

logger = logging.getLogger(__name__)


class ProviderRecords:
    """Joins leases, usage and bills to `selection` (this session) and `history` (all).

    suspicions: failures of which the daemon may yet turn out to be the reason.
    """

    def __init__(
        self,
        selection: Selection,
        history: ProviderHistory,
        books: Bookkeeper,
        clock: Callable[[], float],
    ) -> None:
        """Note into `selection` and `history`; `books` know what was used."""
        self._selection = selection
        self._history = history
        self._books = books
        self.suspicions = Suspicions(history, clock)
        self._starts: dict[str, Start] = {}

    def wallet_of(self, agreement_id: str) -> str | None:
        """Return the wallet of an agreement's provider, if its offer named one."""
        return self._selection.who(agreement_id).wallet

    async def note_start(self, agreement_id: str, seconds: float, api: DaemonApi) -> None:
        """Note how long a provider's start took, and how much CPU time, for quotes to come."""
        self._starts[agreement_id] = Start(seconds)
        activity_id = self._books.activity_of(agreement_id)
        if activity_id is None:
            return
        try:
            self._books.usage_reported(agreement_id, await api.usage(activity_id))
        except DaemonError as error:
            logger.debug("no usage of %s: %s", activity_id, error)
        self._starts[agreement_id] = Start(seconds, self._books.cpu_seconds_of(agreement_id))

    def assessed(self, agreement_id: str, useful_steps: int, seconds: float) -> None:
        """Note what came of an order."""
        evidence = Evidence(useful_steps, seconds, at_seconds=self._history.now())
        self._selection.worked(self._selection.who(agreement_id).node_id, evidence)

    def lease_ended(self, agreement_id: str, orders_done: int, busy_seconds: float) -> None:
        """Keep what a provider has done under an agreement that is over."""
        who = self._selection.who(agreement_id)
        start = self._starts.pop(agreement_id, None)
        cpu_seconds = self._books.cpu_seconds_of(agreement_id)
        if cpu_seconds is not None and start is not None and start.cpu_seconds is not None:
            worked = Evidence(
                cpu_seconds=max(0.0, cpu_seconds - start.cpu_seconds),
                cpu_busy_seconds=busy_seconds,
                at_seconds=self._history.now(),
            )
            self._selection.worked(who.node_id, worked)
        self._selection.remember(who, orders_done, start)

    def failed(self, agreement_id: str, failure: FailureKind, reason: str) -> None:
        """Note a failure."""
        who = self._selection.who(agreement_id)
        self._selection.failed(who, failure)
        self.suspicions.add(who, failure, reason)

    def convicted(self, who: Who) -> None:
        """Rent a node no more in this session; the history knows why."""
        self._selection.failed(who, "faked_work")

    def came_to_ceiling(self, agreement_id: str, seconds: float, *, was_ready: bool) -> bool:
        """See `Selection.came_to_ceiling`."""
        return self._selection.came_to_ceiling(agreement_id, seconds, was_ready=was_ready)

    def note_bills(self, refused: Iterable[BillRefused]) -> None:
        """Keep in mind who asked for more than can be due: each agreement of ours once."""
        told: set[str] = set()
        for bill in refused:
            agreement_id = bill.agreement_id
            is_too_much = bill.bound_glm is not None and bill.asked_glm > bill.bound_glm
            if is_too_much and agreement_id not in told and self._selection.knows(agreement_id):
                told.add(agreement_id)
                self._history.failed(
                    self._selection.who(agreement_id),
                    "overbilled",
                    f"{bill.bill} over {bill.asked_glm:.3g} GLM, due were {bill.bound_glm:.3g}",
                )
