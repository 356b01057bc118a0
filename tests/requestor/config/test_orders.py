"""From configs to the wire: everything arrives, and the SB3 learner takes it."""

import msgspec
import pytest
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from provider_image.learners.sb3_environments import training_environment
from provider_image.learners.sb3_models import ModelPlan, build_model
from provider_image.wire import (
    CompressionSpec,
    InitialiseOrder,
    NormalizeSpec,
    Schedule,
    StateRules,
    WrapperSpec,
    decode_order,
    encode_order,
)
from requestor.config import (
    RunConfig,
    commented_template,
    compression_spec,
    environment_spec,
    learner_spec,
    parse_config,
    resolved_yaml,
    state_rules,
)
from requestor.config.algorithms import SB3_ALGORITHMS

ENVIRONMENTS = {"ppo": "CartPole-v1", "a2c": "CartPole-v1", "dqn": "CartPole-v1"}


def config(algo: str, *overrides: str) -> RunConfig:
    template = commented_template(ENVIRONMENTS.get(algo, "Pendulum-v1"), algo)
    return parse_config(template, overrides)


def order(run: RunConfig) -> InitialiseOrder:
    return InitialiseOrder(
        run_id=run.name,
        seed=run.seed,
        environment=environment_spec(run),
        learner=learner_spec(run),
        rules=state_rules(run),
        output="model.safetensors",
    )


def test_the_environment_arrives() -> None:
    spec = environment_spec(
        config(
            "ppo",
            "env.kwargs={sutton_barto_reward: true}",
            "env.wrappers=[{TimeAwareObservation: {flatten: true}}]",
            "env.frame_stack=4",
            "env.normalize={rewards: false, clip_observations: 5}",
            "algo.gamma=0.9",
        )
    )
    assert spec.id == "CartPole-v1"
    assert spec.kwargs == {"sutton_barto_reward": True}
    assert spec.n_envs == 8
    assert spec.wrappers == (WrapperSpec("TimeAwareObservation", {"flatten": True}),)
    assert spec.frame_stack == 4
    assert spec.normalize == NormalizeSpec(rewards=False, clip_observations=5.0, gamma=0.9)
    assert environment_spec(config("ppo")).normalize is None


def test_the_learner_arrives() -> None:
    spec = learner_spec(
        config(
            "ppo",
            "algo.learning_rate={start: 1e-3, end: 1e-4}",
            "algo.clip_range_vf=lin_0.3",
            "algo.policy_kwargs=dict(net_arch=[32], activation_fn=nn.ELU, ortho_init=False)",
        )
    )
    assert spec.algorithm == "ppo"
    assert spec.policy == "MlpPolicy"
    assert spec.schedules == {
        "learning_rate": Schedule("linear", 1e-3, 1e-4),
        "clip_range": Schedule("constant", 0.2),
        "clip_range_vf": Schedule("linear", 0.3, 0.0),
    }
    assert spec.policy_kwargs == {"net_arch": [32], "activation_fn": "elu", "ortho_init": False}
    assert spec.hyperparameters["n_steps"] == 256
    assert spec.hyperparameters["gae_lambda"] == 0.95
    assert not {"name", "policy", "learning_rate", "clip_range"} & set(spec.hyperparameters)


def test_noise_and_train_frequency_arrive() -> None:
    spec = learner_spec(config("td3", "algo.train_freq=[1, episode]"))
    assert spec.hyperparameters["train_freq"] == [1, "episode"]
    assert spec.hyperparameters["noise_type"] == "normal"
    assert spec.hyperparameters["noise_std"] == 0.1
    assert "noise_std" not in learner_spec(config("sac")).hyperparameters


def test_the_rules_arrive() -> None:
    overrides = ("federation.optimizer=merged", "federation.normalizer=frozen")
    assert state_rules(config("sac", *overrides)) == StateRules("merged", "kept", "frozen")


@pytest.mark.parametrize(
    ("given", "spec"),
    [
        ("none", None),
        ("null", None),
        ("{codec: none}", None),
        ("fp16", CompressionSpec("fp16", rounding="nearest")),
        ("int8", CompressionSpec("int8")),
        ("{codec: int8, rounding: nearest}", CompressionSpec("int8", rounding="nearest")),
        (
            "{codec: int4, feedback: true}",
            CompressionSpec("int4", rounding="nearest", feedback=True),
        ),
        ("topk", CompressionSpec("topk", 0.15, "nearest", True)),
        (
            "{codec: topk, fraction: 0.02, feedback: false}",
            CompressionSpec("topk", 0.02, "nearest", False),
        ),
    ],
)
def test_the_compression_arrives(given: str, spec: CompressionSpec | None) -> None:
    run = config("ppo", f"federation.compression={given}")
    assert compression_spec(run) == spec
    again = parse_config(resolved_yaml(run))
    assert compression_spec(again) == spec
    assert compression_spec(config("ppo")) is None


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        ("none", StateRules()),
        ("null", StateRules()),
        ("scaffold", StateRules(drift="scaffold")),
        ("{name: scaffold}", StateRules(drift="scaffold")),
        ("fedprox", StateRules(drift="fedprox", proximal=0.01)),
        ("{fedprox: 0.3}", StateRules(drift="fedprox", proximal=0.3)),
        ("{name: fedprox, proximal: 1}", StateRules(drift="fedprox", proximal=1.0)),
    ],
)
def test_what_holds_clients_together_arrives(given: str, rules: StateRules) -> None:
    run = config("ppo", f"federation.drift={given}")
    assert state_rules(run) == rules
    assert state_rules(parse_config(resolved_yaml(run))) == rules
    encode_order(order(run))


@pytest.mark.parametrize("algo", sorted(SB3_ALGORITHMS))
def test_orders_survive_the_wire(algo: str) -> None:
    sent = order(config(algo, "env.normalize=true"))
    assert decode_order(encode_order(sent)) == sent
    # nothing in it needed a type that JSON has not
    assert msgspec.json.decode(encode_order(sent))["learner"]["algorithm"] == algo


@pytest.mark.parametrize("algo", sorted(SB3_ALGORITHMS))
def test_sb3_takes_every_template(algo: str) -> None:
    sent = order(config(algo, "algo.gamma=0.97", "algo.learning_rate=lin_2e-3"))
    environment = training_environment(sent.environment, sent.rules)
    try:
        plan = ModelPlan(sent.environment, sent.learner, sent.seed)
        model = build_model(plan, environment.outermost)
    finally:
        environment.close()
    assert isinstance(model, OnPolicyAlgorithm | OffPolicyAlgorithm)
    assert model.gamma == 0.97
    assert model.lr_schedule(0.5) == pytest.approx(1e-3)
    if isinstance(model, OffPolicyAlgorithm) and algo in ("td3", "ddpg"):
        assert isinstance(model.action_noise, NormalActionNoise)
