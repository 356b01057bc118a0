"""Training one client for one round: exact steps, exact updates, state by the stated rules."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env

from provider_image.learners import LearnerRefused, TrainingFailed, TrainOutcome, load_learner
from provider_image.wire import (
    Algorithm,
    EnvironmentSpec,
    FileRef,
    InitialiseOrder,
    JsonObject,
    LearnerSpec,
    NormalizeSpec,
    Schedule,
    StateRules,
    Tensors,
    TrainOrder,
    WireError,
    result_specs,
    specs_of,
)

CARTPOLE = EnvironmentSpec(id="CartPole-v1", n_envs=2)
PENDULUM = EnvironmentSpec(id="Pendulum-v1")
NET: JsonObject = {"net_arch": [16]}
OFF_POLICY: JsonObject = {"learning_starts": 10, "batch_size": 16, "buffer_size": 300}
FILE = FileRef(name="m", sha256="0" * 64, bytes=0)


def spec(algorithm: Algorithm, hyperparameters: JsonObject, **fields: Any) -> LearnerSpec:
    """A small learner."""
    return LearnerSpec(
        algorithm=algorithm, hyperparameters=hyperparameters, policy_kwargs=NET, **fields
    )


PPO_SPEC = spec("ppo", {"n_steps": 20, "batch_size": 20, "n_epochs": 2})
SAC_SPEC = spec("sac", OFF_POLICY)
DQN_SPEC = spec("dqn", OFF_POLICY | {"target_update_interval": 20})


def initial(
    environment: EnvironmentSpec, learner: LearnerSpec, rules: StateRules | None = None
) -> Tensors:
    """A fresh model's tensors."""
    order = InitialiseOrder(
        run_id="r",
        seed=5,
        environment=environment,
        learner=learner,
        rules=rules or StateRules(),
        output="o",
    )
    return load_learner(learner.algorithm).initialise(order).tensors


def order_for(environment: EnvironmentSpec, learner: LearnerSpec, **fields: Any) -> TrainOrder:
    """A train order of 40 steps at the start of a run of 400."""
    rules = fields.get("rules", StateRules())
    order = TrainOrder(
        run_id="r",
        round=0,
        client=0,
        seed=9,
        environment=environment,
        learner=learner,
        local_steps=40,
        steps_done=0,
        steps_total=400,
        model=FILE,
        output="o",
    )
    if rules.client_has_state:
        fields["client_state_output"] = "s"
    return msgspec.structs.replace(order, **fields)


def trained(
    environment: EnvironmentSpec,
    learner: LearnerSpec,
    state: Tensors | None = None,
    **fields: Any,
) -> TrainOutcome:
    """Train a fresh model for one round."""
    model = initial(environment, learner, fields.get("rules"))
    order = order_for(environment, learner, **fields)
    return load_learner(learner.algorithm).train(order, model, state)


def bits(tensors: Tensors | None) -> dict[str, bytes]:
    """What must be equal for two results to be the same bit for bit."""
    return {name: tensor.tobytes() for name, tensor in (tensors or {}).items()}


CASES: list[tuple[EnvironmentSpec, LearnerSpec, StateRules]] = [
    (CARTPOLE, PPO_SPEC, StateRules(optimizer="merged")),
    (
        EnvironmentSpec(id="Pendulum-v1", n_envs=2, frame_stack=2, normalize=NormalizeSpec()),
        PPO_SPEC,
        StateRules(),
    ),
    (CARTPOLE, spec("a2c", {"n_steps": 5}), StateRules(optimizer="merged")),
    (CARTPOLE, DQN_SPEC, StateRules(replay="kept")),
    (
        EnvironmentSpec(id="Pendulum-v1", normalize=NormalizeSpec()),
        SAC_SPEC,
        StateRules(optimizer="merged", replay="kept"),
    ),
    (PENDULUM, spec("sac", OFF_POLICY | {"ent_coef": 0.1}), StateRules(optimizer="kept")),
    (
        PENDULUM,
        spec("td3", OFF_POLICY | {"noise_type": "normal", "noise_std": 0.1}),
        StateRules(optimizer="kept", replay="kept"),
    ),
    (PENDULUM, spec("ddpg", OFF_POLICY | {"train_freq": [1, "episode"]}), StateRules()),
]


@pytest.mark.parametrize(("environment", "learner", "rules"), CASES)
def test_a_result_has_the_stated_tensors_and_is_the_same_every_time(
    environment: EnvironmentSpec, learner: LearnerSpec, rules: StateRules
) -> None:
    first = trained(environment, learner, rules=rules)
    model = initial(environment, learner, rules)
    assert specs_of(first.tensors) == result_specs(specs_of(model))
    assert first.steps == 40
    changed = [name for name in model if name.startswith("policy/") and first.tensors[name].any()]
    assert changed
    assert (first.client_state is not None) == rules.client_has_state
    trained(PENDULUM, SAC_SPEC, seed=77)
    second = trained(environment, learner, rules=rules)
    assert bits(second.tensors) == bits(first.tensors)
    assert bits(second.client_state) == bits(first.client_state)
    assert second.metrics == first.metrics
    other = trained(environment, learner, rules=rules, seed=10)
    assert bits(other.tensors) != bits(first.tensors)


def plain_update(model: Any, received: Tensors, seed: int, steps: int) -> Tensors:
    """What SB3 alone makes of the received policy."""
    policy = {n.removeprefix("policy/"): t for n, t in received.items() if n.startswith("policy/")}
    model.policy.load_state_dict({n: torch.from_numpy(t.copy()) for n, t in policy.items()})
    model.set_random_seed(seed)
    model.learn(steps)
    return {
        f"policy/{name}": parameter.numpy() - policy[name]
        for name, parameter in model.policy.state_dict().items()
    }


def test_a_round_over_the_whole_run_is_plain_sb3_bit_for_bit() -> None:
    fields: dict[str, Any] = {"local_steps": 80, "steps_total": 80}
    common: dict[str, Any] = {"seed": 9, "device": "cpu"}
    cases: list[tuple[EnvironmentSpec, LearnerSpec, Any]] = [
        (
            CARTPOLE,
            spec(
                "ppo", PPO_SPEC.hyperparameters, schedules={"clip_range": Schedule("linear", 0.3)}
            ),
            PPO(
                "MlpPolicy",
                make_vec_env("CartPole-v1", 2),
                clip_range=lambda remaining: 0.3 * remaining,
                **PPO_SPEC.hyperparameters,
                policy_kwargs=dict(NET),
                **common,
            ),
        ),
        (
            PENDULUM,
            SAC_SPEC,
            SAC(
                "MlpPolicy",
                make_vec_env("Pendulum-v1", 1),
                policy_kwargs=dict(NET),
                **OFF_POLICY,
                **common,
            ),
        ),
        (
            CARTPOLE,
            DQN_SPEC,
            DQN(
                "MlpPolicy",
                make_vec_env("CartPole-v1", 2),
                **DQN_SPEC.hyperparameters,
                policy_kwargs=dict(NET),
                **common,
            ),
        ),
    ]
    for environment, learner, plain in cases:
        expected = plain_update(plain, initial(environment, learner), seed=9, steps=80)
        result = trained(environment, learner, **fields).tensors
        assert bits({name: result[name] for name in expected}) == bits(expected)


def test_schedules_follow_the_run_and_not_the_round() -> None:
    learner = spec(
        "ppo", PPO_SPEC.hyperparameters, schedules={"learning_rate": Schedule("linear", 1e-3)}
    )
    outcome = trained(CARTPOLE, learner, steps_done=160)
    assert outcome.metrics["train/learning_rate"] == pytest.approx(1e-3 * (1 - 200 / 400))
    assert outcome.metrics["time/total_timesteps"] == 200
    exploring = spec("dqn", OFF_POLICY | {"exploration_fraction": 1.0})
    outcome = trained(CARTPOLE, exploring, steps_done=160)
    assert outcome.metrics["rollout/exploration_rate"] == pytest.approx(1 - 0.95 * 200 / 400)


def test_metrics_have_sb3s_names_and_no_clock() -> None:
    metrics = trained(CARTPOLE, PPO_SPEC, local_steps=400).metrics
    assert {"train/loss", "train/approx_kl", "rollout/ep_rew_mean", "rollout/ep_len_mean"} <= set(
        metrics
    )
    assert not {"time/fps", "time/time_elapsed"} & set(metrics)
    assert all(np.isfinite(value) for value in metrics.values())


def test_episodes_are_counted() -> None:
    warming_up = spec("sac", OFF_POLICY | {"learning_starts": 1000})
    assert trained(PENDULUM, warming_up, local_steps=399).episodes == 1
    assert trained(PENDULUM, warming_up, local_steps=400).episodes == 2


def test_dqns_target_network_is_updated_by_the_runs_steps() -> None:
    """Every 20 steps: not in a round of steps 22 to 38, but in one that contains step 40."""
    target = "policy/q_net_target.q_net.0.weight"
    learner = spec("dqn", OFF_POLICY | {"target_update_interval": 20, "learning_starts": 0})
    within = trained(CARTPOLE, learner, steps_done=20, local_steps=16).tensors
    beyond = trained(CARTPOLE, learner, steps_done=22, local_steps=18).tensors
    assert not within[target].any()
    assert beyond[target].any()


@pytest.mark.parametrize(
    ("environment", "learner", "steps", "message"),
    [
        (CARTPOLE, PPO_SPEC, 50, r"local_steps 50 .* n_steps \* n_envs = 40; use 40 or 80"),
        (CARTPOLE, PPO_SPEC, 10, "use 40$"),
        (CARTPOLE, DQN_SPEC, 41, r"local_steps 41 .* n_envs = 2; use 40 or 42"),
    ],
)
def test_steps_that_cannot_be_taken_exactly_are_refused(
    environment: EnvironmentSpec, learner: LearnerSpec, steps: int, message: str
) -> None:
    with pytest.raises(LearnerRefused, match=message):
        trained(environment, learner, local_steps=steps)


@pytest.mark.parametrize("train_freq", [7, [1, "episode"], [64, "step"]])
def test_off_policy_rounds_end_at_exactly_the_ordered_step(train_freq: Any) -> None:
    learner = spec("sac", OFF_POLICY | {"train_freq": train_freq, "gradient_steps": -1})
    outcome = trained(PENDULUM, learner, rules=StateRules(replay="kept"))
    assert outcome.steps == 40
    assert outcome.client_state is not None
    assert int(outcome.client_state["replay/position"]) == 40
    assert outcome.tensors["policy/actor.mu.weight"].any()


def test_warm_up_counts_from_the_round_if_replay_is_forgotten_else_from_the_run() -> None:
    learner = spec("sac", OFF_POLICY | {"learning_starts": 40})
    kept = StateRules(replay="kept")
    forgotten = trained(PENDULUM, learner, steps_done=40)
    assert not forgotten.tensors["policy/actor.mu.weight"].any()
    first = trained(PENDULUM, learner, rules=kept)
    assert not first.tensors["policy/actor.mu.weight"].any()
    second = trained(PENDULUM, learner, first.client_state, rules=kept, steps_done=40)
    assert second.metrics["train/n_updates"] == 40
    without_state = trained(PENDULUM, learner, rules=kept, steps_done=40)
    assert not without_state.tensors["policy/actor.mu.weight"].any()


def test_a_kept_optimizer_goes_on_where_it_stood() -> None:
    kept = StateRules(optimizer="kept")
    first = trained(CARTPOLE, PPO_SPEC, rules=kept)
    assert first.client_state is not None
    steps = first.client_state["optimizer/policy/0/step"]
    second = trained(CARTPOLE, PPO_SPEC, first.client_state, rules=kept, steps_done=40)
    assert second.client_state is not None
    assert second.client_state["optimizer/policy/0/step"] == 2 * steps
    fresh = trained(CARTPOLE, PPO_SPEC, rules=kept, steps_done=40)
    assert bits(second.tensors) != bits(fresh.tensors)


def test_a_merged_optimizer_travels_with_the_model() -> None:
    merged = StateRules(optimizer="merged")
    model = initial(CARTPOLE, PPO_SPEC, merged)
    learner = load_learner("ppo")
    first = learner.train(order_for(CARTPOLE, PPO_SPEC, rules=merged), model, None)
    model = {name: tensor + first.tensors[name] for name, tensor in model.items()}
    model["optimizer/policy/0/exp_avg_sq"] -= 1  # an average of others may well be negative
    second = learner.train(order_for(CARTPOLE, PPO_SPEC, rules=merged, steps_done=40), model, None)
    name = "optimizer/policy/0/step"
    assert model[name] + second.tensors[name] == 2 * first.tensors[name]
    assert np.isfinite(second.tensors["policy/action_net.weight"]).all()


@pytest.mark.parametrize(
    ("environment", "learner"),
    [
        (CARTPOLE, PPO_SPEC),
        (CARTPOLE, spec("a2c", {"n_steps": 5})),
        (PENDULUM, SAC_SPEC),
        (CARTPOLE, DQN_SPEC),
    ],
    ids=lambda value: getattr(value, "algorithm", ""),
)
def test_hostile_averaged_moments_do_not_wreck_an_honest_client(
    environment: EnvironmentSpec, learner: LearnerSpec
) -> None:
    """One stranger among eight sent the greatest updates that the screen lets through."""
    merged = StateRules(optimizer="merged")
    model = initial(environment, learner, merged)
    for name, tensor in model.items():
        if name.startswith("optimizer/") and not name.endswith("_sq"):
            model[name] = (tensor + np.float32(1e20 / 8)).astype(np.float32)
    order = order_for(environment, learner, rules=merged)
    outcome = load_learner(learner.algorithm).train(order, model, None)
    moved = [t for name, t in outcome.tensors.items() if name.startswith(("policy/", "extra/"))]
    assert max(float(np.abs(tensor).max()) for tensor in moved) < 10


def test_wrong_tensors_are_refused() -> None:
    learner = load_learner("ppo")
    model = initial(CARTPOLE, PPO_SPEC)
    order = order_for(CARTPOLE, PPO_SPEC)
    name = "policy/action_net.bias"
    for wrong, message in (
        ({name: np.zeros(3, np.float32)}, r"model: tensor policy/action_net\.bias is float32\[3\]"),
        ({name: np.full(2, np.nan, np.float32)}, "not finite"),
        ({"policy/extra": np.zeros(1, np.float32)}, "not expected: policy/extra"),
    ):
        with pytest.raises(WireError, match=message):
            learner.train(order, model | wrong, None)
    with pytest.raises(WireError, match="client state: tensors missing: none; not expected: x"):
        learner.train(order, model, {"x": np.zeros(1)})


def test_replay_cannot_be_kept_on_policy() -> None:
    with pytest.raises(LearnerRefused, match=r"rules\.replay: kept has no meaning for ppo"):
        trained(CARTPOLE, PPO_SPEC, rules=StateRules(replay="kept"))


def test_divergence_is_said_and_not_sent() -> None:
    learner = spec("ppo", PPO_SPEC.hyperparameters | {"learning_rate": 1e38})
    with pytest.raises(TrainingFailed, match=r"training broke off: .*lower learning_rate"):
        trained(CARTPOLE, learner, local_steps=400)
    learner = spec("a2c", {"n_steps": 20, "learning_rate": 3e38, "max_grad_norm": 1e9})
    with pytest.raises(TrainingFailed, match=r"training diverged: policy/.* lower learning_rate"):
        trained(CARTPOLE, learner)
