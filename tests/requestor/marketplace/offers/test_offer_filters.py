"""Each filter removes what it says, in order, and what reaches it is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.marketplace.money.spending import Prices
from requestor.marketplace.offers.market import MarketOffer, read_market_offer
from requestor.marketplace.offers.offer_filters import (
    OfferFilter,
    Requirements,
    filters_for,
    screen,
)

Make = Callable[..., MarketOffer]
NODE = "0x" + "1" * 40
ASKED = Requirements(
    ceilings=Prices(Decimal("0.01"), Decimal("0.5"), Decimal("0.2")),
    runtime="vm",
    platform="erc20-hoodi-tglm",
    subnet="public",
    memory_gib=2.0,
    storage_gib=2.0,
    threads=2,
)


def coeffs(cpu_hour: float, hour: float, start: float) -> dict[str, Any]:
    return {"golem.com.pricing.model.linear.coeffs": [cpu_hour / 3600, hour / 3600, start]}


def removed_by(needs: Requirements, offer: MarketOffer) -> str | None:
    screening = screen([offer], filters_for(needs))
    assert len(screening.kept) + len(screening.removed) == 1
    return screening.removed[0][1] if screening.removed else None


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, None),
        ({"golem.node.debug.subnet": "private"}, "subnet"),
        ({"golem.runtime.name": "wasmtime"}, "runtime"),
        ({"golem.com.payment.platform.erc20-hoodi-tglm.address": None}, "payment platform"),
        ({"golem.inf.mem.gib": 1.99}, "memory"),
        ({"golem.inf.mem.gib": 2}, None),
        ({"golem.inf.storage.gib": None}, "storage"),
        ({"golem.inf.cpu.threads": 1}, "threads"),
        (coeffs(0.5, 0.2, 0.01), None),
        (coeffs(0.1, 0.1, 0.0101), "start price"),
        (coeffs(0.51, 0.1, 0.0), "CPU price"),
        (coeffs(0.1, 0.21, 0.0), "hour price"),
    ],
)
def test_each_filter(offer: Make, changes: dict[str, Any], name: str | None) -> None:
    assert removed_by(ASKED, offer(**changes)) == name


def test_capabilities_must_all_be_there(offer: Make) -> None:
    assert removed_by(replace(ASKED, capabilities=("vpn",)), offer()) is None
    assert removed_by(replace(ASKED, capabilities=("vpn", "gpu")), offer()) == "capabilities"


@pytest.mark.parametrize("named", ["willow", NODE, "0x" + "2" * 40, "WILLOW"])
def test_lists(offer: Make, named: str) -> None:
    assert removed_by(replace(ASKED, allow=(named,)), offer()) is None
    assert removed_by(replace(ASKED, block=(named,)), offer()) == "block list"
    assert removed_by(replace(ASKED, allow=("alder",)), offer()) == "allow list"


def test_the_banned(offer: Make) -> None:
    assert removed_by(replace(ASKED, banned=frozenset({NODE})), offer()) == "reputation"
    assert removed_by(replace(ASKED, banned=frozenset({"0x" + "3" * 40})), offer()) is None


@pytest.mark.parametrize("prefix", ["golem.inf.gpu.d0.", "golem.!exp.gap-35.v1.inf.gpu."])
def test_gpus(offer: Make, prefix: str) -> None:
    card = offer(**{f"{prefix}model": "NVIDIA A30", f"{prefix}memory.total.gib": 24})
    wants = replace(ASKED, wants_gpu=True)
    assert removed_by(wants, offer()) == "GPU"
    assert removed_by(wants, card) is None
    assert removed_by(replace(wants, gpu_memory_gib=24.0, gpu_models=("nvidia a30",)), card) is None
    assert removed_by(replace(wants, gpu_memory_gib=25.0), card) == "GPU"
    assert removed_by(replace(wants, gpu_models=("NVIDIA A40",)), card) == "GPU"


def test_counts_add_up_in_order(offer: Make) -> None:
    """Of 6 offers the runtime takes 2, memory 1 of the rest, the CPU price 1 more: 2 are left."""
    market = [
        offer(),
        offer("0x" + "3" * 40),
        offer(**{"golem.runtime.name": "wasmtime"}),
        offer(**{"golem.runtime.name": "wasmtime", "golem.inf.mem.gib": 0.5}),
        offer(**{"golem.inf.mem.gib": 0.5, **coeffs(9, 9, 9)}),
        offer(**coeffs(0.6, 0.0, 0.0)),
    ]
    screening = screen(market, filters_for(ASKED))
    assert [(one.name, one.removed, one.left) for one in screening.counts if one.removed] == [
        ("runtime", 2, 4),
        ("memory", 1, 3),
        ("CPU price", 1, 2),
    ]
    assert [offer.node_id[2] for offer in screening.kept] == ["1", "3"]


OFFERS = st.lists(
    st.builds(
        lambda threads, memory, price: (threads, memory, price),
        st.integers(1, 8),
        st.integers(0, 8),
        st.integers(0, 10),
    ),
    max_size=20,
)


@given(OFFERS)
def test_nothing_is_lost_or_counted_twice(market: list[tuple[int, int, int]]) -> None:
    offers = [
        read_market_offer(
            f"0x{number:040x}",
            {
                "golem.com.scheme": "payu",
                "golem.com.pricing.model": "linear",
                "golem.com.usage.vector": ["golem.usage.cpu_sec"],
                **{"golem.com.pricing.model.linear.coeffs": [price / 10 / 3600, 0.0]},
                "golem.inf.cpu.threads": threads,
                "golem.inf.mem.gib": memory,
                "golem.inf.storage.gib": 10,
                "golem.runtime.name": "vm",
            },
        )
        for number, (threads, memory, price) in enumerate(market)
    ]
    needs = replace(ASKED, platform=None, subnet=None)
    screening = screen(offers, filters_for(needs))
    fit = [t >= 2 and m >= 2 and p <= 5 for t, m, p in market]
    assert [offer in screening.kept for offer in offers] == fit
    assert sum(one.removed for one in screening.counts) == fit.count(False)
    assert len(screening.removed) == fit.count(False)
    left = [len(market)] + [one.left for one in screening.counts]
    assert all(
        before - one.removed == one.left
        for before, one in zip(left, screening.counts, strict=False)
    )


def test_a_filter_sees_only_what_is_left(offer: Make) -> None:
    seen: list[str] = []

    def note(one: MarketOffer) -> bool:
        seen.append(one.node_id)
        return True

    first = OfferFilter("first", "", lambda one: one.node_id == NODE)
    screen([offer(), offer("0x" + "3" * 40)], [first, OfferFilter("second", "", note)])
    assert seen == [NODE]
