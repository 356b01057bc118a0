"""What `derl-request offers --json` prints: everything, with exact amounts as decimal strings."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from requestor.marketplace.choice.reputation import Reputation
from requestor.marketplace.offers.market import MarketOffer
from requestor.marketplace.offers.price_histogram import median_glm, price_histogram
from requestor.reporting.market_view import MarketView
from requestor.secrecy import redacted_data

JSON_FORMAT = 1


def market_json(view: MarketView) -> str:
    """Return the scan, filters, histogram and offers as one JSON object, without secrets."""
    scan, screening = view.scan, view.screening
    kept = view.prices_glm(screening.kept)
    removed = view.prices_glm([offer for offer, _ in screening.removed])
    median = median_glm(kept)
    record = {
        "format": JSON_FORMAT,
        "subnet": scan.subnet,
        "taken_unix_seconds": round(scan.taken_unix_seconds, 3),
        "seconds": round(scan.seconds, 3),
        "is_cut": scan.is_cut,
        "seen": scan.seen,
        "kept": len(screening.kept),
        "busy_threads": view.busy_threads,
        "unreadable": [
            {"node_id": one.node_id, "name": one.name, "reason": one.reason}
            for one in scan.unusable
        ],
        "filters": [asdict(one) for one in screening.counts],
        "median_hour_glm": None if median is None else f"{median:f}",
        "histogram": [
            {
                "low_glm": f"{one.low_glm:f}",
                "high_glm": None if one.high_glm is None else f"{one.high_glm:f}",
                "kept": one.kept,
                "removed": one.removed,
            }
            for one in price_histogram(kept, removed)
        ],
        "offers": [_offer_record(offer, view) for offer in view.shown],
    }
    return json.dumps(redacted_data(record), indent=1, allow_nan=False)


def _offer_record(offer: MarketOffer, view: MarketView) -> dict[str, Any]:
    reputation = view.reputations.get(offer.node_id, Reputation())
    prices = offer.prices
    return {
        "node_id": offer.node_id,
        "wallet": offer.wallet,
        "name": offer.name,
        "hour_at_use_glm": f"{offer.hourly_glm(view.busy_threads):f}",
        "start_glm": f"{prices.start_glm:f}",
        "cpu_hour_glm": f"{prices.cpu_hour_glm:f}",
        "hour_glm": f"{prices.hour_glm:f}",
        "threads": offer.threads,
        "cores": offer.cores,
        "memory_gib": offer.memory_gib,
        "storage_gib": offer.storage_gib,
        "runtime": offer.runtime,
        "runtime_version": offer.runtime_version,
        "capabilities": offer.capabilities,
        "platforms": offer.platforms,
        "cpu_model": offer.cpu_model,
        "gpus": [asdict(gpu) for gpu in offer.gpus],
        "standing": reputation.standing,
        "orders_done": reputation.orders,
        "last_failure": reputation.last_failure,
        "removed_by": view.removed_by.get(id(offer)),
    }
