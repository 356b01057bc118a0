"""One provider's offer on the market of a real daemon, and what requestors say to it."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from requestor.mock_golem.clock import Clock, parse_instant
from requestor.mock_golem.constraints import flatten
from requestor.mock_golem.negotiation import Proposal
from requestor.mock_golem.offers import NO_CAPACITY, chosen_platform
from requestor.mock_golem.records import Agreement
from requestor.mock_golem.signals import Signal
from requestor.mock_golem.surroundings import TaskSet
from requestor.mock_golem.testnet.carrying import RETRY_SECONDS, Job, insist
from requestor.mock_golem.testnet.provider_rest import DaemonAway, ProviderRest, RestRefusal

MAX_POSTPONED = 100

_log = logging.getLogger(__name__)


class EventError(ValueError):
    """An event of the daemon that cannot be understood."""


@dataclass(frozen=True)
class Listeners:
    """Who is told of a requestor's counter-proposals and agreements."""

    countered: Callable[[Proposal], None]
    proposed: Callable[[Agreement], None]


class YagnaMarket:
    """A provider's way to a real market (`OfferMarket`).

    As with the real provider, an offer stays published while its provider is busy or dead: who
    counters it gets a refusal, or no answer at all. A provider that publishes again, because it is
    free again, answers those that it refused for want of capacity; the others of the market, and
    who has just ended an agreement, get the offer anew from the daemon itself.

    Args:
        rest: the daemon.
        tasks: the provider's background tasks.
        clock: dates what has no date.
        listeners: who is told what requestors say.
    """

    def __init__(
        self, rest: ProviderRest, tasks: TaskSet, clock: Clock, listeners: Listeners
    ) -> None:
        self._rest = rest
        self._tasks = tasks
        self._clock = clock
        self._listeners = listeners
        self._changed = Signal()
        self._wanted: tuple[Mapping[str, Any], str] | None = None
        self._offer_id: str | None = None
        self._postponed: list[Proposal] = []
        self._speaking = asyncio.Lock()

    # ------------------------------------------------------------------ the provider's side

    def publish(self, provider_id: str, properties: Mapping[str, Any], constraints: str) -> None:
        """Put the offer before all fitting demands; answer those that were put off."""
        self._wanted = (properties, constraints)
        self._changed.notify()
        again, self._postponed = self._postponed, []
        for counter in again:
            self._listeners.countered(counter)

    def add_draft(self, counter: Proposal, properties: dict[str, Any], constraints: str) -> None:
        """Answer a counter-proposal with the provider's own."""
        offer_id, proposal_id = counter.demand_id, counter.proposal_id
        self._say(lambda: self._rest.counter(offer_id, proposal_id, properties, constraints))

    def reject_counter(self, counter: Proposal, reason: str) -> None:
        """Refuse a counter-proposal."""
        offer_id, proposal_id = counter.demand_id, counter.proposal_id
        if reason == NO_CAPACITY and len(self._postponed) < MAX_POSTPONED:
            self._postponed.append(counter)
        self._say(lambda: self._rest.reject_proposal(offer_id, proposal_id, reason))

    def _say(self, job: Job) -> None:
        async def in_turn() -> None:
            async with self._speaking:  # a refusal must not come after what revokes it
                await insist(job)

        self._tasks.spawn(in_turn())

    # ------------------------------------------------------------------ the daemon's side

    async def run(self) -> None:
        """Keep the offer published and pass on what is said to it, until cancelled."""
        while True:
            try:
                while self._wanted is None:
                    await self._changed.next_change()
                await self._withdraw_published()
                self._offer_id = offer_id = await self._rest.publish(*self._wanted)
                self._postponed.clear()  # what was said to another offer cannot be answered
                while True:
                    for event in await self._rest.offer_events(offer_id):
                        self._take(offer_id, event)
            except DaemonAway as away:
                _log.debug("%s", away)
                await asyncio.sleep(RETRY_SECONDS)
            except RestRefusal as refusal:
                if refusal.status != 404:  # 404: the daemon has forgotten the offer
                    _log.warning("%s", refusal)
                    await asyncio.sleep(RETRY_SECONDS)

    async def leave(self) -> None:
        """Take the offer back, if the daemon can be reached."""
        with suppress(DaemonAway):
            await self._withdraw_published()

    async def _withdraw_published(self) -> None:
        if self._offer_id is None:
            return
        try:
            await self._rest.withdraw(self._offer_id)
        except RestRefusal as refusal:  # the daemon has forgotten it
            _log.debug("%s", refusal)
        self._offer_id = None

    def _take(self, offer_id: str, event: Mapping[str, Any]) -> None:
        try:
            match event.get("eventType"):
                case "ProposalEvent":
                    self._listeners.countered(read_proposal(offer_id, event.get("proposal")))
                case "AgreementEvent":
                    now = self._clock.now()
                    self._listeners.proposed(read_agreement(event.get("agreement"), now))
        except EventError as error:
            _log.warning("an event is left out: %s", error)


def read_proposal(offer_id: str, shown: Any) -> Proposal:
    """Read a requestor's proposal from an event.

    Raises:
        EventError: it is none.
    """
    fields = _object(shown, "proposal")
    return Proposal(
        proposal_id=_text(fields, "proposalId"),
        demand_id=offer_id,
        provider_id="",
        issuer_id=_text(fields, "issuerId"),
        state="Draft",
        properties=flatten(_object(fields.get("properties"), "properties")),
        constraints=_text(fields, "constraints"),
        timestamp=_instant(fields, "timestamp"),
    )


def read_agreement(shown: Any, now: datetime) -> Agreement:
    """Read an agreement that waits for our decision from an event.

    Raises:
        EventError: it is none.
    """
    fields = _object(shown, "agreement")
    sides: dict[str, dict[str, Any]] = {}
    for side, party in (("demand", "requestorId"), ("offer", "providerId")):
        told = _object(fields.get(side), side)
        sides[side] = {
            "properties": flatten(_object(told.get("properties"), f"{side} properties")),
            "constraints": _text(told, "constraints"),
            **{name: _text(told, name) for name in (f"{side}Id", party)},
        }
    try:
        agreement = Agreement(
            agreement_id=_text(fields, "agreementId"),
            proposal_id="",
            provider_id=sides["offer"]["providerId"],
            provider_name=str(sides["offer"]["properties"].get("golem.node.id.name", "")),
            demand=sides["demand"],
            offer=sides["offer"],
            valid_to=_instant(fields, "validTo"),
            timestamp=now,
            state="Pending",
        )
        has_prices = len(agreement.coefficients) == 3
    except (ValueError, KeyError, TypeError) as error:
        raise EventError(f"an agreement that cannot be read: {error!r:.300}") from error
    if not has_prices or chosen_platform(sides["demand"]["properties"]) is None:
        raise EventError("an agreement without three prices and a payment platform")
    return agreement


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise EventError(f"{what} is no object")
    return value


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise EventError(f"{name} is no text")
    return value


def _instant(fields: Mapping[str, Any], name: str) -> datetime:
    try:
        return parse_instant(_text(fields, name))
    except ValueError as error:
        raise EventError(f"{name} is no instant: {error}") from error
