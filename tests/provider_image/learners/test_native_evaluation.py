"""Held-out episodes: the same returns as SB3's learner plays with the same weights."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from provider_image.learners import TrainingFailed, episodes, load_learner
from provider_image.wire import (
    EnvironmentSpec,
    EvaluateOrder,
    FileRef,
    InitialiseOrder,
    LearnerSpec,
    NormalizeSpec,
    StateRules,
    Tensors,
    WireError,
    WrapperSpec,
)

LEARNER = LearnerSpec("ppo", policy_kwargs={"net_arch": [16]}, learner="native")
SHORT = WrapperSpec("TimeLimit", {"max_episode_steps": 40})
NORMALISED = EnvironmentSpec("Pendulum-v1", wrappers=(SHORT,), normalize=NormalizeSpec())


def model_of(environment: EnvironmentSpec, scale: float) -> Tensors:
    """SB3's fresh weights, some of them larger, so that actions differ from state to state."""
    order = InitialiseOrder(
        run_id="r", seed=2, environment=environment, learner=LEARNER, output="o"
    )
    tensors = load_learner("ppo").initialise(order).tensors
    for name in tensors:
        if name.startswith("policy/") and name.endswith("weight"):
            tensors[name] = tensors[name] * np.float32(scale)
    if environment.normalize is not None:
        tensors["normalizer/observation/mean"] += 0.25
        tensors["normalizer/observation/var"] *= 2.5
    return tensors


def order_for(environment: EnvironmentSpec, **changes: Any) -> EvaluateOrder:
    """Seven episodes."""
    order = EvaluateOrder(
        environment=environment,
        learner=LEARNER,
        model=FileRef("m", "0" * 64, 0),
        seeds=tuple(range(7)),
        output="o",
    )
    return msgspec.structs.replace(order, **changes)


@pytest.mark.parametrize(
    ("environment", "tolerance"),
    [
        (EnvironmentSpec("CartPole-v1", n_envs=2), 0.0),
        # an action's last bit differs from torch's, and 40 steps carry it on
        (EnvironmentSpec("Pendulum-v1", wrappers=(SHORT,), frame_stack=2), 1e-4),
        (NORMALISED, 1e-4),
    ],
    ids=["cartpole", "stacked", "normalised"],
)
def test_returns_are_those_of_the_sb3_learner(
    environment: EnvironmentSpec, tolerance: float
) -> None:
    model, order = model_of(environment, 3.0), order_for(environment)
    native = load_learner("ppo", "native").evaluate(order, model)
    sb3 = load_learner("ppo").evaluate(order, model)
    np.testing.assert_array_equal(native.lengths, sb3.lengths)
    np.testing.assert_allclose(native.returns, sb3.returns, rtol=0, atol=tolerance)
    assert len(set(native.returns.tolist())) > 1


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("environment", [EnvironmentSpec("CartPole-v1"), NORMALISED])
def test_an_episode_depends_on_its_seed_alone(
    environment: EnvironmentSpec, deterministic: bool
) -> None:
    model, learner = model_of(environment, 1.0), load_learner("ppo", "native")
    order = order_for(environment, deterministic=deterministic, seeds=(5, 4, 3, 5))
    together = learner.evaluate(order, model)
    alone = learner.evaluate(msgspec.structs.replace(order, seeds=(3,)), model)
    assert together.returns[2] == alone.returns[0]
    assert together.returns[0] == together.returns[3]
    assert together.lengths.dtype == np.int64


def test_drawn_actions_differ_from_the_best_ones() -> None:
    environment = EnvironmentSpec("CartPole-v1")
    model, learner = model_of(environment, 3.0), load_learner("ppo", "native")
    best = learner.evaluate(order_for(environment), model)
    drawn = learner.evaluate(order_for(environment, deterministic=False), model)
    assert best.returns.tolist() != drawn.returns.tolist()


def test_an_episode_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "MAX_EPISODE_STEPS", 20)
    environment = EnvironmentSpec("Pendulum-v1")
    with pytest.raises(TrainingFailed, match="did not end within 20 steps; add the wrapper"):
        load_learner("ppo", "native").evaluate(order_for(environment), model_of(environment, 1.0))


def test_wrong_tensors_are_refused() -> None:
    environment = EnvironmentSpec("CartPole-v1")
    model = model_of(environment, 1.0)
    learner = load_learner("ppo", "native")
    with pytest.raises(WireError, match=r"model: tensors missing: policy/action_net\.bias"):
        learner.evaluate(
            order_for(environment),
            {name: t for name, t in model.items() if name != "policy/action_net.bias"},
        )
    merged = order_for(environment, rules=StateRules(optimizer="merged"))
    with pytest.raises(WireError, match=r"tensors missing: optimizer/policy/0/exp_avg,"):
        learner.evaluate(merged, model)
