"""Offers as a scan of the market collects them: each once, and never more than there is room for.

A scan can be written to a file and read back; what is read is as suspicious as an offer from the
market, and goes through the same reading.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from requestor.marketplace.offers.market import MarketOffer, UnusableOffer, read_market_offer
from requestor.marketplace.offers.offer_terms import OfferUnusable, clean_name
from requestor.marketplace.untrusted import printable

MAX_OFFERS = 5000
MAX_OFFER_BYTES = 32 << 10
MAX_SCAN_BYTES = 32 << 20


@dataclass(frozen=True)
class MarketScan:
    """What a scan saw, at `taken_unix_seconds`, in `seconds`; `is_cut` if there was more."""

    offers: tuple[MarketOffer, ...]
    unusable: tuple[UnusableOffer, ...] = ()
    subnet: str = ""
    taken_unix_seconds: float = 0.0
    seconds: float = 0.0
    is_cut: bool = False

    @property
    def seen(self) -> int:
        """Return the number of all offers, usable or not."""
        return len(self.offers) + len(self.unusable)


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
        offer: MarketOffer | UnusableOffer
        try:
            text = json.dumps(properties, sort_keys=True, allow_nan=False)
        except (ValueError, RecursionError):
            text = "no JSON"
            offer = _unreadable(node_id, "the offer holds a number that is none, or is too deep")
        else:
            if len(text) > MAX_OFFER_BYTES:
                text = f"too large {len(text)}"
                offer = _unreadable(node_id, "the offer is too large")
            else:
                offer = _read(node_id, offer_id, properties)
        if (offer.node_id, text) not in self.offers:
            self.size_bytes += len(text)
            self.offers[offer.node_id, text] = offer

    def scan(self, subnet: str, taken_unix_seconds: float, seconds: float) -> MarketScan:
        """Return everything read so far."""
        found = list(self.offers.values())
        return MarketScan(
            offers=tuple(offer for offer in found if isinstance(offer, MarketOffer)),
            unusable=tuple(offer for offer in found if isinstance(offer, UnusableOffer)),
            subnet=subnet,
            taken_unix_seconds=taken_unix_seconds,
            seconds=seconds,
            is_cut=self.is_cut,
        )


def _unreadable(node_id: str, reason: str) -> UnusableOffer:
    return UnusableOffer(printable(node_id, 64), "unnamed", reason, {})


def _read(
    node_id: str, offer_id: str, properties: Mapping[str, Any]
) -> MarketOffer | UnusableOffer:
    try:
        return read_market_offer(node_id, properties, offer_id)
    except OfferUnusable as error:
        name = clean_name(properties.get("golem.node.id.name"))
        return UnusableOffer(printable(node_id, 64), name, str(error), properties)
