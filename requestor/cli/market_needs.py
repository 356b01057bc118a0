"""From a config to what it asks of an offer, and which offers of a market would do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from requestor.config import GolemConfig
from requestor.marketplace.choice.history import ProviderHistory
from requestor.marketplace.choice.reputation import Reputation, reputations
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.offers.market import MarketOffer
from requestor.marketplace.offers.offer_filters import (
    Requirements,
    Screening,
    filters_for,
    screen,
)
from requestor.networks import payment_platform


@dataclass(frozen=True)
class Assessment:
    """Offers held against a config: `known` is the reputation of each maker by node id."""

    known: Mapping[str, Reputation]
    screening: Screening


def assess(
    offers: Iterable[MarketOffer], golem: GolemConfig, history: ProviderHistory
) -> Assessment:
    """Hold offers against `golem` as a run does: by the wallet that it would pay to."""
    platform = payment_platform(golem.payment_driver, golem.payment_network)
    offers = [offer.paid_on(platform) for offer in offers]
    known = reputations(offers, history, golem.allow)
    return Assessment(known, screen(offers, filters_for(offer_requirements(golem, known))))


def offer_requirements(golem: GolemConfig, known: Mapping[str, Reputation]) -> Requirements:
    """Return what an offer must satisfy to be rented under `golem`, given what is known of each."""
    ceilings, gpu = golem.max_price, golem.gpu
    return Requirements(
        ceilings=Prices(ceilings.start_glm, ceilings.cpu_hour_glm, ceilings.hour_glm),
        runtime=golem.runtime,
        platform=payment_platform(golem.payment_driver, golem.payment_network),
        subnet=golem.subnet,
        memory_gib=golem.memory_gib,
        storage_gib=golem.storage_gib,
        threads=golem.threads,
        allow=golem.allow,
        block=golem.block,
        banned=frozenset(node for node, one in known.items() if one.standing == "banned"),
        wants_gpu=gpu is not None,
        gpu_memory_gib=gpu.memory_gib if gpu else 0.0,
        gpu_models=gpu.model if gpu else (),
    )

