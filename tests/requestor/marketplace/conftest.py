"""Properties of an ordinary offer, as a real provider publishes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from requestor.marketplace.offers.market import MarketOffer, read_market_offer

NODE = "0x" + "1" * 40
WALLET = "0x" + "2" * 40


def offer_properties(**changes: Any) -> dict[str, Any]:
    """Return the properties; `changes` with dots written as double underscores; None removes."""
    usual: dict[str, Any] = {
        "golem.com.payment.platform.erc20-hoodi-tglm.address": WALLET,
        "golem.com.pricing.model": "linear",
        "golem.com.pricing.model.linear.coeffs": [0.1 / 3600, 0.02 / 3600, 0.001],
        "golem.com.scheme": "payu",
        "golem.com.usage.vector": ["golem.usage.cpu_sec", "golem.usage.duration_sec"],
        "golem.inf.cpu.brand": "AMD Ryzen 9 5950X 16-Core Processor",
        "golem.inf.cpu.cores": 8,
        "golem.inf.cpu.threads": 16,
        "golem.inf.mem.gib": 31.2,
        "golem.inf.storage.gib": 200.0,
        "golem.node.debug.subnet": "public",
        "golem.node.id.name": "willow",
        "golem.runtime.capabilities": ["vpn", "inet"],
        "golem.runtime.name": "vm",
        "golem.runtime.version": "0.5.3",
    }
    usual |= {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in usual.items() if value is not None}


@pytest.fixture
def properties() -> Callable[..., dict[str, Any]]:
    """Make properties of an offer."""
    return offer_properties


@pytest.fixture
def offer() -> Callable[..., MarketOffer]:
    """Make an offer of some node, by default the usual one."""

    def make(node: str = NODE, **changes: Any) -> MarketOffer:
        return read_market_offer(node, offer_properties(**changes))

    return make
