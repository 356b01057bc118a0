"""Evaluation side by side is evaluation one by one."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from provider_image.environments import make_environment
from provider_image.learners import (
    Evaluation,
    TrainingFailed,
    episodes,
    load_learner,
    sb3_evaluation,
)
from provider_image.learners.sb3_environments import training_environment
from provider_image.learners.sb3_models import ModelPlan, build_model
from provider_image.learners.sb3_state import load_model
from provider_image.wire import (
    EnvironmentSpec,
    EvaluateOrder,
    FileRef,
    InitialiseOrder,
    LearnerSpec,
    NormalizeSpec,
    StateRules,
    Tensors,
    TrainOrder,
    WireError,
    WrapperSpec,
)

FILE = FileRef(name="m", sha256="0" * 64, bytes=0)
CARTPOLE = EnvironmentSpec(id="CartPole-v1", n_envs=8)
PPO = LearnerSpec(
    algorithm="ppo",
    hyperparameters={
        "n_steps": 32,
        "batch_size": 256,
        "n_epochs": 20,
        "gamma": 0.98,
        "gae_lambda": 0.8,
        "learning_rate": 1e-3,
    },
)
DQN = LearnerSpec(algorithm="dqn", hyperparameters={"learning_starts": 50})
SAC = LearnerSpec(algorithm="sac", policy_kwargs={"net_arch": [32]})
PENDULUM = EnvironmentSpec(id="Pendulum-v1", frame_stack=2, normalize=NormalizeSpec())
SEEDS = tuple(range(100, 112))


def trained_model(environment: EnvironmentSpec, learner: LearnerSpec, steps: int) -> Tensors:
    """A model trained for some steps (none: fresh)."""
    sb3 = load_learner(learner.algorithm)
    model = sb3.initialise(
        InitialiseOrder(run_id="r", seed=1, environment=environment, learner=learner, output="o")
    ).tensors
    if not steps:
        return model
    order = TrainOrder(
        run_id="r",
        round=0,
        client=0,
        seed=1,
        environment=environment,
        learner=learner,
        local_steps=steps,
        steps_done=0,
        steps_total=steps,
        model=FILE,
        output="o",
    )
    outcome = sb3.train(order, model, None).tensors
    update = {n: t for n, t in outcome.items() if n in model}
    statistics = {
        n.replace("moments/", "normalizer/"): t for n, t in outcome.items() if n not in model
    }
    return {n: t + update[n] for n, t in model.items() if n in update} | statistics


@pytest.fixture(scope="module")
def balancing() -> Tensors:
    """A CartPole policy that holds the pole for a while, not always to the end."""
    return trained_model(CARTPOLE, PPO, 8192)


def evaluated(
    environment: EnvironmentSpec,
    learner: LearnerSpec,
    model: Tensors,
    seeds: tuple[int, ...] = SEEDS,
    deterministic: bool = True,
) -> Evaluation:
    """Evaluate as a worker does."""
    order = EvaluateOrder(
        environment=environment,
        learner=learner,
        model=FILE,
        seeds=seeds,
        deterministic=deterministic,
        output="o",
    )
    return load_learner(learner.algorithm).evaluate(order, model)


def built(environment: EnvironmentSpec, learner: LearnerSpec, tensors: Tensors) -> Any:
    """The model and its normaliser, as plain SB3 objects."""
    venv = training_environment(environment, StateRules())
    model = build_model(ModelPlan(environment, learner, seed=0), venv.outermost)
    load_model(model, tensors, StateRules(), venv.normalizer)
    return model, venv.normalizer


def plain_loop(
    model: BaseAlgorithm, environment: gymnasium.Env[Any, Any], seed: int, normalizer: Any = None
) -> tuple[float, int]:
    """One episode as an SB3 user writes it."""
    observation, _ = environment.reset(seed=seed)
    total, steps, over = 0.0, 0, False
    while not over:
        seen = observation if normalizer is None else normalizer.normalize_obs(observation)
        action, _ = model.predict(seen, deterministic=True)
        observation, reward, terminated, truncated, _ = environment.step(action)
        total, steps, over = total + float(reward), steps + 1, terminated or truncated
    return total, steps


def test_a_trained_policy_scores_what_a_plain_loop_scores(balancing: Tensors) -> None:
    seeds = tuple(range(500, 540))
    evaluation = evaluated(CARTPOLE, PPO, balancing, seeds)
    model, _ = built(CARTPOLE, PPO, balancing)
    expected = [plain_loop(model, gymnasium.make("CartPole-v1"), seed) for seed in seeds]
    assert list(evaluation.returns) == [total for total, _ in expected]
    assert list(evaluation.lengths) == [steps for _, steps in expected]
    assert evaluation.returns.dtype.name == "float64"
    assert evaluation.lengths.dtype.name == "int64"
    assert len(set(evaluation.returns)) > 5


def test_near_ties_are_decided_alone(balancing: Tensors) -> None:
    """With a margin that holds for every row, each is predicted alone: nothing may change."""
    expected = evaluated(CARTPOLE, PPO, balancing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sb3_evaluation, "_SCORE_MARGIN", 1e9)
        alone = evaluated(CARTPOLE, PPO, balancing)
    np.testing.assert_array_equal(alone.returns, expected.returns)


def test_equal_scores_give_the_same_action_as_alone() -> None:
    model = trained_model(CARTPOLE, DQN, 0)
    tied = {n: np.zeros_like(t) for n, t in model.items()}
    np.testing.assert_array_equal(
        evaluated(CARTPOLE, DQN, tied).returns,
        [evaluated(CARTPOLE, DQN, tied, (seed,)).returns[0] for seed in SEEDS],
    )


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_result_belongs_to_its_seed_whatever_else_is_evaluated(
    balancing: Tensors, deterministic: bool
) -> None:
    whole = evaluated(CARTPOLE, PPO, balancing, SEEDS, deterministic)
    shuffled = evaluated(CARTPOLE, PPO, balancing, SEEDS[::-1], deterministic)
    np.testing.assert_array_equal(shuffled.returns[::-1], whole.returns)
    for index in (0, 5):
        single = evaluated(CARTPOLE, PPO, balancing, (SEEDS[index],), deterministic)
        assert single.returns[0] == whole.returns[index]
        assert single.lengths[0] == whole.lengths[index]


def test_more_episodes_than_run_side_by_side(balancing: Tensors) -> None:
    seeds = tuple(range(70))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(episodes, "SIDE_BY_SIDE", 16)
        chunked = evaluated(CARTPOLE, PPO, balancing, seeds)
    np.testing.assert_array_equal(
        chunked.returns, evaluated(CARTPOLE, PPO, balancing, seeds).returns
    )
    assert len(chunked.returns) == 70


def test_continuous_actions_with_frozen_normaliser_and_raw_rewards() -> None:
    model = trained_model(PENDULUM, SAC, 150)
    evaluation = evaluated(PENDULUM, SAC, model, SEEDS[:4])
    sb3, normalizer = built(PENDULUM, SAC, model)
    before = normalizer.obs_rms.mean.copy()
    expected = [
        plain_loop(sb3, make_environment(PENDULUM), seed, normalizer)[0] for seed in SEEDS[:4]
    ]
    assert list(evaluation.returns) == expected
    assert (evaluation.returns < -50).all()
    assert list(evaluation.lengths) == [200] * 4
    np.testing.assert_array_equal(normalizer.obs_rms.mean, before)


def test_the_statistics_matter() -> None:
    model = trained_model(PENDULUM, SAC, 150)
    shifted = model | {"normalizer/observation/mean": model["normalizer/observation/mean"] + 1}
    assert not np.array_equal(
        evaluated(PENDULUM, SAC, shifted, SEEDS[:2]).returns,
        evaluated(PENDULUM, SAC, model, SEEDS[:2]).returns,
    )


def test_evaluation_takes_nothing_from_the_generators_before(balancing: Tensors) -> None:
    first = evaluated(CARTPOLE, PPO, balancing, deterministic=False)
    torch.manual_seed(4321)
    np.random.seed(4321)
    second = evaluated(CARTPOLE, PPO, balancing, deterministic=False)
    np.testing.assert_array_equal(first.returns, second.returns)


def test_an_episode_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "MAX_EPISODE_STEPS", 50)
    environment = EnvironmentSpec(id="Pendulum-v1", kwargs={"max_episode_steps": -1})
    learner = LearnerSpec(algorithm="sac", policy_kwargs={"net_arch": [8]})
    with pytest.raises(TrainingFailed, match="did not end within 50 steps; add the wrapper"):
        evaluated(environment, learner, trained_model(environment, learner, 0), (1,))


@pytest.mark.parametrize("count", [1, 3])
def test_discrete_observations_and_actions_that_are_looked_up(count: int) -> None:
    environment = EnvironmentSpec(id="FrozenLake-v1", kwargs={"is_slippery": False})
    learner = LearnerSpec(algorithm="ppo", policy_kwargs={"net_arch": [8]})
    model = trained_model(environment, learner, 0)
    evaluation = evaluated(environment, learner, model, SEEDS[:count])
    assert (evaluation.lengths <= 100).all()
    assert len(set(evaluation.lengths)) == 1


def test_dictionary_observations() -> None:
    environment = EnvironmentSpec(
        id="CartPole-v1", wrappers=(WrapperSpec("TimeAwareObservation", {"flatten": False}),)
    )
    learner = LearnerSpec(
        algorithm="ppo", policy="MultiInputPolicy", policy_kwargs={"net_arch": [8]}
    )
    model = trained_model(environment, learner, 0)
    together = evaluated(environment, learner, model, SEEDS[:3]).returns
    alone = [evaluated(environment, learner, model, (seed,)).returns[0] for seed in SEEDS[:3]]
    assert list(together) == alone


def test_a_policy_of_huge_numbers_is_an_error_and_not_a_score(balancing: Tensors) -> None:
    huge = {name: np.full_like(tensor, 1e38) for name, tensor in balancing.items()}
    with pytest.raises(TrainingFailed, match="evaluation broke off: ValueError"):
        evaluated(CARTPOLE, PPO, huge)
    with pytest.raises(WireError, match="model: tensors missing"):
        evaluated(CARTPOLE, PPO, {})
