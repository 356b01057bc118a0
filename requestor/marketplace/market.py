"""What a market offers: offers read from strangers' properties, filters, prices. Pure.

An offer is read once (`read_market_offer`), kept or removed by named filters (`screen`), and
compared by its price for an hour of our kind of work (`hourly_glm`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from requestor.marketplace.golem.offer_terms import OfferUnusable, read_offer
from requestor.marketplace.graphics import Gpu, read_gpus
from requestor.marketplace.spending import Prices
from requestor.marketplace.untrusted import bounded_number, printable

MAX_WORDS = 64
"""Of a list in an offer (capabilities, platforms) so many entries are read."""

MAX_GIB = 1e6
_NODE_ID = re.compile(r"0x[0-9a-fA-F]{40}")
_PLATFORM = re.compile(r"golem\.com\.payment\.platform\.([a-z0-9]+-[a-z0-9]+-[a-z0-9]+)\.address")


@dataclass(frozen=True)
class MarketOffer:
    """One offer: who, for how much, on what machine. All text is fit for a terminal.

    `wallet` is where its payments go (None if it names no address); `platforms` are sorted;
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


@dataclass(frozen=True)
class Requirements:
    """What an offer must satisfy to be rented. `None` and empty tuples do not filter.

    `allow` and `block` name node ids, wallets or provider names; `avoided` are node ids and
    wallets with a bad record.
    """

    ceilings: Prices
    runtime: str | None = "vm"
    capabilities: tuple[str, ...] = ()
    platform: str | None = None
    subnet: str | None = None
    memory_gib: float = 0.0
    storage_gib: float = 0.0
    threads: int = 1
    allow: tuple[str, ...] = ()
    block: tuple[str, ...] = ()
    avoided: frozenset[str] = frozenset()


@dataclass(frozen=True)
class OfferFilter:
    """A named condition: `keeps(offer)` says whether it stays; `demands` says what is asked."""

    name: str
    demands: str
    keeps: Callable[[MarketOffer], bool]


@dataclass(frozen=True)
class FilterCount:
    """How many offers a filter removed of those that reached it, and how many were left."""

    name: str
    demands: str
    removed: int
    left: int


@dataclass(frozen=True)
class Screening:
    """Offers after all filters; `removed` names the filter with each offer that went."""

    kept: tuple[MarketOffer, ...]
    counts: tuple[FilterCount, ...]
    removed: tuple[tuple[MarketOffer, str], ...]


def filters_for(needs: Requirements) -> tuple[OfferFilter, ...]:
    """Return the filters that `needs` asks for, in the order in which they are applied."""
    return tuple(_filters(needs))


def screen(offers: Sequence[MarketOffer], filters: Sequence[OfferFilter]) -> Screening:
    """Apply the filters one after another; each sees what the ones before it have left."""
    left = list(offers)
    counts: list[FilterCount] = []
    removed: list[tuple[MarketOffer, str]] = []
    for one in filters:
        kept = []
        for offer in left:
            if one.keeps(offer):
                kept.append(offer)
            else:
                removed.append((offer, one.name))
        counts.append(FilterCount(one.name, one.demands, len(left) - len(kept), len(kept)))
        left = kept
    return Screening(tuple(left), tuple(counts), tuple(removed))


def distinct_providers(offers: Iterable[MarketOffer]) -> int:
    """Return how many providers there are, where a wallet counts once however many nodes it has."""
    return len({offer.wallet or offer.node_id for offer in offers})


def _filters(needs: Requirements) -> Iterator[OfferFilter]:
    if needs.subnet is not None:
        subnet = needs.subnet
        yield OfferFilter("subnet", subnet, lambda offer: offer.subnet == subnet)
    if needs.runtime is not None:
        runtime = needs.runtime
        yield OfferFilter("runtime", runtime, lambda offer: offer.runtime == runtime)
    if needs.capabilities:
        wanted = frozenset(needs.capabilities)
        text = ", ".join(needs.capabilities)
        yield OfferFilter(
            "capabilities", text, lambda offer: wanted <= frozenset(offer.capabilities)
        )
    if needs.platform is not None:
        platform = needs.platform
        yield OfferFilter("payment platform", platform, lambda offer: platform in offer.platforms)
    yield OfferFilter(
        "memory", f"≥ {needs.memory_gib:g} GiB", lambda offer: offer.memory_gib >= needs.memory_gib
    )
    yield OfferFilter(
        "storage",
        f"≥ {needs.storage_gib:g} GiB",
        lambda offer: offer.storage_gib >= needs.storage_gib,
    )
    yield OfferFilter("threads", f"≥ {needs.threads}", lambda offer: offer.threads >= needs.threads)
    yield from _price_filters(needs.ceilings)
    if needs.allow:
        allow = needs.allow
        yield OfferFilter("allow list", f"{len(allow)} named", lambda offer: offer.is_named(allow))
    if needs.block:
        block = needs.block
        yield OfferFilter(
            "block list", f"{len(block)} named", lambda offer: not offer.is_named(block)
        )
    if needs.avoided:
        avoided = needs.avoided
        yield OfferFilter(
            "reputation", "no recent failures", lambda offer: not offer.is_named(avoided)
        )


def _price_filters(ceilings: Prices) -> Iterator[OfferFilter]:
    yield OfferFilter(
        "start price",
        f"≤ {ceilings.start_glm:f} GLM",
        lambda offer: offer.prices.start_glm <= ceilings.start_glm,
    )
    yield OfferFilter(
        "CPU price",
        f"≤ {ceilings.cpu_hour_glm:f} GLM per CPU hour",
        lambda offer: offer.prices.cpu_hour_glm <= ceilings.cpu_hour_glm,
    )
    yield OfferFilter(
        "hour price",
        f"≤ {ceilings.hour_glm:f} GLM per hour",
        lambda offer: offer.prices.hour_glm <= ceilings.hour_glm,
    )


# --- reading ------------------------------------------------------------------------------------


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
