"""What history says of those who make offers, by node and by wallet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from requestor.marketplace.choice.history import ProviderHistory, Who
from requestor.marketplace.choice.reputation import Reputation, reputations
from requestor.marketplace.offers.market import MarketOffer

NODE, NEIGHBOUR, STRANGER = ("0x" + digit * 40 for digit in "134")
WALLET = "0x" + "2" * 40
ADDRESS = "golem.com.payment.platform.erc20-hoodi-tglm.address"


def test_standing_follows_the_wallet(tmp_path: Path, offer: Callable[..., MarketOffer]) -> None:
    """`bad_result` weighs 2 on its node and on every other of its wallet: above 0.9, below 3."""
    now = [1_000_000.0]
    history = ProviderHistory(tmp_path / "providers.json", lambda: now[0])
    who = Who(NODE, "willow", WALLET)
    history.worked(who, orders=7)
    offers = [offer(), offer(NEIGHBOUR), offer(STRANGER, **{ADDRESS: STRANGER})]
    assert reputations(offers, history) == {
        NODE: Reputation("good", 7, ""),
        NEIGHBOUR: Reputation(),
        STRANGER: Reputation(),
    }
    history.failed(who, "bad_result", "NaN in its result")
    known = reputations(offers, history)
    assert known[NODE] == Reputation("doubtful", 7, "NaN in its result")
    assert known[NEIGHBOUR].standing == "doubtful"
    assert not known[STRANGER].is_known
    history.failed(who, "overbilled", "asked for twice as much")
    known = reputations(offers, history)
    assert (known[NODE].standing, known[NEIGHBOUR].standing) == ("banned", "doubtful")
    assert known[STRANGER].standing == "good"
    assert reputations(offers, history, ["willow"])[NODE].standing == "doubtful"
    now[0] += 90 * 24 * 3600.0
    assert reputations(offers, history)[NODE].standing == "good"
