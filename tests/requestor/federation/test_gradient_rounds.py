"""What is drawn for a round of estimates: within bounds, of the right mean, from the seed alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from requestor.federation.gradient_rounds import ByzPg, FedPgBr, GradientRound, InnerLoop


@given(st.integers(0, 2**31 - 2), st.integers(0, 10_000))
def test_a_round_follows_from_seed_and_number(seed: int, index: int) -> None:
    assert FedPgBr().round(seed, index) == FedPgBr().round(seed, index)
    assert ByzPg().round(seed, index) == ByzPg().round(seed, index)


def test_batches_are_uniform_between_their_bounds() -> None:
    drawn = [FedPgBr().round(1, index).episodes for index in range(2000)]
    assert set(drawn) == set(range(12, 21))
    # mean 16, standard deviation sqrt((9^2 - 1) / 12) = 2.58; of 2000: 0.058
    assert abs(np.mean(drawn) - 16) < 4 * 0.058


def test_inner_steps_are_geometric() -> None:
    method = FedPgBr(least_episodes=16, most_episodes=16, server_episodes=4)
    steps = np.array([_inner(method.round(3, index)).most for index in range(4000)])
    # mean (16 + 4) / 4 = 5; p = 1/5, standard deviation sqrt(1 - p) / p = 4.47; of 4000: 0.071
    assert abs(steps.mean() - 5) < 4 * 0.071
    assert steps.min() == 1
    # P(N = 1) = 1/5, of 4000: 0.0063
    assert abs((steps == 1).mean() - 0.2) < 4 * 0.0063


def test_the_coin_of_byzpg() -> None:
    rounds = [ByzPg().round(5, index) for index in range(4000)]
    assert rounds[0] == GradientRound(50, 500)
    assert set(rounds) == {GradientRound(50, 500), GradientRound(4, 500, is_difference=True)}
    large = np.mean([not each.is_difference for each in rounds])
    assert abs(large - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 4000)


def test_episodes_per_agent_count_the_server_as_one() -> None:
    # (16 * 10 + 4 * 5) / 11 = 16.36
    step = GradientRound(16, 500, inner=InnerLoop(9, 4, 0.005))
    assert step.episodes_per_agent(10, inner_steps=5) == 16
    # a single client is its own server: 16 + 20
    assert step.episodes_per_agent(1, inner_steps=5) == 36
    assert GradientRound(50, 500).episodes_per_agent(13, inner_steps=1) == 50


def _inner(step: GradientRound) -> InnerLoop:
    assert step.inner is not None
    return step.inner
