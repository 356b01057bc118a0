"""Which offers are good enough, and how many each condition removes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from requestor.marketplace.money.spending import Prices
from requestor.marketplace.offers.graphics import Gpu
from requestor.marketplace.offers.market import MarketOffer


@dataclass(frozen=True)
class Requirements:
    """What an offer must satisfy to be rented. `None` and empty tuples do not filter.

    `allow` and `block` name node ids, wallets or provider names; `banned` are the node ids that
    have failed too badly. `gpu_memory_gib` is of one card; `gpu_models` are names (empty: any).
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
    banned: frozenset[str] = frozenset()
    wants_gpu: bool = False
    gpu_memory_gib: float = 0.0
    gpu_models: tuple[str, ...] = ()


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
    if needs.wants_gpu:
        yield _gpu_filter(needs)
    yield from _price_filters(needs.ceilings)
    if needs.allow:
        allow = needs.allow
        yield OfferFilter("allow list", f"{len(allow)} named", lambda offer: offer.is_named(allow))
    if needs.block:
        block = needs.block
        yield OfferFilter(
            "block list", f"{len(block)} named", lambda offer: not offer.is_named(block)
        )
    if needs.banned:
        banned = needs.banned
        yield OfferFilter("reputation", "not banned", lambda offer: offer.node_id not in banned)


def _gpu_filter(needs: Requirements) -> OfferFilter:
    models = frozenset(model.lower() for model in needs.gpu_models)

    def suits(gpu: Gpu) -> bool:
        is_wanted = not models or gpu.model.lower() in models
        return is_wanted and gpu.memory_gib >= needs.gpu_memory_gib

    asked = [" or ".join(needs.gpu_models)] if models else []
    asked += [f"≥ {needs.gpu_memory_gib:g} GiB"] if needs.gpu_memory_gib else []
    return OfferFilter(
        "GPU", ", ".join(asked) or "any", lambda offer: any(suits(gpu) for gpu in offer.gpus)
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
