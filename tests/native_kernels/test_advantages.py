"""Advantages and returns: against Stable-Baselines3, against closed forms, refused arguments."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer

from native_kernels import advantages, reference

Trace = tuple[
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.bool_],
    NDArray[np.float32],
    NDArray[np.bool_],
]


def trace(steps: int, environments: int, seed: int) -> Trace:
    random = np.random.default_rng(seed)
    shape = (steps, environments)
    scale = 10.0 ** random.uniform(-3, 3, size=shape)
    return (
        (random.normal(size=shape) * scale).astype(np.float32),
        random.normal(size=shape).astype(np.float32),
        random.random(shape) < 0.1,
        random.normal(size=environments).astype(np.float32),
        random.random(environments) < 0.3,
    )


@pytest.mark.parametrize("environments", [1, 3, 16, 17, 40, 64])
@pytest.mark.parametrize(("gamma", "gae_lambda"), [(0.99, 0.95), (1.0, 1.0), (0.98, 0.8)])
def test_gives_the_bits_of_stable_baselines3(
    level: str, environments: int, gamma: float, gae_lambda: float
) -> None:
    rewards, values, starts, last_values, last_dones = trace(37, environments, environments)
    buffer = RolloutBuffer(
        37,
        spaces.Box(-1, 1, (1,)),
        spaces.Discrete(2),
        "cpu",
        gae_lambda=gae_lambda,
        gamma=gamma,
        n_envs=environments,
    )
    buffer.rewards, buffer.values = rewards, values
    buffer.episode_starts = starts.astype(np.float32)
    buffer.compute_returns_and_advantage(torch.from_numpy(last_values), last_dones)
    found, returns = advantages.generalized_advantages(
        rewards, values, starts, last_values, last_dones, gamma, gae_lambda
    )
    np.testing.assert_array_equal(found.view(np.uint32), buffer.advantages.view(np.uint32))
    np.testing.assert_array_equal(returns.view(np.uint32), buffer.returns.view(np.uint32))


@settings(max_examples=50)
@given(st.integers(0, 9), st.integers(0, 35), st.integers(0, 99), st.floats(0, 1), st.floats(0, 1))
def test_gives_the_bits_of_the_definition(
    steps: int, environments: int, seed: int, gamma: float, gae_lambda: float
) -> None:
    case = trace(steps, environments, seed)
    found = advantages.generalized_advantages(*case, gamma, gae_lambda)
    expected = reference.generalized_advantages(*case, gamma, gae_lambda)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.view(np.uint32), other.view(np.uint32))
    rewards, _, starts, last_values, last_dones = case
    np.testing.assert_array_equal(
        advantages.discounted_returns(rewards, starts, last_values, last_dones, gamma),
        reference.discounted_returns(rewards, starts, last_values, last_dones, gamma),
    )


def test_discounted_returns_of_a_reward_of_one_are_a_geometric_series(level: str) -> None:
    steps, gamma = 200, 0.9
    ones = np.ones((steps, 20), dtype=np.float32)
    starts = np.zeros((steps, 20), dtype=bool)
    starts[150, 7] = True
    last = np.zeros(20, dtype=np.float32)
    returns = advantages.discounted_returns(ones, starts, last, np.zeros(20, dtype=bool), gamma)
    left = np.arange(steps, 0, -1)[:, None] * np.ones((1, 20))
    left[:150, 7] = np.arange(150, 0, -1)
    np.testing.assert_allclose(returns, (1 - gamma**left) / (1 - gamma), rtol=2e-6)


def test_a_value_after_the_end_is_left_out(level: str) -> None:
    one = np.ones((1, 1), dtype=np.float32)
    starts = np.zeros((1, 1), dtype=bool)
    last = np.array([10.0], dtype=np.float32)
    for done, wanted in ((True, 1.0), (False, 6.0)):
        found = advantages.discounted_returns(one, starts, last, np.array([done]), 0.5)
        assert found.tolist() == [[wanted]]
        found, returns = advantages.generalized_advantages(
            one, 3 * one, starts, last, np.array([done]), 0.5, 0.9
        )
        assert found.tolist() == [[wanted - 3.0]]
        assert returns.tolist() == [[wanted]]


def test_nan_stays_in_its_environment() -> None:
    rewards, values, starts, last_values, last_dones = trace(5, 20, 1)
    starts[:] = False
    rewards[3, 4] = np.nan
    found, _ = advantages.generalized_advantages(
        rewards, values, starts, last_values, last_dones, 0.99, 0.95
    )
    assert np.isnan(found[:4, 4]).all()
    found[:4, 4] = 0
    assert np.isfinite(found).all()


R, V, S, LV, LD = trace(4, 3, 0)


@pytest.mark.parametrize(
    ("case", "error", "message"),
    [
        ((R.astype(np.float64), V, S, LV, LD), TypeError, r"rewards: must be float32\[T, B\], is"),
        ((R, V[:3], S, LV, LD), ValueError, r"values: must have the shape of rewards \[4, 3\]"),
        ((R, V, S.astype(np.int8), LV, LD), TypeError, r"episode_starts: must be bool\[T, B\]"),
        ((R, V, S[0], LV, LD), ValueError, r"episode_starts: .* has shape \[3\]"),
        ((R, V, S, LV[:2], LD), ValueError, r"last_values: .*columns \(3\), has 2"),
        ((R, V, S, LV, np.zeros(4, dtype=bool)), ValueError, r"last_dones: .*\(3\), has 4"),
        ((R[:, ::-1], V, S, LV, LD), ValueError, "rewards: .*C order"),
        ((R.T, V, S, LV, LD), ValueError, "rewards: .*C order"),
    ],
)
def test_refuses_unfit_arrays_by_name(case: Trace, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        advantages.generalized_advantages(*case, 0.99, 0.95)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan"), float("inf")])
def test_refuses_factors_out_of_range(bad: float) -> None:
    with pytest.raises(ValueError, match="gamma: must be from 0 to 1"):
        advantages.generalized_advantages(R, V, S, LV, LD, bad, 0.95)
    with pytest.raises(ValueError, match="gae_lambda: must be from 0 to 1"):
        advantages.generalized_advantages(R, V, S, LV, LD, 0.99, bad)
    with pytest.raises(ValueError, match="gamma: must be from 0 to 1"):
        advantages.discounted_returns(R, S, LV, LD, bad)
