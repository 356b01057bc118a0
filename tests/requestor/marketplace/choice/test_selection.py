"""Whom a session rents: lists, ceilings, records, gathering, wallets, giving way."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from requestor.marketplace.choice.choosing import Work
from requestor.marketplace.choice.failures import FailureKind, FailureRule
from requestor.marketplace.choice.history import Evidence, ProviderHistory, Start, Who
from requestor.marketplace.choice.selection import (
    QUIET_SECONDS,
    Offered,
    Preferences,
    Selection,
    lower,
)
from requestor.marketplace.money.spending import Prices

CEILINGS = Prices(Decimal("0.1"), Decimal(1), Decimal(1))
KIND = "ppo CartPole-v1 0a1b2c3d"


class Clock:
    """A clock under the test's control."""

    seconds = 1e9

    def __call__(self) -> float:
        return self.seconds


class Market:
    """Offers, and a session that chooses among them."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.history = ProviderHistory(folder / "providers.json", self.clock)

    def session(self, **preferences: Any) -> Selection:
        """A session with the market, whose gathering is over."""
        work = preferences.pop("work", Work(KIND, 10**7, 4))
        session = Selection(
            Preferences(work=work, **preferences), CEILINGS, self.history, self.clock
        )
        session.begin()
        self.clock.seconds += 60
        return session


@pytest.fixture
def market(tmp_path: Path) -> Market:
    return Market(tmp_path)


def offered(
    node: str, hour: str = "0.1", *, wallet: str | None = None, start: str = "0", name: str = ""
) -> Offered:
    prices = Prices(Decimal(start), Decimal(0), Decimal(hour))
    return Offered(Who(node, name or f"Node {node}", wallet), prices)


def by_node(*offers: Offered) -> Mapping[str, Offered]:
    return {offer.who.node_id: offer for offer in offers}


# --- lists and ceilings ------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["0xA"], ["0xW"], ["node 0xa"]], ids=["node", "wallet", "name"])
def test_lists_know_ids_wallets_and_names(market: Market, names: list[str]) -> None:
    mine, other = offered("0xa", wallet="0xw"), offered("0xb", wallet="0xv")
    allowing = market.session(allow=lower(names))
    assert allowing.refusal(mine) is None
    assert allowing.refusal(other) == "not on the list golem.allow"
    blocking = market.session(block=lower(names))
    assert blocking.refusal(mine) == "on the list golem.block"
    assert blocking.refusal(other) is None
    both = market.session(allow=lower(names), block=lower(names))
    assert both.refusal(mine) == "on the list golem.block"


def test_an_agreement_must_last_a_minute_under_its_ceiling(market: Market) -> None:
    # at 0.36 GLM an hour a minute costs 0.006; with the start of 0.01 it is 0.016
    session = market.session(agreement_ceiling_glm=Decimal("0.016"))
    assert session.refusal(offered("0xa", "0.36", start="0.01")) is None
    reason = "golem.max_price.agreement_glm does not pay for a minute"
    assert session.refusal(offered("0xb", "0.3601", start="0.01")) == reason
    assert session.refusal(offered("0xc", "0", start="0.0161")) == reason
    assert session.refusal(offered("0xd", "0", start="0.0159")) is None


def test_the_minute_under_the_ceiling_is_one_of_all_threads(market: Market) -> None:
    # 0.1 GLM a CPU hour: a minute of one thread costs 0.00167, of 64 threads 0.10667
    session = market.session(agreement_ceiling_glm=Decimal("0.1167"))
    prices = Prices(Decimal("0.01"), Decimal("0.1"), Decimal(0))
    assert session.refusal(Offered(Who("0xa", "a"), prices, 64)) is None
    reason = "golem.max_price.agreement_glm does not pay for a minute"
    assert session.refusal(Offered(Who("0xb", "b"), prices, 65)) == reason


@pytest.mark.parametrize(
    ("seconds", "was_ready", "is_last"),
    [(49.9, True, True), (50.0, True, False), (49.9, False, True), (900.0, False, True)],
)
def test_whoever_comes_to_the_ceiling_at_once_is_not_rented_again(
    market: Market, seconds: float, was_ready: bool, is_last: bool
) -> None:
    session = market.session(agreement_ceiling_glm=Decimal(1))
    offer = offered("0xa")
    assert session.refusal(offer) is None
    session.agreed("g1", offer)
    assert session.came_to_ceiling("g1", seconds, was_ready=was_ready) is is_last
    session.ended("g1")
    assert session.pick(by_node(offer)) == (None if is_last else "0xa")
    told = "; refused: came to golem.max_price.agreement_glm at once (1)" if is_last else ""
    assert session.view == f"1 offers seen{told}"
    assert session.standing(offer.who) == "good"


def test_the_view_counts_providers_and_reasons(market: Market) -> None:
    session = market.session(block=lower(["0xb"]))
    for one in (offered("0xa"), offered("0xa"), offered("0xb"), offered("0xc", "2")):
        session.refusal(one)
    assert session.view == (
        "3 offers seen; refused: on the list golem.block (1), above the price ceilings (1)"
    )
    session.refusal(offered("0xc", "0.5"))
    assert session.view == "3 offers seen; refused: on the list golem.block (1)"
    assert set(session.offers) == {"0xa", "0xc"}


# --- records -----------------------------------------------------------------------------------


def test_a_failure_makes_doubtful_and_two_bar_the_wallet(market: Market) -> None:
    session = market.session()
    one, mate, other = Who("0x1", "a", "0xw"), Who("0x2", "b", "0xw"), Who("0x3", "c", "0xv")
    session.failed(one, "vanished")
    assert [session.standing(who) for who in (one, mate, other)] == ["doubtful", "doubtful", "good"]
    session.failed(mate, "no_result")
    assert [session.standing(who) for who in (one, mate, other)] == ["barred", "barred", "good"]


def test_who_fakes_is_barred_and_others_of_its_wallet_come_last(market: Market) -> None:
    session = market.session()
    liar, named, owner = (Who(node, node, "0xw") for node in ("0x1", "0x2", "0xw"))
    for _ in range(3):
        session.failed(liar, "faked_work")
    standings = [session.standing(who) for who in (liar, named, owner)]
    assert standings == ["barred", "doubtful", "good"]


def test_slowness_is_a_nodes_own(market: Market) -> None:
    session = market.session()
    one, mate = Who("0x1", "a", "0xw"), Who("0x2", "b", "0xw")
    session.failed(one, "slow")
    session.failed(one, "slow")
    assert session.standing(one) == "barred"
    assert session.standing(mate) == "good"


@pytest.mark.parametrize(
    ("kinds", "standing"),
    [
        (["slow"], "doubtful"),
        (["vanished"] * 3, "doubtful"),
        (["vanished"] * 4, "banned"),
        (["bad_result"], "doubtful"),
        (["bad_result", "overbilled"], "banned"),
        ([], "good"),
    ],
)
def test_earlier_failures_make_doubtful_or_ban(
    market: Market, kinds: list[FailureKind], standing: str
) -> None:
    who = Who("0x1", "a", "0xw")
    for kind in kinds:
        market.history.failed(who, kind, "it was so")
    session = market.session()
    assert session.standing(who) == standing
    reason = "banned for earlier failures" if standing == "banned" else None
    assert session.refusal(Offered(who, Prices())) == reason


@pytest.mark.parametrize("kind", ["bad_result", "overbilled", "vanished"])
def test_a_failure_of_its_own_bans_nobody_whose_wallet_liars_name(
    market: Market, kind: FailureKind
) -> None:
    """Of its own it has 2 or 1, from its wallet 1.5, and 3.5 is above 3."""
    victim = Who("0x1", "a", "0xw")
    market.history.failed(victim, kind, "two others contradict it")
    for number in range(3):
        market.history.failed(Who(f"0xbad{number}", "b", "0xw"), "faked_work", "it lied")
    session = market.session()
    assert session.standing(victim) == "doubtful"
    assert session.pick(by_node(offered("0x1", wallet="0xw"))) == "0x1"
    assert session.standing(Who("0xbad0", "b", "0xw")) == "banned"


def test_whoever_is_listed_is_not_banned(market: Market) -> None:
    who = Who("0x1", "a", "0xw")
    for _ in range(2):
        market.history.failed(who, "bad_result", "not finite")
    assert market.session().standing(who) == "banned"
    assert market.session(allow=lower(["0xw"])).standing(who) == "doubtful"


def test_a_new_node_of_a_bad_wallet_is_no_stranger(market: Market) -> None:
    for _ in range(2):
        market.history.failed(Who("0x1", "a", "0xw"), "bad_result", "not finite")
    assert market.session().standing(Who("0x2", "b", "0xw")) == "doubtful"
    assert market.session().standing(Who("0xw", "b", "0xw")) == "good"
    assert market.session().standing(Who("0x2", "b", "0xv")) == "good"
    assert market.session().standing(Who("0x2", "b")) == "good"


def test_the_doubtful_come_last_however_cheap(market: Market) -> None:
    market.history.failed(Who("0x1", "a"), "vanished", "gone")
    session = market.session()
    offers = by_node(offered("0x1", "0.001"), offered("0x2", "0.9"))
    assert session.pick(offers) == "0x2"
    assert session.pick(by_node(offered("0x1", "0.001"))) == "0x1"
    assert session.pick({}) is None


def test_whoever_declines_is_asked_last(market: Market) -> None:
    session = market.session()
    offers = by_node(offered("0x1", "0.001"), offered("0x2", "0.9"))
    session.declined("0x1")
    assert session.pick(offers) == "0x2"


def test_whoever_was_barred_since_the_offer_came_is_not_taken(market: Market) -> None:
    session = market.session()
    offer = offered("0x1", wallet="0xw")
    assert session.refusal(offer) is None
    for _ in range(2):
        session.failed(Who("0x2", "b", "0xw"), "bad_result")
    assert session.pick(by_node(offer)) is None


# --- gathering ---------------------------------------------------------------------------------


def test_nobody_is_taken_while_offers_still_come_in(market: Market) -> None:
    session = Selection(Preferences(gather_seconds=5), CEILINGS, market.history, market.clock)
    session.begin()
    offers = by_node(offered("0x1", "0.5"))
    session.refusal(offers["0x1"])
    for _ in range(3):
        market.clock.seconds += 0.9 * QUIET_SECONDS
        assert session.pick(offers) is None
        session.refusal(offered("0x2", "0.2"))
    market.clock.seconds += QUIET_SECONDS
    offers = by_node(*offers.values(), offered("0x2", "0.2"))
    assert session.pick(offers) == "0x2"


def test_gathering_ends_in_a_market_that_never_falls_silent(market: Market) -> None:
    session = Selection(Preferences(gather_seconds=2), CEILINGS, market.history, market.clock)
    session.begin()
    began = market.clock.seconds
    offer = offered("0x1")
    while session.pick(by_node(offer)) is None:
        session.refusal(offer)
        market.clock.seconds += 0.25
    assert market.clock.seconds - began == 2


def test_a_replacement_does_not_wait(market: Market) -> None:
    session = market.session()
    session.agreed("g1", offered("0x1"))
    session.refusal(offered("0x2"))
    assert session.pick(by_node(offered("0x2"))) == "0x2"


# --- worth -------------------------------------------------------------------------------------


def test_measured_speed_decides_against_the_price(market: Market) -> None:
    now = market.clock.seconds
    market.history.worked(Who("0x1", "a"), speeds={KIND: Evidence(50_000, 100, at_seconds=now)})
    market.history.worked(Who("0x2", "b"), speeds={KIND: Evidence(200_000, 100, at_seconds=now)})
    # 0x1: (50,000 + 20 * 1250) / 120 = 625 a second, 0x2: 1875; typical is 1250, 0x3: 1375 hoped.
    # So per second and price 0x1: 6250, 0x2: 9375 and 0x3: 9167
    offers = by_node(offered("0x1", "0.10"), offered("0x2", "0.20"), offered("0x3", "0.15"))
    assert market.session().pick(offers) == "0x2"
    without = {node: offer for node, offer in offers.items() if node != "0x2"}
    assert market.session().pick(without) == "0x3"
    assert market.session(rule="cheapest").pick(offers) == "0x1"
    assert market.session(work=Work("sac other", 0, 4)).pick(offers) == "0x1"


def test_nodes_of_one_wallet_are_rented_up_to_the_limit(market: Market) -> None:
    session = market.session(max_per_wallet=1)
    offers = by_node(offered("0x1", "0.1", wallet="0xw"), offered("0x2", "0.9", wallet="0xv"))
    session.agreed("g1", offered("0x3", wallet="0xw"))
    assert session.pick(offers) == "0x2"
    session.ended("g1")
    assert session.pick(offers) == "0x1"
    unlimited = market.session()
    unlimited.agreed("g1", offered("0x3", wallet="0xw"))
    assert unlimited.pick(offers) == "0x1"


def test_what_came_of_orders_goes_to_the_history(market: Market) -> None:
    session = market.session()
    session.agreed("g1", offered("0x1", wallet="0xw"))
    now = market.clock.seconds
    session.worked("0x1", Evidence(4096, 2, at_seconds=now))
    session.worked("0x1", Evidence(0, 1, at_seconds=now))
    session.remember(session.who("g1"), 1, Start(2.0, 1.5))
    record = market.history.records()["0x1"]
    assert record.speeds == {KIND: Evidence(4096, 3, at_seconds=now)}
    assert (record.successes, record.start, record.wallet) == (1, Start(2.0, 1.5), "0xw")
    session.remember(session.who("g1"), 0, None)
    assert market.history.records()["0x1"].speeds == {KIND: Evidence(4096, 3, at_seconds=now)}


# --- giving way --------------------------------------------------------------------------------


def rented(session: Selection, clock: Clock, speed: float = 1000.0) -> None:
    session.agreed("g1", offered("0x1", "0.1"))
    session.worked("0x1", Evidence(30 * speed, 30, at_seconds=clock.seconds))


def test_a_clearly_better_offer_takes_the_place_once(market: Market) -> None:
    session = market.session()
    rented(session, market.clock)
    # equally fast as far as is known (hope: 4 % against 10 %): 1.5 times cheaper is not enough,
    # 1.04 / 1.1 * 2 = 1.89 times better is
    assert session.replaced_by("g1", [offered("0x2", "0.071")]) is None
    assert session.replaced_by("g1", [offered("0x2", "0.05", name="birch")]) == "birch"
    assert session.replaced_by("g1", [offered("0x2", "0.05")]) is None


def test_nobody_is_replaced_for_the_last_minute(market: Market) -> None:
    # 4 providers of 1000 steps a second, 80 % of the time: 192,000 steps a minute
    session = market.session(work=Work(KIND, 30_000 + 191_000, 4))
    rented(session, market.clock)
    assert session.replaced_by("g1", [offered("0x2", "0.01")]) is None
    session = market.session(work=Work(KIND, 30_000 + 193_000, 4))
    rented(session, market.clock)
    assert session.replaced_by("g1", [offered("0x2", "0.01")]) == "Node 0x2"


@pytest.mark.parametrize("case", ["switched off", "doubtful", "itself", "refused", "new"])
def test_a_place_is_kept(market: Market, case: str) -> None:
    session = market.session(replaces_slow=case != "switched off")
    if case == "new":
        session.agreed("g1", offered("0x1", "0.1"))
    else:
        rented(session, market.clock)
    other = offered("0x1" if case == "itself" else "0x2", "2" if case == "refused" else "0.01")
    if case == "doubtful":
        session.failed(other.who, "vanished")
    assert session.replaced_by("g1", [other]) is None
    assert session.replaced_by("unknown", [other]) is None


@pytest.mark.parametrize("wallets", [1, 100], ids=["one wallet", "wallets of their own"])
def test_a_choice_goes_through_the_records_once_and_not_for_every_offer(
    market: Market, monkeypatch: pytest.MonkeyPatch, wallets: int
) -> None:
    offers = [offered(f"0x{n}", wallet=f"0xw{n % wallets}") for n in range(100)]
    for offer in offers:
        market.history.failed(offer.who, "slow", "others were first")
    session = market.session()
    weighed = 0
    left = FailureRule.left

    def counted(rule: FailureRule, weight: float, age_seconds: float) -> float:
        nonlocal weighed
        weighed += 1
        return left(rule, weight, age_seconds)

    monkeypatch.setattr(FailureRule, "left", counted)
    assert session.pick(by_node(*offers)) is not None
    # each record for its wallet, and each offer's own a few times; 100 * 100 would be every record
    # for every offer
    assert 100 <= weighed <= 1000
