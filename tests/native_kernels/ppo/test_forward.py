"""Values, actions and log-probabilities against Stable-Baselines3's policy, same weights."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO

from native_kernels import _native
from native_kernels.ppo import PolicyShape, Ppo

Weights = Callable[[PPO], NDArray[np.float32]]


def normal(*size: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=size).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 3, 16, 64, 150])
def test_values_and_log_probabilities_are_those_of_stable_baselines3(
    shape: PolicyShape, rows: int, make_peer: Callable[..., PPO], weights_of: Weights
) -> None:
    model = make_peer(shape)
    ppo = Ppo(shape, weights_of(model))
    observations = normal(rows, shape.observation_size)

    actions, values, log_probs = ppo.act(observations, seed=7, step=3)

    with torch.no_grad():
        expected = model.policy.evaluate_actions(torch.tensor(observations), torch.tensor(actions))
        best = model.policy.get_distribution(torch.tensor(observations)).mode()
    np.testing.assert_allclose(values, expected[0].flatten(), rtol=2e-6, atol=3e-6)
    np.testing.assert_allclose(log_probs, expected[1], rtol=2e-6, atol=1e-5)
    np.testing.assert_array_equal(ppo.values(observations), values)
    np.testing.assert_allclose(ppo.best_actions(observations), best, rtol=2e-6, atol=3e-6)


def test_the_names_and_shapes_are_those_of_stable_baselines3(
    shape: PolicyShape, make_peer: Callable[..., PPO]
) -> None:
    model = make_peer(shape)
    theirs = [(name, tuple(p.shape)) for name, p in model.policy.named_parameters()]
    assert list(shape.tensors.items()) == theirs
    assert list(model.policy.state_dict()) == list(shape.tensors)
    assert shape.parameter_count == sum(p.numel() for p in model.policy.parameters())


def test_weights_come_out_as_they_went_in(
    shape: PolicyShape, make_peer: Callable[..., PPO], weights_of: Weights
) -> None:
    weights = weights_of(make_peer(shape))
    np.testing.assert_array_equal(Ppo(shape, weights).parameters, weights)


def test_every_level_gives_the_same_bits(
    shape: PolicyShape, level: str, make_peer: Callable[..., PPO], weights_of: Weights
) -> None:
    ppo = Ppo(shape, weights_of(make_peer(shape)))
    observations = normal(70, shape.observation_size)
    here = ppo.act(observations, seed=1, step=1 << 40)
    _native.levels.force("v2" if level != "v2" else level)
    for a, b in zip(here, ppo.act(observations, seed=1, step=1 << 40), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_row_draws_the_same_whatever_stands_beside_it() -> None:
    shape = PolicyShape(4, 3, pi=(), vf=())
    ppo = Ppo(shape, np.zeros(shape.parameter_count, np.float32))
    observations = np.zeros((100, 4), np.float32)
    many, _, _ = ppo.act(observations, seed=5, step=9)
    few, _, _ = ppo.act(observations[:37].copy(), seed=5, step=9)
    np.testing.assert_array_equal(many[:37], few)
    assert (ppo.act(observations, seed=5, step=10)[0] != many).any()
    assert (ppo.act(observations, seed=6, step=9)[0] != many).any()


def test_choices_have_the_frequencies_of_their_probabilities() -> None:
    shape = PolicyShape(1, 4, pi=(), vf=())
    logits = np.log(np.array([0.5, 0.25, 0.2, 0.05]))
    weights = np.concatenate([np.zeros(4), logits, np.zeros(2)]).astype(np.float32)
    ppo = Ppo(shape, weights)
    draws = 200_000
    actions, _, _ = ppo.act(np.zeros((draws, 1), np.float32), seed=0, step=0)
    counts = np.bincount(actions.astype(np.int64), minlength=4)
    expected = draws * np.array([0.5, 0.25, 0.2, 0.05])
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 16.3  # 3 degrees of freedom, one run in 1000 beyond


def test_continuous_actions_have_their_mean_deviation_and_independence() -> None:
    size, draws = 6, 100_000
    shape = PolicyShape(1, size, "gaussian", pi=(), vf=())
    log_std = np.linspace(-1.0, 1.0, size)
    means = np.arange(size)
    weights = np.concatenate([log_std, np.zeros(size), means, np.zeros(2)]).astype(np.float32)
    actions, _, _ = Ppo(shape, weights).act(np.zeros((draws, 1), np.float32), seed=0, step=0)
    standardised = (actions - means) / np.exp(log_std)
    limit = 4.5 / np.sqrt(draws)
    assert np.abs(standardised.mean(axis=0)).max() < limit
    assert np.abs(standardised.var(axis=0) - 1.0).max() < 1.5 * limit
    correlations = np.corrcoef(standardised.T) - np.eye(size)
    assert np.abs(correlations).max() < limit
    assert np.abs((standardised**4).mean(axis=0) - 3.0).max() < 10 * limit  # normal, not uniform


def test_an_unlikely_action_stays_possible_and_an_impossible_one_is_not_drawn() -> None:
    shape = PolicyShape(1, 3, pi=(), vf=())
    weights = np.array([0, 0, 0, 0, -200.0, -200.0, 0, 0], np.float32)
    actions, _, log_probs = Ppo(shape, weights).act(np.zeros((1000, 1), np.float32), seed=0, step=0)
    assert (actions == 0).all()
    np.testing.assert_array_equal(log_probs, 0.0)


@pytest.mark.parametrize(
    ("observations", "words"),
    [
        (np.zeros((2, 4)), "observations: must be float32"),
        (np.zeros((2, 5), np.float32), "observations: must have 4 columns"),
        (np.zeros(4, np.float32), "observations: must be float32"),
        (np.zeros((4, 2), np.float32).T, "in C order"),
        (np.full((2, 4), np.nan, np.float32), "observations: every entry must be finite"),
        (np.full((2, 4), -np.inf, np.float32), "observations: every entry must be finite"),
    ],
)
def test_unfit_observations_are_refused(observations: NDArray[np.float32], words: str) -> None:
    shape = PolicyShape(4, 2)
    ppo = Ppo(shape, np.zeros(shape.parameter_count, np.float32))
    for call in (ppo.values, ppo.best_actions, lambda o: ppo.act(o, seed=0, step=0)):
        with pytest.raises((ValueError, TypeError), match=words):
            call(observations)


def test_no_rows_are_no_error() -> None:
    shape = PolicyShape(4, 2)
    ppo = Ppo(shape, np.zeros(shape.parameter_count, np.float32))
    assert [len(a) for a in ppo.act(np.zeros((0, 4), np.float32), seed=0, step=0)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"observation_size": 0}, ValueError),
        ({"observation_size": 4.0}, TypeError),
        ({"action_size": 1}, ValueError),
        ({"pi": (64,) * 5}, ValueError),
        ({"vf": (513,)}, ValueError),
        ({"vf": (0,)}, ValueError),
        ({"activation": "elu"}, ValueError),
        ({"distribution": "bernoulli"}, ValueError),
    ],
)
def test_unfit_shapes_are_refused(changes: dict[str, object], error: type[Exception]) -> None:
    fields: dict[str, object] = {"observation_size": 4, "action_size": 2}
    with pytest.raises(error, match=next(iter(changes))):
        PolicyShape(**(fields | changes))  # type: ignore[arg-type]


def test_parameters_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"parameters: must have 9155 entries .* has 9154"):
        Ppo(PolicyShape(4, 2), np.zeros(9154, np.float32))
