"""What our own history says of those who make offers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from requestor.marketplace.choice.failures import AVOID_ABOVE, BAN_ABOVE
from requestor.marketplace.choice.history import ProviderHistory, Record, Who
from requestor.marketplace.choice.selection import Standing
from requestor.marketplace.offers.market import MarketOffer


@dataclass(frozen=True)
class Reputation:
    """How a provider stands, how many orders it has done for us, and how it failed last."""

    standing: Standing = "good"
    orders: int = 0
    last_failure: str = ""

    @property
    def is_known(self) -> bool:
        """Say whether we ever had to do with it, or with its wallet."""
        return bool(self.orders or self.last_failure) or self.standing != "good"


def reputations(
    offers: Iterable[MarketOffer], history: ProviderHistory, allow: Collection[str] = ()
) -> Mapping[str, Reputation]:
    """Return the reputation of every maker of an offer by node id; who is allowed is not banned."""
    records, weights = history.records(), history.weights()
    found = {}
    for offer in offers:
        weight = weights.on(Who(offer.node_id, offer.name, offer.wallet))
        standing: Standing = "doubtful" if weight > AVOID_ABOVE else "good"
        if weight > BAN_ABOVE and not offer.is_named(allow):
            standing = "banned"
        record = records.get(offer.node_id, Record(offer.name))
        found[offer.node_id] = Reputation(standing, record.successes, record.last_reason)
    return found
