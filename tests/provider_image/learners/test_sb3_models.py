"""Models from specifications: every algorithm, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.utils import LinearSchedule

from provider_image.learners.base import LearnerRefused
from provider_image.learners.sb3_environments import training_environment
from provider_image.learners.sb3_models import (
    ALGORITHMS,
    ModelPlan,
    build_model,
    replay_capacity,
    schedule_value,
)
from provider_image.wire import Algorithm, EnvironmentSpec, LearnerSpec, Schedule, StateRules

PENDULUM = EnvironmentSpec(id="Pendulum-v1")
CARTPOLE = EnvironmentSpec(id="CartPole-v1", n_envs=2)


def built(environment: EnvironmentSpec, learner: LearnerSpec, **plan: Any) -> Any:
    """A model on a fresh environment."""
    venv = training_environment(environment, StateRules()).outermost
    return build_model(ModelPlan(environment, learner, seed=3, **plan), venv)


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "dqn", "sac", "td3", "ddpg"])
def test_every_algorithm_is_built_as_sb3_builds_it(algorithm: Algorithm) -> None:
    environment = CARTPOLE if algorithm == "dqn" else PENDULUM
    model = built(environment, LearnerSpec(algorithm=algorithm))
    assert type(model) is ALGORITHMS[algorithm]
    sb3_class: Any = ALGORITHMS[algorithm]
    small = {} if algorithm in {"ppo", "a2c"} else {"buffer_size": 1}
    plain = sb3_class("MlpPolicy", environment.id, seed=3, device="cpu", **small)
    for name, parameter in plain.policy.state_dict().items():
        assert torch.equal(parameter, model.policy.state_dict()[name])


def test_the_replay_buffer_is_no_larger_than_planned() -> None:
    spec = LearnerSpec(algorithm="sac")
    assert replay_capacity(spec) == 1_000_000
    assert built(PENDULUM, spec, buffer_steps=70).replay_buffer.buffer_size == 70
    small = LearnerSpec(algorithm="sac", hyperparameters={"buffer_size": 40})
    assert built(PENDULUM, small, buffer_steps=None).replay_buffer.buffer_size == 40


def test_policy_kwargs_come_by_name() -> None:
    spec = LearnerSpec(
        algorithm="ppo",
        policy_kwargs={
            "net_arch": {"pi": [8], "vf": [16, 16]},
            "activation_fn": "relu",
            "optimizer_class": "AdamW",
            "optimizer_kwargs": {"weight_decay": 0.1},
            "log_std_init": -1.0,
        },
    )
    model = built(PENDULUM, spec)
    assert isinstance(model.policy.mlp_extractor.policy_net[1], torch.nn.ReLU)
    assert model.policy.mlp_extractor.value_net[0].out_features == 16
    assert isinstance(model.policy.optimizer, torch.optim.AdamW)
    assert model.policy.log_std.item() == -1.0


def test_action_noise_has_our_form_and_that_of_the_zoo() -> None:
    ours = {"action_noise": {"type": "normal", "std": 0.1}}
    zoo = {"noise_type": "ornstein-uhlenbeck", "noise_std": 0.0}
    for hyperparameters, noise in ((ours, NormalActionNoise), (zoo, OrnsteinUhlenbeckActionNoise)):
        model = built(PENDULUM, LearnerSpec(algorithm="td3", hyperparameters=hyperparameters))
        assert isinstance(model, TD3)
        assert isinstance(model.action_noise, noise)


def test_schedules_are_sb3s_own() -> None:
    assert schedule_value(Schedule("constant", 0.1)) == 0.1
    linear = schedule_value(Schedule("linear", 0.4, 0.2))
    assert isinstance(linear, LinearSchedule)
    assert [linear(remaining) for remaining in (1.0, 0.5, 0.0)] == pytest.approx([0.4, 0.3, 0.2])


def test_progress_is_that_of_the_whole_run() -> None:
    spec = LearnerSpec(
        algorithm="ppo",
        hyperparameters={"n_steps": 8, "batch_size": 8},
        schedules={"learning_rate": Schedule("linear", 1.0), "clip_range": Schedule("linear", 0.2)},
    )
    model = built(CARTPOLE, spec, run_steps_total=1000)
    assert isinstance(model, PPO)
    model._update_current_progress_remaining(250, 16)
    assert model.lr_schedule(model._current_progress_remaining) == pytest.approx(0.75)
    assert model.clip_range(model._current_progress_remaining) == pytest.approx(0.15)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("environment", "spec", "parts"),
    [
        (
            CARTPOLE,
            LearnerSpec(algorithm="ppo", hyperparameters={"n_step": 8}),
            ["hyperparameters.n_step is unknown", "near names: n_steps"],
        ),
        (
            CARTPOLE,
            LearnerSpec(algorithm="ppo", hyperparameters={"device": "cuda"}),
            ["hyperparameters.device is unknown"],
        ),
        (
            CARTPOLE,
            LearnerSpec(algorithm="dqn", schedules={"clip_range": Schedule("constant", 0.1)}),
            ["schedules.clip_range is unknown"],
        ),
        (
            CARTPOLE,
            LearnerSpec(
                algorithm="ppo",
                hyperparameters={"learning_rate": 0.1},
                schedules={"learning_rate": Schedule("constant", 0.1)},
            ),
            ["learning_rate is given as hyperparameter and as schedule"],
        ),
        (
            CARTPOLE,
            LearnerSpec(algorithm="ppo", policy_kwargs={"activation_fn": "tanhh"}),
            ["policy_kwargs.activation_fn 'tanhh' is unknown", "tanh, relu"],
        ),
        (
            CARTPOLE,
            LearnerSpec(algorithm="ppo", policy_kwargs={"net_arc": [8]}),
            ["policy_kwargs.net_arc is unknown", "near names: net_arch"],
        ),
        (
            CARTPOLE,
            LearnerSpec(algorithm="ppo", policy="MlpPolice"),
            ["policy MlpPolice is unknown to ppo", "MlpPolicy"],
        ),
        (
            CARTPOLE,
            LearnerSpec(algorithm="sac"),
            ["sac does not accept environment CartPole-v1", "action spaces"],
        ),
        (
            PENDULUM,
            LearnerSpec(algorithm="dqn"),
            ["dqn does not accept environment Pendulum-v1", "Discrete"],
        ),
        (
            PENDULUM,
            LearnerSpec(algorithm="ppo", hyperparameters={"batch_size": "x"}),
            ["ppo does not accept", "Pendulum-v1"],
        ),
        (
            PENDULUM,
            LearnerSpec(algorithm="ppo", hyperparameters={"noise_type": "normal"}),
            ["hyperparameters.noise_type is unknown"],
        ),
        (
            PENDULUM,
            LearnerSpec(algorithm="sac", hyperparameters={"action_noise": {"type": "pink"}}),
            ["action noise pink", "normal, ornstein-uhlenbeck"],
        ),
    ],
)
def test_what_cannot_be_built_is_named_with_the_fix(
    environment: EnvironmentSpec, spec: LearnerSpec, parts: list[str]
) -> None:
    with pytest.raises(LearnerRefused) as refused:
        built(environment, spec)
    for part in parts:
        assert part in str(refused.value)


def test_sac_with_fixed_entropy_is_built() -> None:
    model = built(PENDULUM, LearnerSpec(algorithm="sac", hyperparameters={"ent_coef": 0.1}))
    assert isinstance(model, SAC)
    assert model.log_ent_coef is None
