"""Offers are read as they are written, and strangers' text does no harm."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from requestor.marketplace.offers.graphics import Gpu, read_gpus
from requestor.marketplace.offers.market import (
    MAX_GIB,
    MarketOffer,
    distinct_providers,
    read_market_offer,
)
from requestor.marketplace.offers.offer_terms import OfferUnusable

NODE = "0x" + "1" * 40
WALLET = "0x" + "2" * 40
Make = Callable[..., MarketOffer]
Properties = Callable[..., dict[str, Any]]


def test_an_ordinary_offer(properties: Properties) -> None:
    found = read_market_offer(NODE.upper().replace("0X", "0x"), properties(), "R-1")
    assert found.node_id == NODE
    assert found.wallet == WALLET
    assert found.name == "willow"
    assert found.offer_id == "R-1"
    assert found.prices.cpu_hour_glm == Decimal("0.1")
    assert found.prices.hour_glm == Decimal("0.02")
    assert found.prices.start_glm == Decimal("0.001")
    assert (found.threads, found.cores) == (16, 8)
    assert (found.memory_gib, found.storage_gib) == (31.2, 200.0)
    assert (found.runtime, found.runtime_version) == ("vm", "0.5.3")
    assert found.capabilities == ("vpn", "inet")
    assert found.platforms == ("erc20-hoodi-tglm",)
    assert found.subnet == "public"
    assert found.gpus == ()
    assert found.cpu_model == "AMD Ryzen 9 5950X 16-Core Processor"


def test_the_price_of_an_hour(offer: Make) -> None:
    """0.1 GLM for each CPU hour, 0.02 for the hour; no more threads work than there are."""
    assert offer().hourly_glm(1) == Decimal("0.12")
    assert offer().hourly_glm(4) == Decimal("0.42")
    assert offer(golem__inf__cpu__threads=2).hourly_glm(4) == Decimal("0.22")


def test_usage_counters_in_the_other_order(offer: Make) -> None:
    found = offer(
        **{
            "golem.com.usage.vector": ["golem.usage.duration_sec", "golem.usage.cpu_sec"],
            "golem.com.pricing.model.linear.coeffs": [0.5 / 3600, 0.25 / 3600, 0.0],
        }
    )
    assert found.prices.hour_glm == Decimal("0.5")
    assert found.prices.cpu_hour_glm == Decimal("0.25")


def test_what_is_missing_is_empty(offer: Make) -> None:
    names = ("cpu.brand", "cpu.cores", "mem.gib", "storage.gib")
    bare = offer(
        **{f"golem.inf.{name}": None for name in names},
        **{
            "golem.runtime.name": None,
            "golem.runtime.version": None,
            "golem.runtime.capabilities": None,
            "golem.node.debug.subnet": None,
            "golem.com.payment.platform.erc20-hoodi-tglm.address": None,
        },
    )
    assert (bare.memory_gib, bare.storage_gib, bare.cores) == (0.0, 0.0, 16)
    assert (bare.runtime, bare.runtime_version, bare.subnet, bare.cpu_model) == ("", "", "", "")
    assert (bare.capabilities, bare.platforms, bare.wallet) == ((), (), None)


@pytest.mark.parametrize("node", ["", "0x12", "0x" + "g" * 40, "R-" + "1" * 40, NODE + "0"])
def test_who_is_nobody(properties: Properties, node: str) -> None:
    with pytest.raises(OfferUnusable, match="node id"):
        read_market_offer(node, properties())


def test_a_wallet_counts_once(offer: Make) -> None:
    farm = [offer(f"0x{number:040x}") for number in range(1, 6)]
    address = "golem.com.payment.platform.erc20-hoodi-tglm.address"
    other = offer("0x" + "9" * 40, **{address: "0x" + "9" * 40})
    unpaid = offer("0x" + "8" * 40, **{address: None})
    assert distinct_providers([*farm, other]) == 2
    assert distinct_providers([*farm, other, unpaid, unpaid]) == 3
    assert distinct_providers([]) == 0


def test_names(offer: Make) -> None:
    found = offer()
    assert found.is_named([" WILLOW "])
    assert found.is_named([NODE.upper()])
    assert found.is_named([WALLET])
    assert not found.is_named(["wil", ""])
    assert not found.is_named([])


# --- graphics -----------------------------------------------------------------------------------

NEW, OLD = "golem.inf.gpu.", "golem.!exp.gap-35.v1.inf.gpu."


def test_current_names_of_gpus() -> None:
    """Two cards of one kind and one of another; versions of CUDA are told once for all."""
    found = read_gpus(
        {
            f"{NEW}cuda.version": "12.3",
            f"{NEW}d0.model": "NVIDIA A30",
            f"{NEW}d0.cuda.caps": "8.0",
            f"{NEW}d0.cuda.cores": 3584,
            f"{NEW}d0.memory.total.gib": 24.0,
            f"{NEW}d0.quantity": 2,
            f"{NEW}d1.model": "NVIDIA T4",
            f"{NEW}d1.memory.total.gib": 16,
        }
    )
    assert found == (
        Gpu("NVIDIA A30", 2, 24.0, 3584, "12.3", "8.0"),
        Gpu("NVIDIA T4", 1, 16.0, 0, "12.3", ""),
    )
    assert [str(gpu) for gpu in found] == ["2x NVIDIA A30 (24 GiB)", "NVIDIA T4 (16 GiB)"]


@pytest.mark.parametrize("prefix", [OLD, f"{OLD}d0.", NEW, f"{NEW}d0."])
def test_names_of_gpus_with_and_without_device(prefix: str) -> None:
    found = read_gpus(
        {
            f"{prefix}model": "NVIDIA GeForce RTX 3060 Ti",
            f"{prefix}cuda.cores": 4864,
            f"{prefix}cuda.compute-capability": "8.6",
            f"{prefix}memory.total.gib": 8.0,
        }
    )
    assert found == (Gpu("NVIDIA GeForce RTX 3060 Ti", 1, 8.0, 4864, "", "8.6"),)


def test_old_names_beside_current_ones_are_the_same_card() -> None:
    both = {f"{NEW}d0.model": "A", f"{OLD}model": "A", f"{OLD}memory.total.gib": 8.0}
    assert read_gpus(both) == (Gpu("A"),)


def test_the_oldest_proposal() -> None:
    properties = {f"{NEW}model": "GTX 960", f"{NEW}count": 8, f"{NEW}gib": 3.947}
    assert read_gpus(properties) == (Gpu("GTX 960", 8, 3.95),)


def test_devices_by_their_numbers() -> None:
    many = {f"{NEW}d{number}.model": f"card {number}" for number in range(30)}
    found = read_gpus(many)
    assert [gpu.model for gpu in found] == [f"card {number}" for number in range(16)]


# --- hostile ------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**300, max_value=10**400)
    | st.floats()
    | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        "golem.com.payment.platform.erc20-hoodi-tglm.address",
        "golem.com.payment.platform..address",
        "golem.com.pricing.model",
        "golem.com.pricing.model.linear.coeffs",
        "golem.com.scheme",
        "golem.com.usage.vector",
        "golem.inf.cpu.brand",
        "golem.inf.cpu.cores",
        "golem.inf.cpu.threads",
        "golem.inf.mem.gib",
        "golem.inf.storage.gib",
        "golem.node.debug.subnet",
        "golem.node.id.name",
        "golem.runtime.capabilities",
        "golem.runtime.name",
        f"{NEW}d0.model",
        f"{NEW}d0.quantity",
        f"{NEW}d999.model",
        f"{OLD}memory.total.gib",
        f"{OLD}model",
    ]
)


@given(st.dictionaries(NAMES | st.text(max_size=40), JSON, max_size=8))
@example({"golem.inf.mem.gib": 10**400, "golem.inf.cpu.cores": math.nan})
@example({f"{NEW}d0.model": "x", f"{NEW}d0.quantity": 10**400})
@example({"golem.inf.cpu.threads": -math.inf, "golem.node.id.name": "\x1b[2J\u202eevil\n"})
def test_hostile_properties(changes: dict[str, Any]) -> None:
    """Whatever stands in an offer, it is read within bounds or refused by name."""
    from_market = {**_usual(), **changes}
    try:
        found = read_market_offer(NODE, from_market)
    except OfferUnusable as error:
        assert str(error).isprintable()
        return
    assert 1 <= found.threads <= 1024
    assert 0 <= found.cores <= MAX_GIB
    for size in (found.memory_gib, found.storage_gib):
        assert 0 <= size <= MAX_GIB
    prices = (found.prices.start_glm, found.prices.cpu_hour_glm, found.prices.hour_glm)
    assert all(price.is_finite() and price >= 0 for price in prices)
    texts = [found.name, found.runtime, found.runtime_version, found.subnet, found.cpu_model]
    texts += [*found.capabilities, *(gpu.model for gpu in found.gpus)]
    assert all(text.isprintable() and len(text) <= 60 for text in texts)
    assert all(1 <= gpu.quantity <= 64 and 0 <= gpu.memory_gib <= 1e5 for gpu in found.gpus)
    assert len(found.capabilities) <= 64
    assert found.hourly_glm(4) >= found.prices.hour_glm


def _usual() -> dict[str, Any]:
    text = json.dumps(
        {
            "golem.com.pricing.model": "linear",
            "golem.com.pricing.model.linear.coeffs": [0.0001, 0.00002, 0.0],
            "golem.com.scheme": "payu",
            "golem.com.usage.vector": ["golem.usage.cpu_sec", "golem.usage.duration_sec"],
        }
    )
    return dict(json.loads(text))
