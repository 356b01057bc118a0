"""Runs played in no time, against hand calculation and laws."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.marketplace.money.spending import Prices
from requestor.quoting.simulation import MAX_ITEMS, Overheads, Plan, Worker, play

NOTHING = Overheads(0.0, 0.0, 0.0, 0.0, 0.0)
HOUR = Prices(Decimal(0), Decimal(0), Decimal(3600))
"""One GLM a second."""


def worker(name: str, order_seconds: float, **changes: Any) -> Worker:
    """A worker that is ready at once and uses no CPU."""
    usual: dict[str, Any] = {
        "voice": name,
        "prices": HOUR,
        "order_cpu_seconds": 0.0,
        "start_seconds": 0.0,
        "start_cpu_seconds": 0.0,
    }
    return Worker(name=name, order_seconds=order_seconds, **{**usual, **changes})


def test_a_round_by_hand() -> None:
    # 8 orders: a takes 1 s, b 2 s. At 5 s a has done 5 and b 2 with one in hand till 6 s, where a
    # has nothing left to take: 6 s in all, a 5 orders (waiting a second), b 3
    played = play(Plan(1, 8, 2, speculate=False), [worker("a", 1.0), worker("b", 2.0)], [], NOTHING)
    assert played.first_seconds == pytest.approx(6.0)
    orders = {share.worker.name: share.orders for share in played.shares}
    assert orders == {"a": 5, "b": 3}
    # both are paid for the 6 s
    assert played.glm(1) == Decimal(12)


def test_a_second_provider_that_starts_late_takes_less() -> None:
    # b comes at 3 s: a has done 3 of 8 by then, the other 5 take 3 s more (a 3, b 2 till 5 s... the
    # last begins at 5 s): a at 1, 2, ..., 6; b at 4, 5
    crew = [worker("a", 1.0), worker("b", 1.0, start_seconds=3.0)]
    played = play(Plan(1, 8, 2, speculate=False), crew, [], NOTHING)
    assert played.first_seconds == pytest.approx(6.0)
    assert {share.worker.name: share.orders for share in played.shares}["a"] in (5, 6)
    assert played.glm(1) == Decimal(12)  # its start is paid like its work


def test_prices_of_start_cpu_and_hour() -> None:
    # start 0.5, and 0.1 GLM a CPU second: 1 s for the start, 0.25 s for each of 4 orders
    prices = Prices(Decimal("0.5"), Decimal(360), Decimal(3600))
    one = worker(
        "a", 1.0, prices=prices, order_cpu_seconds=0.25, start_seconds=2.0, start_cpu_seconds=1.0
    )
    played = play(Plan(1, 4, 1), [one], [], Overheads(7.0, 0.0, 0.0, 0.5, 3.0))
    # 2 s start, 4 s work, 0.5 s until its agreement has ended: 6.5 GLM; 2 CPU seconds: 0.2 GLM
    assert played.glm(1) == Decimal("7.2")
    # 7 s before, 6 s, and 3.5 s after
    assert played.seconds(1) == pytest.approx(16.5)
    (share,) = played.shares
    assert (share.orders, share.seconds, share.cpu_seconds) == (4, 6.5, 2.0)


def test_rounds_wait_for_their_judge() -> None:
    # 3 rounds of 2 s; 0.25 s between them, and 5 s for a judge after every second one
    overheads = Overheads(0.0, 0.25, 5.0, 0.0, 0.0)
    played = play(Plan(3, 2, 1, judged_every=2), [worker("a", 1.0)], [], overheads)
    assert played.seconds(3) == pytest.approx(3 * 2 + 2 * 0.25 + 5)
    assert played.glm(3) == Decimal("11.5")
    assert played.seconds(1) == pytest.approx(2.0)


@pytest.mark.parametrize("rounds", [1, 2, 6, 7, 1000])
def test_many_rounds_are_like_the_last_ones_played(rounds: int) -> None:
    overheads = Overheads(1.0, 0.5, 0.0, 0.0, 2.0)
    played = play(Plan(rounds, 4, 1), [worker("a", 1.0)], [], overheads)
    assert played.seconds(rounds) == pytest.approx(3 + 4 * rounds + 0.5 * (rounds - 1))
    assert float(played.glm(rounds)) == pytest.approx(4 * rounds + 0.5 * (rounds - 1))
    (share,) = played.shares
    assert share.orders == 4 * rounds
    assert float(share.glm) == pytest.approx(float(played.glm(rounds)))


def test_large_rounds_are_played_in_bundles() -> None:
    clients = 10 * MAX_ITEMS
    played = play(Plan(1, clients, 4), [worker(n, 1.0) for n in "abcd"], [], NOTHING)
    assert played.seconds(1) == pytest.approx(clients / 4)
    assert sum(share.orders for share in played.shares) == clients


def test_a_straggler_is_doubled_and_in_the_end_replaced() -> None:
    # b takes 100 s for an order; a and c do theirs in 1 s and copies of b's after 1.5 times that
    crew = [worker("a", 1.0), worker("b", 100.0), worker("c", 1.0)]
    plan = Plan(6, 6, 3)
    played = play(plan, crew, [worker("d", 1.0)], NOTHING)
    names = [share.worker.name for share in played.shares]
    assert played.seconds(1) < 5
    # b is busy with its first order, in vain, all the time: late once, so that it stays
    assert names == ["a", "b", "c"]
    # with 5 s it is late in three rounds of 3 s, one after the other, the third time at 15.5 s
    crew[1] = worker("b", 5.0)
    played = play(plan, crew, [worker("d", 1.0)], NOTHING)
    shares = {share.worker.name: share for share in played.shares}
    assert (shares["b"].orders, shares["b"].seconds) == (3, 15.5)
    assert shares["d"].seconds == pytest.approx(played.seconds(6) - 15.5)


def test_nobody_is_no_crew() -> None:
    with pytest.raises(ValueError, match="needs a provider"):
        play(Plan(1, 1, 1), [], [], NOTHING)


SECONDS = st.floats(0.01, 100)


@given(
    st.lists(SECONDS, min_size=1, max_size=6),
    st.integers(1, 30),
    st.integers(1, 8),
    st.booleans(),
)
def test_no_round_beats_the_sum_of_all_and_none_wastes_more_than_an_order(
    paces: list[float], clients: int, rounds: int, speculate: bool
) -> None:
    crew = [worker(str(n), seconds) for n, seconds in enumerate(paces)]
    plan = Plan(rounds, clients, len(crew), speculate=speculate)
    played = play(plan, crew, [], NOTHING)
    # list scheduling: never faster than all together, never slower than that and one order more
    together = clients / sum(1 / seconds for seconds in paces)
    assert played.first_seconds >= together * (1 - 1e-9)
    assert played.first_seconds <= together + max(paces) + 1e-9
    assert played.glm(rounds) >= 0
    assert sum(share.orders for share in played.shares) >= clients * rounds - 1e-9
    if not speculate:
        assert sum(share.orders for share in played.shares) == clients * rounds
    assert math.isfinite(played.seconds(rounds))


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 6))
def test_equals_share_a_round_in_whole_turns(clients: int, rounds: int, providers: int) -> None:
    crew = [worker(str(n), 1.0) for n in range(providers)]
    played = play(Plan(rounds, clients, providers), crew, [], NOTHING)
    turns = math.ceil(clients / providers)
    assert played.seconds(rounds) == pytest.approx(rounds * turns)
    assert float(played.glm(rounds)) == pytest.approx(rounds * turns * providers)
