"""What a market offers: offers read from strangers' properties. Pure.

An offer is read once (`read_market_offer`) and compared by its price for an hour of our kind of
work (`hourly_glm`). Read next: `offer_filters.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from requestor.marketplace.money.spending import Prices
from requestor.marketplace.offers.graphics import Gpu, read_gpus
from requestor.marketplace.offers.offer_terms import OfferUnusable, read_offer, read_wallet
from requestor.marketplace.untrusted import bounded_number, printable

MAX_WORDS = 64
"""Of a list in an offer (capabilities, platforms) so many entries are read."""

MAX_GIB = 1e6
_NODE_ID = re.compile(r"0x[0-9a-fA-F]{40}")
_PLATFORM = re.compile(r"golem\.com\.payment\.platform\.([a-z0-9]+-[a-z0-9]+-[a-z0-9]+)\.address")


@dataclass(frozen=True)
class MarketOffer:
    """One offer: who, for how much, on what machine. All text is fit for a terminal.

    `wallet` is where its payments go, the first of several (None if it names no address; see
    `paid_on`); `platforms` are sorted;
    `properties` are the raw ones.
    """

    offer_id: str
    node_id: str
    wallet: str | None
    name: str
    prices: Prices
    threads: int
    cores: int
    memory_gib: float
    storage_gib: float
    runtime: str
    runtime_version: str
    capabilities: tuple[str, ...]
    platforms: tuple[str, ...]
    subnet: str
    gpus: tuple[Gpu, ...]
    cpu_model: str
    properties: Mapping[str, Any] = field(repr=False, compare=False)

    def hourly_glm(self, busy_threads: int) -> Decimal:
        """Return the price of an hour in which `busy_threads` threads work, without the start."""
        return self.prices.cpu_hour_glm * min(busy_threads, self.threads) + self.prices.hour_glm

    def paid_on(self, platform: str) -> MarketOffer:
        """Return the offer with the wallet of a platform: it may name another for each."""
        return replace(self, wallet=read_wallet(self.properties, platform) or self.wallet)

    def is_named(self, names: Iterable[str]) -> bool:
        """Say whether one of `names` is its node id, its wallet or its name."""
        own = {self.node_id, self.name.lower(), self.wallet or self.node_id}
        return any(name.strip().lower() in own for name in names)


@dataclass(frozen=True)
class UnusableOffer:
    """An offer that cannot be priced or read, and why."""

    node_id: str
    name: str
    reason: str
    properties: Mapping[str, Any] = field(repr=False, compare=False)


def read_market_offer(
    node_id: str, properties: Mapping[str, Any], offer_id: str = ""
) -> MarketOffer:
    """Return an offer as its properties describe it.

    Raises:
        OfferUnusable: the node id is none, or the prices cannot be read (see `read_offer`).
    """
    if not _NODE_ID.fullmatch(node_id):
        raise OfferUnusable("the node id is malformed")
    terms = read_offer(properties)
    addresses = dict(_addresses(properties))
    wallets = sorted(set(addresses.values()))
    return MarketOffer(
        offer_id=printable(offer_id, 128),
        node_id=node_id.lower(),
        wallet=wallets[0] if wallets else None,
        name=terms.provider_name,
        prices=terms.prices,
        threads=terms.threads,
        cores=int(bounded_number(properties.get("golem.inf.cpu.cores"), MAX_GIB)) or terms.threads,
        memory_gib=bounded_number(properties.get("golem.inf.mem.gib"), MAX_GIB),
        storage_gib=bounded_number(properties.get("golem.inf.storage.gib"), MAX_GIB),
        runtime=printable(properties.get("golem.runtime.name")),
        runtime_version=printable(properties.get("golem.runtime.version")),
        capabilities=_words(properties.get("golem.runtime.capabilities")),
        platforms=tuple(sorted(addresses)),
        subnet=printable(properties.get("golem.node.debug.subnet")),
        gpus=read_gpus(properties),
        cpu_model=_cpu_model(properties),
        properties=properties,
    )


def distinct_providers(offers: Iterable[MarketOffer]) -> int:
    """Return how many providers there are, where a wallet counts once however many nodes it has."""
    return len({offer.wallet or offer.node_id for offer in offers})


def _addresses(properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    found = 0
    for name, value in properties.items():
        match = _PLATFORM.fullmatch(name) if len(name) < 200 else None
        if match and isinstance(value, str) and _NODE_ID.fullmatch(value):
            yield match[1], value.lower()
            found += 1
        if found >= MAX_WORDS:
            return


def _words(value: object) -> tuple[str, ...]:
    entries = value if isinstance(value, list) else [value]
    return tuple(word for entry in entries[:MAX_WORDS] if (word := printable(entry)))


def _cpu_model(properties: Mapping[str, Any]) -> str:
    for name in ("golem.inf.cpu.brand", "golem.inf.cpu.model", "golem.inf.cpu.architecture"):
        if text := printable(properties.get(name)):
            return text
    return ""
