"""Gradient estimates become one direction; expected values are worked out by hand."""

from __future__ import annotations

import numpy as np

from requestor.federation.gradient_merging import (
    close_gradient_round,
    gradient_merger,
    is_alone,
)
from requestor.federation.gradient_rounds import ByzPg, FedPgBr, GradientRound
from requestor.federation.merging.centre_rules import FedPgFilter
from requestor.federation.merging.merger import Merger
from requestor.federation.merging.server_optimizers import Sgd
from requestor.federation.rounds import ClientUpdate, FederationSettings, RoundPlan, plan_round

MODEL = {
    "policy/w": np.array([7.0, 7.0], np.float32),
    "server/direction/w": np.array([10.0, 20.0], np.float32),
    "server/previous/w": np.array([6.0, 6.0], np.float32),
}


def plan(method: FedPgBr | ByzPg, index: int, clients: int) -> RoundPlan:
    settings = FederationSettings(
        run_seed=1, rounds=10, clients=clients, local_steps=25_000, quorum=clients, method=method
    )
    return plan_round(settings, index)


def estimates(of: RoundPlan, *values: tuple[float, float]) -> list[ClientUpdate]:
    return [
        ClientUpdate(item, {"policy/w": np.array(value, np.float32)})
        for item, value in zip(of.items, values, strict=True)
    ]


def test_items_ask_for_the_round_that_was_drawn() -> None:
    of = plan(FedPgBr(), 3, 4)
    assert of.gradient == FedPgBr().round(1, 3)
    assert {item.episodes for item in of.items} == {of.gradient.episodes}
    assert {item.local_steps for item in of.items} == {of.gradient.episodes * 500}
    assert len({item.seed for item in of.items}) == 4
    assert all(item.steps_done + item.local_steps <= item.steps_total for item in of.items)


def test_a_direction_is_the_merge_of_the_estimates_alone() -> None:
    of = plan(ByzPg(), 0, 2)
    outcome = close_gradient_round(of, MODEL, estimates(of, (1, 2), (3, 6)), Merger())
    assert outcome.candidate.keys() == {"policy/w"}
    assert outcome.candidate["policy/w"].tolist() == [2, 4]


def test_differences_are_added_to_the_last_direction() -> None:
    method = ByzPg(large_chance=0.0)
    of = plan(method, 1, 2)
    assert all(item.is_difference for item in of.items)
    outcome = close_gradient_round(of, MODEL, estimates(of, (1, 2), (3, 6)), Merger())
    assert outcome.candidate["policy/w"].tolist() == [12, 24]


def test_the_servers_optimizer_is_not_the_mergers() -> None:
    of = plan(ByzPg(), 0, 2)
    merger = Merger(optimizer=Sgd(0.1))
    outcome = close_gradient_round(of, MODEL, estimates(of, (1, 2), (3, 6)), merger)
    assert outcome.candidate["policy/w"].tolist() == [2, 4]


def test_the_filter_is_told_the_episodes_of_the_round() -> None:
    step = GradientRound(16, 500)
    rule = gradient_merger(Merger(rule=FedPgFilter(sigma=0.06)), step).rule
    assert isinstance(rule, FedPgFilter)
    # 2 * 0.06 * sqrt(2 ln(2 * 10 / 0.6) / 16) = 0.12 * sqrt(7.0131 / 16) = 0.079447
    radius, wide = rule.radii(np.zeros((10, 10)))
    assert abs(radius - 0.079447) < 1e-5
    assert wide == 0.12
    fixed = FedPgFilter(sigma=0.06, episodes=4.0)
    assert gradient_merger(Merger(rule=fixed), step).rule == fixed


def test_the_server_is_alone_where_nobody_is_near_anybody() -> None:
    of = plan(FedPgBr(), 0, 3)
    merger = Merger(rule=FedPgFilter(sigma=0.06, alpha=0.4))
    outcome = close_gradient_round(of, MODEL, estimates(of, (0, 0), (9, 0), (0, 9)), merger)
    assert is_alone(outcome)
    assert outcome.candidate["policy/w"].tolist() == [0, 0]
    near = close_gradient_round(of, MODEL, estimates(of, (0.01, 0), (0, 0.01), (0, 9)), merger)
    assert not is_alone(near)
    assert near.left_out == (2,)
