"""Estimates of the policy gradient, against torch's own differentiation and against definitions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from provider_image.learners.policy_gradient_episodes import Episodes
from provider_image.learners.policy_gradient_estimates import (
    episode_ratios,
    estimate,
    page_difference,
    step_ratios,
    step_weights,
)
from provider_image.learners.policy_gradient_network import (
    Parameters,
    PolicyNetwork,
    parameters_of,
)

RELU = PolicyNetwork((4, 16, 16, 2), "relu", squash_logits=True)
TANH = PolicyNetwork((3, 8, 5), "tanh", squash_logits=False)


def some_episodes(network: PolicyNetwork, seed: int, lengths: tuple[int, ...]) -> Episodes:
    rng = np.random.default_rng(seed)
    count = sum(lengths)
    return Episodes(
        rng.normal(size=(count, network.sizes[0])),
        rng.integers(network.sizes[-1], size=count),
        rng.normal(size=count),
        np.array(lengths, np.int64),
    )


def in_torch(network: PolicyNetwork, parameters: Parameters, episodes: Episodes) -> torch.Tensor:
    """log pi(a|s) of every step, by torch in float64, differentiable in PARAMETERS."""
    value = torch.tensor(episodes.observations)
    layers = len(network.sizes) - 1
    for layer in range(layers):
        weight = LEAVES[f"policy/layers.{layer}.weight"]
        value = torch.nn.functional.linear(value, weight, LEAVES[f"policy/layers.{layer}.bias"])
        if layer < layers - 1:
            value = torch.relu(value) if network.activation == "relu" else torch.tanh(value)
    if network.squash_logits:
        value = torch.tanh(value)
    chances: torch.Tensor = torch.log_softmax(value, dim=1)
    return chances[torch.arange(len(value)), torch.tensor(episodes.actions)]


LEAVES: dict[str, torch.Tensor] = {}


def leaves(parameters: Parameters) -> None:
    LEAVES.clear()
    for name, value in parameters.items():
        LEAVES[name] = torch.tensor(value, requires_grad=True)


@pytest.mark.parametrize("network", [RELU, TANH], ids=["relu squashed", "tanh"])
def test_the_gradient_is_torchs(network: PolicyNetwork) -> None:
    episodes = some_episodes(network, 1, (7, 1, 12))
    parameters = parameters_of(network.fresh(3))
    weights = np.random.default_rng(2).normal(size=20)
    leaves(parameters)
    (in_torch(network, parameters, episodes) * torch.tensor(weights)).sum().backward()  # type: ignore[no-untyped-call]
    found = estimate(network, parameters, episodes, weights)
    assert found.keys() == LEAVES.keys()
    for name, value in found.items():
        expected = LEAVES[name].grad
        assert expected is not None
        np.testing.assert_allclose(value, expected.numpy(), atol=2e-6)


def test_ratios_are_those_of_probabilities() -> None:
    episodes = some_episodes(TANH, 4, (30, 2))
    one, other = parameters_of(TANH.fresh(5)), parameters_of(TANH.fresh(6))
    logs = []
    for parameters in (one, other):
        leaves(parameters)
        logs.append(in_torch(TANH, parameters, episodes).detach().numpy())
    difference = logs[0] - logs[1]
    np.testing.assert_allclose(step_ratios(TANH, one, other, episodes), np.exp(difference), 1e-5)
    whole = [np.exp(difference[:30].sum()), np.exp(difference[30:].sum())]
    found = episode_ratios(TANH, one, other, episodes, 1e6)
    np.testing.assert_allclose(found, whole, rtol=1e-4)
    np.testing.assert_allclose(
        episode_ratios(TANH, one, other, episodes, 1.0), np.minimum(whole, 1.0), rtol=1e-4
    )


def test_the_ratio_of_a_long_episode_does_not_vanish() -> None:
    episodes = some_episodes(RELU, 7, (500,))
    parameters = parameters_of(RELU.fresh(8))
    # 500 factors of about a half are below the least float64; the same policy has ratio 1
    assert episode_ratios(RELU, parameters, parameters, episodes, 10.0) == [1.0]


def test_whitened_weights_by_hand() -> None:
    # gamma 1/2, rewards 4, 2, 8: returns to go 4 + 1 + 2 = 7, 2 + 4 = 6, 8; mean 7, deviation
    # sqrt(2/3). The second episode has one step: its return is its mean. 4 steps in all.
    episodes = some_episodes(TANH, 9, (3, 1))._replace(rewards=np.array([4.0, 2.0, 8.0, 5.0]))
    found = step_weights(episodes, 0.5, "whitened")
    deviation = np.sqrt(2 / 3)
    np.testing.assert_allclose(found * 4, [0, -1 / deviation, 1 / deviation, 0], atol=1e-7)


def test_discounted_weights_by_hand() -> None:
    # gamma 1/2: 4 + 2/2 + 8/4 = 7, 2/2 + 8/4 = 3, 8/4 = 2; the other episode 5. Two episodes.
    episodes = some_episodes(TANH, 9, (3, 1))._replace(rewards=np.array([4.0, 2.0, 8.0, 5.0]))
    np.testing.assert_allclose(step_weights(episodes, 0.5, "discounted"), [3.5, 1.5, 1.0, 2.5])


def test_nothing_has_changed_since_the_same_parameters() -> None:
    episodes = some_episodes(TANH, 10, (9, 4))
    parameters = parameters_of(TANH.fresh(11))
    weights = step_weights(episodes, 0.9, "discounted")
    found = page_difference(TANH, parameters, parameters, episodes, weights, 10.0)
    assert all((value == 0).all() for value in found.values())


def test_the_difference_is_that_of_two_estimates() -> None:
    episodes = some_episodes(TANH, 12, (6, 3))
    now, before = parameters_of(TANH.fresh(13)), parameters_of(TANH.fresh(14))
    weights = step_weights(episodes, 0.9, "discounted")
    gradients, logs = [], []
    for parameters in (now, before):
        leaves(parameters)
        logarithms = in_torch(TANH, parameters, episodes)
        logs.append(logarithms.detach().numpy())
        if parameters is before:
            change = logs[1] - logs[0]
            ratios = np.minimum(np.exp([change[:6].sum(), change[6:].sum()]), 10.0)
            weighted = weights * np.repeat(ratios, [6, 3])
        else:
            weighted = weights
        (logarithms * torch.tensor(weighted)).sum().backward()  # type: ignore[no-untyped-call]
        gradients.append({name: leaf.grad.numpy().copy() for name, leaf in LEAVES.items()})  # type: ignore[union-attr]
    found = page_difference(TANH, now, before, episodes, weights, 10.0)
    for name, value in found.items():
        np.testing.assert_allclose(value, gradients[0][name] - gradients[1][name], atol=1e-5)


@given(st.integers(0, 2**31), st.integers(1, 40))
def test_rows_do_not_depend_on_each_other(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    network = dataclasses.replace(RELU, activation="tanh")
    parameters = parameters_of(network.fresh(seed))
    seen = rng.normal(size=(rows, 4))
    together = network.log_probabilities(parameters, seen)
    alone = np.concatenate(
        [network.log_probabilities(parameters, seen[row : row + 1]) for row in range(rows)]
    )
    assert np.array_equal(together, alone)
    np.testing.assert_allclose(np.exp(together).sum(axis=1), 1.0, atol=1e-6)


def test_squashed_logits_leave_the_other_action_a_chance() -> None:
    parameters = {name: 100.0 * value for name, value in parameters_of(RELU.fresh(1)).items()}
    chances = np.exp(RELU.log_probabilities(parameters, np.ones((1, 4))))
    # e / (e + 1/e) = 0.8808
    assert chances.max() <= 0.8809
