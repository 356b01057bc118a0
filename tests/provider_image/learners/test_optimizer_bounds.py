"""Optimizer states from strangers: honest ones stay bit for bit, others cannot wreck a model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

from provider_image.learners.optimizer_bounds import (
    SLACK,
    Array,
    adam_ratio,
    bounded,
    momentum_limit,
)

BETAS = [(0.9, 0.999), (0.0, 0.999), (0.5, 0.9), (0.9, 0.99999), (0.99, 0.999), (0.0, 0.0)]
MAGNITUDES = st.one_of(st.just(0.0), st.floats(-12, 8).map(lambda power: 10.0**power))
GRADIENTS = st.lists(
    st.lists(
        st.tuples(MAGNITUDES, st.sampled_from([-1, 1])).map(lambda pair: pair[0] * pair[1]),
        min_size=3,
        max_size=3,
    ),
    min_size=1,
    max_size=40,
)
"""float32[T, 3]: wild, with leaps of twenty orders of magnitude and long silences."""


def run(make: Any, gradients: list[list[float]], repeat: int = 1) -> tuple[dict[str, Array], Any]:
    """The real optimizer's state of one parameter after these gradients, and its group."""
    parameter = torch.zeros(3)
    optimizer = make([parameter])
    for gradient in gradients * repeat:
        parameter.grad = torch.tensor(gradient, dtype=torch.float32)
        optimizer.step()
    state = {
        name: torch.as_tensor(value, dtype=torch.float32).numpy().copy()
        for name, value in optimizer.state[parameter].items()
    }
    return state, optimizer.param_groups[0]


def assert_same(state: dict[str, Array], group: Any) -> None:
    held = bounded(state, group)
    assert held.keys() == state.keys()
    for name, value in state.items():
        assert held[name].dtype == np.float32
        assert held[name].tobytes() == value.tobytes(), name


@given(GRADIENTS, st.sampled_from(BETAS), st.booleans(), st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_no_run_of_adam_is_touched_and_none_leaves_the_proven_bound(
    gradients: list[list[float]], betas: tuple[float, float], amsgrad: bool, repeat: int
) -> None:
    def make(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=1e-3, betas=betas, eps=1e-8, amsgrad=amsgrad)

    state, group = run(make, gradients, repeat)
    if not all(np.isfinite(value).all() for value in state.values()):
        return
    assert_same(state, group)
    root = np.sqrt(state["exp_avg_sq"], dtype=np.float64)
    # what is too small to square in float32 has no second moment
    within = np.abs(state["exp_avg"]) <= 1.001 * adam_ratio(*betas) * root + 1e-18
    assert within.all()


@given(st.lists(GRADIENTS, min_size=2, max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_weighted_averages_of_runs_of_adam_are_not_touched(
    clients: list[list[list[float]]], random: Any
) -> None:
    runs = [run(lambda p: torch.optim.Adam(p, eps=1e-8), gradients) for gradients in clients]
    weights = np.array([random.random() + 0.01 for _ in runs])
    weights /= weights.sum()
    merged = {
        name: np.asarray(
            sum(
                w * state[name].astype(np.float64)
                for w, (state, _) in zip(weights, runs, strict=True)
            )
        ).astype(np.float32)
        for name in runs[0][0]
    }
    assert_same(merged, runs[0][1])


@given(
    GRADIENTS,
    st.sampled_from([torch.optim.RMSprop, RMSpropTFLike]),
    st.sampled_from([0.0, 0.5, 0.9]),
)
@settings(max_examples=60, deadline=None)
def test_no_run_of_rmsprop_is_touched(
    gradients: list[list[float]], kind: Any, momentum: float
) -> None:
    state, group = run(lambda p: kind(p, lr=1e-3, momentum=momentum), gradients)
    assert_same(state, group)
    if momentum:
        limit = momentum_limit(group["alpha"], momentum)
        assert (np.abs(state["momentum_buffer"]) <= 1.001 * limit).all()


def test_the_bound_of_adam_is_reached_by_the_gradients_that_cauchy_and_schwarz_name() -> None:
    """g_k ~ (b1/b2)^k, newest first: no smaller ratio would hold."""
    beta1, beta2 = 0.9, 0.999
    ages = np.arange(400.0)
    gradients = (beta1 / beta2) ** ages
    m = (1 - beta1) * np.sum(beta1**ages * gradients)
    v = (1 - beta2) * np.sum(beta2**ages * gradients**2)
    assert m / math.sqrt(v) == pytest.approx(adam_ratio(beta1, beta2), rel=1e-6)
    assert adam_ratio(beta1, beta2) == pytest.approx(7.27, abs=0.01)


def test_betas_under_which_nothing_is_bounded_bound_nothing() -> None:
    assert adam_ratio(0.99, 0.9) == math.inf
    state = {"exp_avg": np.array([1e30], np.float32), "exp_avg_sq": np.zeros(1, np.float32)}
    assert bounded(state, {"betas": (0.99, 0.9), "eps": 1e-8})["exp_avg"] == np.float32(1e30)


def test_what_is_no_run_of_the_optimizer_is_held_within_its_bounds() -> None:
    adam = bounded(
        {
            "step": np.array(-3, np.float32),
            "exp_avg": np.array([1e20, -1e20, 5, 1e30], np.float32),
            "exp_avg_sq": np.array([0, -1, 4, 1e38], np.float32),
        },
        {"betas": (0.9, 0.999), "eps": 1e-5},
    )
    assert adam["step"] == 0
    assert adam["exp_avg_sq"].tolist() == [0, 0, 4, np.float32(1e38)]
    eps = np.float32(SLACK * 1e-5)
    assert adam["exp_avg"].tolist() == [
        eps,
        -eps,
        5,
        np.float32(SLACK * math.sqrt(np.float32(1e38))),
    ]
    rmsprop = bounded(
        {
            "step": np.array(1, np.float32),
            "square_avg": np.array([1, -1], np.float32),
            "momentum_buffer": np.array([1e20, 1], np.float32),
        },
        {"alpha": 0.99, "momentum": 0.5, "eps": 1e-8},
    )
    assert rmsprop["momentum_buffer"].tolist() == pytest.approx([2000, 1])
    assert rmsprop["square_avg"].tolist() == [1, 0]
    centered = bounded(
        {
            "step": np.array(1, np.float32),
            "square_avg": np.array([1e-4, 0, 3e-5], np.float32),
            "grad_avg": np.array([7, 7, 1e-3], np.float32),
        },
        {"alpha": 0.99, "momentum": 0.0, "eps": 1e-8},
    )
    variance = centered["square_avg"] - centered["grad_avg"] ** 2
    assert (variance >= 0).all()
    assert centered["grad_avg"][2] == np.float32(1e-3)


@pytest.mark.parametrize("momentum", [1.0, 1.5])
def test_a_momentum_that_never_ends_has_no_limit(momentum: float) -> None:
    assert momentum_limit(0.99, momentum) == math.inf
