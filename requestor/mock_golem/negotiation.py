"""Demands, proposals and the events that a requestor collects."""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from requestor.mock_golem.answers import Refusal, TextRefusal
from requestor.mock_golem.clock import Clock, rfc3339
from requestor.mock_golem.constraints import (
    Constraint,
    ConstraintError,
    flatten,
    matches,
    parse,
)
from requestor.mock_golem.identifiers import (
    is_subscription_id,
    new_proposal_id,
    new_subscription_id,
)
from requestor.mock_golem.offers import NO_CAPACITY
from requestor.mock_golem.signals import Signal

SUBSCRIPTION_LIFETIME = timedelta(hours=1)
MATCH_SECONDS = 0.02


@dataclass
class Demand:
    """An open demand; `constraint` is None if its text is broken (it then matches nothing)."""

    demand_id: str
    properties: dict[str, Any]
    constraints: str
    constraint: Constraint | None
    timestamp: datetime
    events: deque[dict[str, Any]] = field(default_factory=deque)


@dataclass
class Proposal:
    """One step of a negotiation, by the provider or by the requestor."""

    proposal_id: str
    demand_id: str
    provider_id: str
    issuer_id: str
    state: Literal["Initial", "Draft", "Rejected"]
    properties: dict[str, Any]
    constraints: str
    timestamp: datetime
    previous: "Proposal | None" = None
    countered: bool = False
    has_agreement: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return it as the market API shows it."""
        shown = {
            "properties": self.properties,
            "constraints": self.constraints,
            "proposalId": self.proposal_id,
            "issuerId": self.issuer_id,
            "state": self.state,
            "timestamp": rfc3339(self.timestamp),
        }
        if self.previous is not None:
            shown["prevProposalId"] = self.previous.proposal_id
        return shown


class OfferMarket(Protocol):
    """A provider's way to the market: this daemon's own board, or a real daemon."""

    def publish(self, provider_id: str, properties: Mapping[str, Any], constraints: str) -> None:
        """Put an offer before all fitting demands, anew if it was published before."""

    def add_draft(self, counter: Proposal, properties: dict[str, Any], constraints: str) -> None:
        """Answer a counter-proposal with the provider's own."""

    def reject_counter(self, counter: Proposal, reason: str) -> None:
        """Refuse a counter-proposal."""


@dataclass(frozen=True)
class PublishedOffer:
    """What a provider offers, and what it demands of a demand."""

    provider_id: str
    properties: Mapping[str, Any]
    constraints: str
    offer_id: str = field(default_factory=new_subscription_id)


class DemandBoard:
    """All open demands with their negotiations; forgotten when the daemon restarts.

    As with yagna, an offer stays published while its provider is busy or dead: who counters it
    gets a refusal, or no answer. A provider that publishes again, because it is free again,
    answers those that it refused for want of capacity.

    Args:
        clock: dates what is said.
        countered: told anew of counter-proposals that were put off.
    """

    def __init__(self, clock: Clock, countered: Callable[[Proposal], None]) -> None:
        self._clock = clock
        self._countered = countered
        self._postponed: dict[str, list[Proposal]] = {}
        self.changed = Signal()
        self.demands: dict[str, Demand] = {}
        self._offers: dict[str, PublishedOffer] = {}
        self._proposals: dict[str, Proposal] = {}

    def subscribe(self, properties: dict[str, Any], constraints: str) -> Demand:
        """Open a demand; broken constraints are taken but match nothing, as in yagna."""
        try:
            constraint: Constraint | None = parse(constraints)
        except ConstraintError:
            constraint = None
        demand = Demand(
            demand_id=new_subscription_id(),
            properties=flatten(properties),
            constraints=constraints,
            constraint=constraint,
            timestamp=self._clock.now(),
        )
        self.demands[demand.demand_id] = demand
        for offer in self._offers.values():
            self._match_soon(demand, offer)
        return demand

    def publish(self, provider_id: str, properties: Mapping[str, Any], constraints: str) -> None:
        """Put an offer before all fitting demands; answer those that were put off."""
        known = self._offers.get(provider_id)
        if known is None or known.properties != properties:
            offer = self._offers[provider_id] = PublishedOffer(provider_id, properties, constraints)
            for demand in self.demands.values():
                self._match_soon(demand, offer)
        for counter in self._postponed.pop(provider_id, []):
            if counter.demand_id in self.demands:
                self._countered(counter)

    def offer_id(self, provider_id: str) -> str:
        """Return the id of a provider's published offer."""
        return self._offers[provider_id].offer_id

    def offer_again(self, demand_id: str, provider_id: str) -> None:
        """Put an offer before a demand anew after their agreement has ended, as yagna does."""
        demand, offer = self.demands.get(demand_id), self._offers.get(provider_id)
        if demand is not None and offer is not None:
            self._match(demand, offer)

    def unsubscribe(self, demand_id: str) -> None:
        """Close a demand; polls for its events end at once.

        Raises:
            Refusal: 404, it is not open.
        """
        if demand_id not in self.demands:
            raise Refusal(404, f"Demand [{demand_id}] not found.")
        del self.demands[demand_id]
        self._proposals = {
            key: proposal
            for key, proposal in self._proposals.items()
            if proposal.demand_id != demand_id
        }
        self.changed.notify()

    def forget_all(self) -> None:
        """Forget every demand and proposal."""
        self.demands.clear()
        self._proposals.clear()
        self._postponed.clear()
        self.changed.notify()

    def demand(self, demand_id: str) -> Demand:
        """Return an open demand.

        Raises:
            Refusal: 404, it is not open (any more); 400, the id is malformed.
        """
        if not is_subscription_id(demand_id):
            words = {"message": f"Path deserialize error: Subscription id [{demand_id}] has "
                     "invalid format."}
            raise TextRefusal(400, json.dumps(words))  # JSON, but not called so
        demand = self.demands.get(demand_id)
        if demand is not None and self._clock.now() >= demand.timestamp + SUBSCRIPTION_LIFETIME:
            self.unsubscribe(demand_id)
            demand = None
        if demand is None:
            raise Refusal(404, f"Subscription [{demand_id}] not found. Could be unsubscribed.")
        return demand

    def proposal(self, proposal_id: str, demand_id: str | None = None) -> Proposal:
        """Return a proposal (of this demand, if one is given).

        Raises:
            Refusal: 404, there is none.
        """
        proposal = self._proposals.get(proposal_id)
        if proposal is None or demand_id not in (None, proposal.demand_id):
            asked = "None" if demand_id is None else _subscription(demand_id)
            words = f"Proposal [{proposal_id}] not found (subscription [{asked}])."
            raise Refusal(404, words)
        return proposal

    def _match_soon(self, demand: Demand, offer: PublishedOffer) -> None:
        asyncio.get_running_loop().call_later(MATCH_SECONDS, self._match, demand, offer)

    def _match(self, demand: Demand, offer: PublishedOffer) -> None:
        """Put an offer before a demand if both are still there and want each other."""
        published = self._offers.get(offer.provider_id) is offer
        if not published or demand.demand_id not in self.demands:
            return
        if not matches(demand.constraint, offer.properties):
            return
        if not matches(parse(offer.constraints), demand.properties):
            return
        self._post_proposal(
            Proposal(
                proposal_id=new_proposal_id(),
                demand_id=demand.demand_id,
                provider_id=offer.provider_id,
                issuer_id=offer.provider_id,
                state="Initial",
                properties=dict(offer.properties),
                constraints=offer.constraints,
                timestamp=self._clock.now(),
            )
        )

    def add_counter(
        self,
        proposal: Proposal,
        requestor_id: str,
        properties: dict[str, Any],
        constraints: str,
    ) -> Proposal:
        """Take the requestor's answer to a provider's proposal.

        Raises:
            Refusal: 410, it was answered before or rejected; 400, it is the requestor's own.
        """
        if proposal.issuer_id == requestor_id:
            raise Refusal(400, f"Can't react to own Proposal [{proposal.proposal_id}].")
        if proposal.countered:
            raise Refusal(
                410,
                f"Proposal [{proposal.proposal_id}] already has counter proposal. "
                "Can't counter for the second time.",
            )
        if proposal.state == "Rejected":
            raise Refusal(410, f"Proposal [{proposal.proposal_id}] was rejected.")
        proposal.countered = True
        counter = Proposal(
            proposal_id=new_proposal_id(),
            demand_id=proposal.demand_id,
            provider_id=proposal.provider_id,
            issuer_id=requestor_id,
            state="Draft",
            properties=flatten(properties),
            constraints=constraints,
            timestamp=self._clock.now(),
            previous=proposal,
        )
        self._proposals[counter.proposal_id] = counter
        return counter

    def add_draft(self, counter: Proposal, properties: dict[str, Any], constraints: str) -> None:
        """Take the provider's answer to a counter-proposal."""
        self._post_proposal(
            Proposal(
                proposal_id=new_proposal_id(),
                demand_id=counter.demand_id,
                provider_id=counter.provider_id,
                issuer_id=counter.provider_id,
                state="Draft",
                properties=properties,
                constraints=constraints,
                timestamp=self._clock.now(),
                previous=counter,
            )
        )

    def reject_counter(self, counter: Proposal, reason: str) -> None:
        """Take the provider's refusal of a counter-proposal."""
        counter.state = "Rejected"
        if reason == NO_CAPACITY:
            self._postponed.setdefault(counter.provider_id, []).append(counter)
        self._post(
            counter.demand_id,
            {
                "eventType": "ProposalRejectedEvent",
                "eventDate": rfc3339(self._clock.now()),
                "proposalId": counter.proposal_id,
                "reason": {"message": reason},
            },
        )

    def _post_proposal(self, proposal: Proposal) -> None:
        self._proposals[proposal.proposal_id] = proposal
        event = {
            "eventType": "ProposalEvent",
            "eventDate": rfc3339(proposal.timestamp),
            "proposal": proposal.as_json(),
        }
        self._post(proposal.demand_id, event)

    def _post(self, demand_id: str, event: dict[str, Any]) -> None:
        demand = self.demands.get(demand_id)
        if demand is not None:
            demand.events.append(event)
            self.changed.notify()


def _subscription(demand_id: str) -> str:
    """Write a demand's id as yagna's messages about proposals do."""
    random_id, _, digest = demand_id.partition("-")
    return f'Some(SubscriptionId {{ random_id: "{random_id}", hash: "{digest}" }})'
