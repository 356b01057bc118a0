"""Making a quote: offers of the market, paces of records or a benchmark, overheads of logs."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

from requestor.cli.assembly import run_settings
from requestor.cli.benchmarking import Bench, create_benchmark, look_here, measure, tidy
from requestor.cli.daemons import DaemonFolder, open_daemon
from requestor.cli.execution import file_log
from requestor.cli.images import registry_url
from requestor.cli.market_needs import assess
from requestor.cli.quote_inputs import (
    knowledge_for,
    overheads_for,
    past_habits,
    quote_from,
    ranked_offers,
)
from requestor.cli.renting import preferences
from requestor.config import RunConfig
from requestor.errors import PreflightError
from requestor.marketplace.choice.history import ProviderHistory, Who
from requestor.marketplace.choice.selection import Offered, Selection
from requestor.marketplace.golem.daemon.api import DaemonAddress, DaemonApi, DaemonError
from requestor.marketplace.golem.daemon.market_scan import ScanTerms, scan_market
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.offers.market import MarketOffer
from requestor.marketplace.offers.offer_book import MarketScan
from requestor.marketplace.offers.saved_scan import read_scan
from requestor.quoting.quote import Quote
from requestor.quoting.record import StoredQuote

QUIET_SECONDS = 1.0


@dataclass(frozen=True)
class Request:
    """What a quote is wanted for, and how much may be done for it.

    `source` is a saved scan; `budget_glm` bounds what a benchmark may spend, None: by its prices.
    """

    config: RunConfig
    runs: Path
    scan_seconds: float
    measures: bool = False
    source: Path | None = None
    budget_glm: Decimal | None = None
    notice: Callable[[str], None] = lambda _: None


@dataclass(frozen=True)
class Offers:
    """How many offers were seen, which of them a run would take, and what removed the others."""

    seen: int
    kept: tuple[Offered, ...]
    removed: str


@dataclass(frozen=True)
class Made:
    """A quote, what it was made of, and what was done for it (orders by node id, GLM)."""

    quote: Quote
    stored: StoredQuote
    offers: Offers
    measured: Mapping[str, int] = field(default_factory=dict)
    measured_glm: Decimal = Decimal(0)


async def make(request: Request) -> Made:
    """Make a quote.

    Raises:
        PreflightError: the daemon is not fit, nobody offers what is needed, or no pace is known
            and none can be measured.
    """
    history = ProviderHistory(request.runs / "providers.json", time.time)
    if request.source is not None:
        offers = usable_offers(request.config, history, read_scan(request.source))
        return await _without_renting(request, history, offers)
    if request.measures:
        return await _with_benchmark(request, history)
    async with open_daemon(request.config.golem) as address:
        scan = await _scan(address, request)
    return await _without_renting(
        request, history, usable_offers(request.config, history, scan)
    )


async def _with_benchmark(request: Request, history: ProviderHistory) -> Made:
    directory = create_benchmark(request.config, request.runs)
    try:
        async with AsyncExitStack() as stack:
            stack.enter_context(directory.locked())
            stack.enter_context(file_log(directory.logs / "derl-request.log"))
            folder = DaemonFolder(directory.daemon_state, directory.logs / "mock-golem.log")
            address = await stack.enter_async_context(
                open_daemon(request.config.golem, folder)
            )
            scan = await _scan(address, request)
            offers = usable_offers(request.config, history, scan)
            _require(offers)
            before = knowledge_for(request.config, history.records(), history.now())
            results = await measure(
                Bench(
                    request.config,
                    address,
                    directory,
                    history,
                    request.budget_glm,
                    request.notice,
                ),
                run_settings(
                    request.config,
                    directory.run_id,
                    registry_url(request.config.golem, address),
                ),
                ranked_offers(request.config, offers.kept, before),
            )
    finally:
        tidy(directory)
    knowledge = replace(
        knowledge_for(request.config, history.records(), history.now()),
        measured=frozenset(node for node, orders in results.orders.items() if orders),
        here=results.here.pace,
    )
    overheads = overheads_for(request.runs, request.config, results.here)
    return replace(
        _made(offers, quote_from(request.config, offers.kept, knowledge, overheads)),
        measured=results.orders,
        measured_glm=results.cost_glm,
    )


async def _without_renting(
    request: Request, history: ProviderHistory, offers: Offers
) -> Made:
    _require(offers)
    config = request.config
    knowledge = knowledge_for(config, history.records(), history.now())
    here = None
    if knowledge.typical is None or not past_habits(request.runs, config):
        request.notice("no run here has done this kind of work: measuring this machine")
        here = await look_here(run_settings(config, uuid.uuid4().hex))
        knowledge = replace(knowledge, here=here.pace)
    overheads = overheads_for(request.runs, config, here)
    return _made(offers, quote_from(config, offers.kept, knowledge, overheads))


def _made(offers: Offers, made: tuple[Quote, StoredQuote] | None) -> Made:
    if made is None:
        raise PreflightError(
            "no provider's speed is known for this kind of work, and an order takes too long to "
            "measure it in so short a time",
            fix="make an order shorter (federation.local_steps), or let a run of one round "
            "measure it: federation.rounds=1",
        )
    return Made(*made, offers)


def _require(offers: Offers) -> None:
    if not offers.kept:
        raise PreflightError(
            f"nobody to rent: {offers.seen} offers seen, removed by {offers.removed or 'nothing'}",
            fix="`derl-request offers` with the same arguments shows them; raise "
            "golem.max_price, or ask for a smaller machine",
        )


async def _scan(address: DaemonAddress, request: Request) -> MarketScan:
    async with DaemonApi(address) as api:
        try:
            return await scan_market(
                api,
                ScanTerms(request.config.golem.subnet),
                request.scan_seconds,
                quiet_seconds=QUIET_SECONDS,
            )
        except DaemonError as error:
            raise PreflightError(
                f"the market can't be looked at: {error} @ {address.url}",
                fix="`derl-request doctor` with the same arguments tells what is wrong",
            ) from error


def usable_offers(config: RunConfig, history: ProviderHistory, scan: MarketScan) -> Offers:
    """Return the offers that a run would take, and what removes the others."""
    screening = assess(scan.offers, config.golem, history).screening
    selection = selection_for(config, history)
    kept = tuple(
        one for offer in screening.kept if selection.refusal(one := as_offered(offer)) is None
    )
    counts = [f"{one.name} ({one.removed})" for one in screening.counts if one.removed]
    if len(kept) < len(screening.kept):
        counts.append(f"the ceiling of an agreement ({len(screening.kept) - len(kept)})")
    if scan.unusable:
        counts.append(f"what cannot be read ({len(scan.unusable)})")
    return Offers(scan.seen, kept, ", ".join(counts))


def selection_for(config: RunConfig, history: ProviderHistory) -> Selection:
    """Return the choice that a run under `config` would make."""
    most = config.golem.max_price
    ceilings = Prices(most.start_glm, most.cpu_hour_glm, most.hour_glm)
    return Selection(preferences(config), ceilings, history, time.monotonic)


def as_offered(offer: MarketOffer) -> Offered:
    """Return a scanned offer as the choice knows it."""
    return Offered(Who(offer.node_id, offer.name, offer.wallet), offer.prices, offer.threads)
