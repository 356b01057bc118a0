"""FedPG-BR and ByzPG as sections `algo`: what reaches the wire, and what does not fit."""

from __future__ import annotations

import pytest

from provider_image.wire import Schedule
from requestor.config import (
    METHODS,
    RunConfig,
    commented_template,
    learner_spec,
    parse_config,
    resolved_yaml,
)
from requestor.errors import ConfigError, UsageError

BASE = """
env: {id: CartPole-v1}
algo: {name: fedpg_br}
federation: {local_steps: 10000}
"""
BYZPG = ("algo={name: byzpg}", "federation.local_steps=25000")


def config(*overrides: str) -> RunConfig:
    return parse_config(BASE, overrides)


def problem(*overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        config(*overrides)
    (line,) = refused.value.problems
    return line


def test_fedpg_br_arrives_as_published() -> None:
    spec = learner_spec(config())
    assert spec.algorithm == "pg"
    assert spec.hyperparameters == {
        "horizon": 500,
        "gamma": 0.999,
        "step_weights": "whitened",
        "squash_logits": True,
        "keeps_previous": False,
    }
    assert spec.schedules == {"learning_rate": Schedule("constant", 1e-3)}
    assert spec.policy_kwargs == {"net_arch": [16, 16], "activation_fn": "relu"}


def test_byzpg_arrives_as_published() -> None:
    spec = learner_spec(config(*BYZPG, "algo.policy_kwargs={activation_fn: tanh}"))
    assert spec.hyperparameters == {
        "horizon": 500,
        "gamma": 0.999,
        "step_weights": "discounted",
        "squash_logits": True,
        "keeps_previous": True,
        "max_ratio": 10.0,
    }
    assert spec.schedules == {"learning_rate": Schedule("constant", 5e-4)}
    assert spec.policy_kwargs == {"net_arch": [16, 16], "activation_fn": "tanh"}


@pytest.mark.parametrize("overrides", [(), BYZPG], ids=["fedpg_br", "byzpg"])
def test_a_resolved_config_is_the_same(overrides: tuple[str, ...]) -> None:
    run = config(*overrides)
    assert parse_config(resolved_yaml(run)) == run


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("federation.local_steps=2048",), "its episodes * algo.horizon = 10000, is 2048"),
        ((*BYZPG, "algo.small_episodes=60"), "= 30000, is 25000"),
        (("algo.least_episodes=21",), "is more than algo.most_episodes, 20"),
        (("env.n_envs=8",), "in an environment of its own"),
        (("env.normalize=true",), "fedpg_br does not normalise"),
        (("federation.optimizer=merged",), "the server takes all steps"),
        (("federation.drift=fedprox",), "the server takes all steps"),
        (("federation.server_optimizer=adam",), "the server takes all steps"),
        (("algo.policy=CnnPolicy",), "CnnPolicy"),
        (("algo.learner=sb3",), "must be one of auto, native"),
        (("federation.aggregation=transfer_best",), "merges directions"),
    ],
)
def test_what_does_not_fit_is_named(overrides: tuple[str, ...], message: str) -> None:
    assert message in problem(*overrides)


def test_the_published_radius_knows_the_episodes_of_each_round() -> None:
    config("federation.aggregation={rule: fedpg_br, sigma: 0.06}")


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_template_is_a_config_that_comes_with_derl(method: str) -> None:
    with pytest.raises(UsageError) as refused:
        commented_template("CartPole-v1", method)
    assert f"configs/{method}.yaml" in str(refused.value.fix)
