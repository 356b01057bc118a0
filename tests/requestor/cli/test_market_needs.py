"""Offers are held against a config by the wallet that a run would pay to, and by no other."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from requestor.cli.market_needs import assess
from requestor.cli.renting import preferences
from requestor.config import RunConfig, parse_config
from requestor.marketplace.choice.history import ProviderHistory, Who
from requestor.marketplace.choice.selection import Selection
from requestor.marketplace.golem.renting.strategy import read_offered
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.offers.market import read_market_offer

NODE, NEIGHBOUR, ON_HOODI, ON_POLYGON = ("0x" + digit * 40 for digit in "ab31")
OFFER: dict[str, Any] = {
    "golem.com.payment.platform.erc20-hoodi-tglm.address": ON_HOODI,
    "golem.com.payment.platform.erc20-polygon-glm.address": ON_POLYGON,
    "golem.com.pricing.model": "linear",
    "golem.com.pricing.model.linear.coeffs": [0.0, 0.0, 0.001],
    "golem.com.scheme": "payu",
    "golem.com.usage.vector": ["golem.usage.cpu_sec", "golem.usage.duration_sec"],
    "golem.inf.cpu.threads": 4,
    "golem.inf.mem.gib": 8.0,
    "golem.inf.storage.gib": 20.0,
    "golem.node.debug.subnet": "public",
    "golem.node.id.name": "willow",
    "golem.runtime.name": "vm",
}


def config(lists: str = "") -> RunConfig:
    return parse_config(f"{{env: {{id: CartPole-v1}}, algo: {{name: ppo}}, golem: {{{lists}}}}}")


def in_a_run(chosen: RunConfig, history: ProviderHistory) -> bool:
    """Whether a run takes the offer."""
    most = chosen.golem.max_price
    ceilings = Prices(most.start_glm, most.cpu_hour_glm, most.hour_glm)
    selection = Selection(preferences(chosen), ceilings, history, time.monotonic)
    return selection.refusal(read_offered(NODE, OFFER, "erc20-hoodi-tglm")) is None


@pytest.mark.parametrize(
    ("lists", "accused", "is_kept"),
    [
        ("", None, True),
        ("", ON_HOODI, True),
        ("", ON_POLYGON, True),
        (f"block: ['{ON_HOODI}']", None, False),
        (f"block: ['{ON_POLYGON}']", None, True),
        (f"allow: ['{ON_HOODI}']", None, True),
        (f"allow: ['{ON_POLYGON}']", None, False),
    ],
)
def test_of_several_wallets_that_of_the_platform_counts(
    tmp_path: Path, lists: str, accused: str | None, is_kept: bool
) -> None:
    history = ProviderHistory(tmp_path / "providers.json", lambda: 1000.0)
    for _ in range(3 if accused else 0):
        history.failed(Who(NEIGHBOUR, "elm", accused), "overbilled", "a thousand times too much")
    chosen = config(lists)
    found = assess([read_market_offer(NODE, OFFER)], chosen.golem, history)
    assert bool(found.screening.kept) is is_kept
    assert found.known[NODE].standing == ("doubtful" if accused == ON_HOODI else "good")
    assert in_a_run(chosen, history) is is_kept
    if is_kept:
        assert found.screening.kept[0].wallet == ON_HOODI
