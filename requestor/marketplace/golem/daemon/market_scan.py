"""Looking at the market without renting: a demand, the offers that come, and the demand's end.

Nothing is allocated, nobody is answered, so that nothing can be owed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from requestor.marketplace.golem.daemon.api import DaemonApi, DaemonError
from requestor.marketplace.offers.offer_book import MarketScan, OfferBook
from requestor.marketplace.offers.offer_terms import EXPIRATION_PROPERTY

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


async def scan_market(
    api: DaemonApi,
    terms: ScanTerms,
    seconds: float,
    *,
    quiet_seconds: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
) -> MarketScan:
    """Collect offers for `seconds`, less if none come any more, and take the demand back.

    None come any more when there were some, and then none for `quiet_seconds` (default:
    `QUIET_SECONDS`).

    Raises:
        DaemonError: the daemon does not take the demand, or goes away.
    """
    began = clock()
    book = OfferBook()
    deadline = began + seconds
    quiet = QUIET_SECONDS if quiet_seconds is None else quiet_seconds
    for attempt in range(MAX_SUBSCRIPTIONS):
        demand_id = await _subscribe(api, terms, wall_clock())
        try:
            await _collect(api, demand_id, book, deadline, quiet, clock)
            break
        except DaemonError as error:
            # a daemon forgets demands when it restarts, and those of a certain age
            if error.status != 404 or attempt + 1 == MAX_SUBSCRIPTIONS:
                raise
        finally:
            await asyncio.shield(_unsubscribe(api, demand_id))
    return book.scan(terms.subnet, wall_clock(), clock() - began)


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
