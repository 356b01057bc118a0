"""From a config to what it asks of an offer."""

from __future__ import annotations

from collections.abc import Mapping

from requestor.config import REAL_MONEY_NETWORKS, GolemConfig
from requestor.marketplace.choice.reputation import Reputation
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.offers.offer_filters import Requirements


def offer_requirements(golem: GolemConfig, known: Mapping[str, Reputation]) -> Requirements:
    """Return what an offer must satisfy to be rented under `golem`, given what is known of each."""
    ceilings, gpu = golem.max_price, golem.gpu
    token = "glm" if golem.payment_network in REAL_MONEY_NETWORKS else "tglm"
    return Requirements(
        ceilings=Prices(ceilings.start_glm, ceilings.cpu_hour_glm, ceilings.hour_glm),
        runtime=golem.runtime,
        platform=f"{golem.payment_driver}-{golem.payment_network}-{token}",
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
