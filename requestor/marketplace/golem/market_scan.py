"""Looking at the market without renting: a demand, the offers that come, and the demand's end.

Nothing is allocated, nobody is answered, so that nothing can be owed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from requestor.marketplace.golem.daemon_api import DaemonApi, DaemonError
from requestor.marketplace.golem.offer_terms import (
    EXPIRATION_PROPERTY,
    OfferUnusable,
    clean_name,
)
from requestor.marketplace.market import MarketOffer, UnusableOffer, read_market_offer

MAX_OFFERS = 5000
MAX_OFFER_BYTES = 32 << 10
MAX_SCAN_BYTES = 32 << 20
EVENTS_A_CALL = 50
QUIET_SECONDS = 2.0
"""When offers have come and none followed for so long, no more are expected."""

MAX_SUBSCRIPTIONS = 3
UNSUBSCRIBE_SECONDS = 5.0
_RETRY_SECONDS = 0.2

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScanTerms:
    """Whom a scan asks: everyone of a subnet whom `constraints` (LDAP-like) do not exclude.

    Providers answer only demands that live long enough; `lifetime_seconds` is what is told them.
    """

    subnet: str
    constraints: str = "(golem.runtime.name=*)"
    lifetime_seconds: float = 3600.0


@dataclass(frozen=True)
class MarketScan:
    """What a scan saw, at `taken_unix_seconds`, in `seconds`; `is_cut` if there was more."""

    offers: tuple[MarketOffer, ...]
    unusable: tuple[UnusableOffer, ...] = ()
    taken_unix_seconds: float = 0.0
    seconds: float = 0.0
    is_cut: bool = False

    @property
    def seen(self) -> int:
        """Return the number of all offers, usable or not."""
        return len(self.offers) + len(self.unusable)


async def scan_market(
    api: DaemonApi,
    terms: ScanTerms,
    seconds: float,
    *,
    quiet_seconds: float = QUIET_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
) -> MarketScan:
    """Collect offers for `seconds`, less if none come any more, and take the demand back.

    Raises:
        DaemonError: the daemon does not take the demand, or goes away.
    """
    began = clock()
    book = OfferBook()
    deadline = began + seconds
    for attempt in range(MAX_SUBSCRIPTIONS):
        demand_id = await _subscribe(api, terms, wall_clock())
        try:
            await _collect(api, demand_id, book, deadline, quiet_seconds, clock)
            break
        except DaemonError as error:
            # a daemon forgets demands when it restarts, and those of a certain age
            if error.status != 404 or attempt + 1 == MAX_SUBSCRIPTIONS:
                raise
        finally:
            await asyncio.shield(_unsubscribe(api, demand_id))
    return book.scan(wall_clock(), clock() - began)


@dataclass
class OfferBook:
    """Offers as they come in, each once, up to a number and a size."""

    offers: dict[tuple[str, str], MarketOffer | UnusableOffer] = field(default_factory=dict)
    size_bytes: int = 0
    is_cut: bool = False

    def add(self, node_id: str, offer_id: str, properties: object) -> None:
        """Read an offer; what it says again is not kept twice."""
        if len(self.offers) >= MAX_OFFERS or self.size_bytes >= MAX_SCAN_BYTES:
            self.is_cut = True
            return
        if not isinstance(properties, Mapping):
            properties = {}
        text = json.dumps(properties, sort_keys=True)
        if len(text) > MAX_OFFER_BYTES:
            text, properties = f"too large {len(text)}", {}
            offer: MarketOffer | UnusableOffer = UnusableOffer(
                clean_name(node_id), "unnamed", "the offer is too large", {}
            )
        else:
            offer = _read(node_id, offer_id, properties)
        if (offer.node_id, text) not in self.offers:
            self.size_bytes += len(text)
            self.offers[offer.node_id, text] = offer

    def scan(self, taken_unix_seconds: float, seconds: float) -> MarketScan:
        """Return everything read so far."""
        found = list(self.offers.values())
        return MarketScan(
            offers=tuple(offer for offer in found if isinstance(offer, MarketOffer)),
            unusable=tuple(offer for offer in found if isinstance(offer, UnusableOffer)),
            taken_unix_seconds=taken_unix_seconds,
            seconds=seconds,
            is_cut=self.is_cut,
        )


def _read(
    node_id: str, offer_id: str, properties: Mapping[str, Any]
) -> MarketOffer | UnusableOffer:
    try:
        return read_market_offer(node_id, properties, offer_id)
    except OfferUnusable as error:
        name = clean_name(properties.get("golem.node.id.name"))
        return UnusableOffer(clean_name(node_id), name, str(error), properties)


async def _subscribe(api: DaemonApi, terms: ScanTerms, now_unix_seconds: float) -> str:
    """Publish the demand; if we are cancelled meanwhile, take it back before giving way."""
    properties = {
        EXPIRATION_PROPERTY: int((now_unix_seconds + terms.lifetime_seconds) * 1000),
        "golem.node.debug.subnet": terms.subnet,
        "golem.srv.caps.multi-activity": True,
    }
    call = asyncio.ensure_future(api.subscribe_demand(properties, terms.constraints))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait({call}, timeout=UNSUBSCRIBE_SECONDS)
        if call.done() and call.exception() is None:
            await _unsubscribe(api, call.result())
        call.cancel()
        raise


async def _collect(
    api: DaemonApi,
    demand_id: str,
    book: OfferBook,
    deadline: float,
    quiet_seconds: float,
    clock: Callable[[], float],
) -> None:
    heard = clock()
    while (left := deadline - clock()) > 0 and not book.is_cut:
        quiet_left = quiet_seconds - (clock() - heard)
        if book.offers and quiet_left <= 0:
            return
        asked = clock()
        wait = min(left, max(quiet_left, _RETRY_SECONDS))
        rows = await api.demand_events(demand_id, wait, EVENTS_A_CALL)
        for row in rows:
            _note(row, book)
        if rows:
            heard = clock()
        elif clock() - asked < wait / 2:
            # an empty answer before its time: do not ask in a tight loop
            await asyncio.sleep(_RETRY_SECONDS)


def _note(event: Mapping[str, Any], book: OfferBook) -> None:
    proposal = event.get("proposal")
    if event.get("eventType") == "ProposalEvent" and isinstance(proposal, Mapping):
        issuer, proposal_id = str(proposal.get("issuerId")), str(proposal.get("proposalId"))
        book.add(issuer, proposal_id, proposal.get("properties"))


async def _unsubscribe(api: DaemonApi, demand_id: str) -> None:
    """Take the demand back; a daemon that is away forgets it by itself."""
    try:
        async with asyncio.timeout(UNSUBSCRIBE_SECONDS):
            await api.unsubscribe_demand(demand_id)
    except (TimeoutError, DaemonError) as error:
        logger.warning("a demand of a market scan was not taken back: %s", error)
